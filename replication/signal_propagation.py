"""How the signal of a batch changes from layer to layer: its variance over samples, and the map of wide ReLU networks.

The second moment of a layer's preactivations y, over neurons and samples, has two parts:

    σ² = m² + v²,    m² = ⟨⟨y⟩²⟩ the squared sample mean,    v² = ⟨⟨y²⟩ − ⟨y⟩²⟩ the sample variance

with the inner mean over samples and the outer one over neurons. Initial weights that keep σ² may let v² decay: then the
network hardly tells its inputs apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from replication.checks import check_numbers
from replication.reading.guest import Guest, copied, undisturbed
from replication.rows import power_of_two

AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class SampleVariance:
    """What `sample_variance` finds; printed, a table.

    Attributes:
        layers: names of the layers, in the order in which they are called.
        total: σ² of each layer (layers,).
        squared_mean: m² of each layer (layers,); an unbiased estimate, which may be below 0.
        variance: v² of each layer (layers,).

    >>> print(SampleVariance(("0",), torch.tensor([2.0]), torch.tensor([0.5]), torch.tensor([1.5])))
    layer    total  squared mean  sample variance
    0            2           0.5              1.5
    """

    layers: tuple[str, ...]
    total: Tensor
    squared_mean: Tensor
    variance: Tensor

    def __str__(self) -> str:
        numbers = zip(self.total.tolist(), self.squared_mean.tolist(), self.variance.tolist(), strict=True)
        width = max(5, *map(len, self.layers))
        lines = [f"{'layer':{width}}    total  squared mean  sample variance"]
        lines += [
            f"{name:{width}} {total:8.4g} {mean:13.4g} {variance:16.4g}"
            for name, (total, mean, variance) in zip(self.layers, numbers, strict=True)
        ]
        return "\n".join(lines)

    @property
    def correlation(self) -> Tensor:
        """The mean correlation m²/σ² of two samples in each layer (layers,), NaN where all is zero."""
        return self.squared_mean / self.total


def sample_variance(network: nn.Module, inputs: Tensor, layers: Sequence[str] | None = None) -> SampleVariance:
    """Measure total variance, squared sample mean and sample variance of a network's preactivations, layer by layer.

        σ² = m² + v²,    v² = mean over neurons of the variance over samples

    Every number that a layer makes of a sample counts as one neuron: the pixels of a convolution do. v² and m² are free
    of bias for any number of samples. The network runs once, in the mode in which it is, and is left as it was:
    statistics of batch normalisation do not move.

    Source: Luther and Seung, Sample variance decay in randomly initialized ReLU networks (2019), abstract; paper E3.

    Args:
        network: any module that takes the inputs.
        inputs: a batch of at least two samples (samples, *shape), whose first dimension all layers keep.
        layers: names of the modules whose outputs are measured, as in `network.named_modules()`; None for all linear
            and convolutional layers.

    Returns:
        The three numbers for each call of each layer.

    Raises:
        TypeError: if the network is no module, or the inputs are no tensor of float32 or float64.
        ValueError: if there are fewer than two samples, numbers that are not finite or overflow, or no layer to
            measure; if the network fails on the inputs.

    >>> network = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU())
    >>> network[0].weight.data = torch.tensor([[1.0, 0.0]])
    >>> found = sample_variance(network, torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    >>> found.layers, float(found.total), float(found.squared_mean), float(found.variance)
    (('0',), 5.0, 3.0, 2.0)
    """
    guest = Guest(network)
    check_numbers(inputs=inputs)
    if inputs.ndim < 2 or len(inputs) < 2:
        raise ValueError(f"the inputs must be a batch of at least two samples, not of shape {tuple(inputs.shape)}")
    found: list[tuple[str, Tensor]] = []

    def measure(name: str, module: nn.Module, given: object, made: object) -> None:
        found.append((name, moments_of(name, made, len(inputs))))

    measured = chosen(guest.module, layers)
    with torch.inference_mode(False), torch.no_grad(), undisturbed(guest.module):
        state = {name: copied(tensor) for name, tensor in guest.tensors()}
        hooks = [module.register_forward_hook(partial(measure, name)) for name, module in measured.items()]
        try:
            functional_call(guest.module, state, (copied(inputs),))
        except MeasuringError:
            raise
        except Exception as error:  # whatever the network's own code raises
            said = " ".join(str(error).split())[:200]
            raise ValueError(f"the network fails on these inputs: {type(error).__name__}: {said}") from error
        finally:
            for hook in hooks:
                hook.remove()
    if not found:
        raise ValueError("the network calls none of its layers that are to be measured; name others by layers=")
    names, numbers = zip(*found, strict=True)
    return SampleVariance(names, *torch.stack(numbers).unbind(1))


class MeasuringError(ValueError):
    """Why the output of a layer cannot be measured, in one sentence."""


def chosen(network: nn.Module, layers: Sequence[str] | None) -> dict[str, nn.Module]:
    """Return the modules to be measured by their names.

    Raises:
        ValueError: if there are none, or a name is not known.
        TypeError: if the layers are not named by strings.
    """
    parts = dict(network.named_modules())
    if layers is None:
        found: dict[str, nn.Module] = {name: part for name, part in parts.items() if isinstance(part, AFFINE)}
        if not found:
            raise ValueError("the network has no linear or convolutional layers; name those to measure by layers=")
        return found
    if isinstance(layers, str) or not isinstance(layers, Sequence) or not all(isinstance(one, str) for one in layers):
        raise TypeError(f"layers must be a list of names, not {layers!r}")
    for name in layers:
        if name not in parts:
            raise ValueError(f"the network has no layer {name!r}; see network.named_modules()")
    return {name: parts[name] for name in layers}


def moments_of(name: str, made: object, samples: int) -> Tensor:
    """Return σ², m² and v² (3,) of what a layer makes of a batch.

    Raises:
        MeasuringError: if it is no batch of as many finite numbers, or their squares overflow.
    """
    if not isinstance(made, Tensor) or not made.is_floating_point():
        raise MeasuringError(f"layer {name} does not return a tensor of real numbers; name others by layers=")
    if made.ndim < 2 or len(made) != samples or not made.numel():
        raise MeasuringError(f"layer {name} makes {tuple(made.shape)} of {samples} samples; name others by layers=")
    moments = second_moments(made.flatten(1))
    if not torch.isfinite(moments).all():
        raise MeasuringError(f"layer {name} has outputs that are not finite or too large to square; scale them down")
    return moments


def second_moments(y: Tensor) -> Tensor:
    """Return σ², m² and v² (..., 3) of preactivations y (..., samples, neurons), the last two without bias.

    >>> second_moments(torch.tensor([[1.0], [3.0]]))
    tensor([5., 3., 2.])
    """
    scale = power_of_two(y.detach().abs().amax((-2, -1), keepdim=True))  # so that no square over- or underflows
    y = y / scale
    total = y.square().mean((-2, -1))
    variance = y.var(-2).mean(-1)
    moments = torch.stack((total, total - variance, variance), -1)
    return moments * scale[..., 0].square()


def correlation_map(c: Tensor) -> Tensor:
    """Return the correlation of two inputs' preactivations one ReLU layer on, in a wide network.

        c ↦ (√(1 − c²) + (π − arccos c)·c)/π

    For weights of mean 0 and any variance, in the limit of infinite width, and without biases. Inputs become
    alike: from c = 0 it climbs to its only fixed point 1, with (1 − c)·l² → 9π²/2 after l layers. Its slope is
    1 − arccos(c)/π.

    Source: Cho and Saul, Kernel methods for deep learning (2009), the arc-cosine kernel of order 1; in paper E3
    c = m²/(m² + v²) of `sample_variance`.

    Args:
        c: correlations in [−1, 1], of any shape.

    Returns:
        A tensor like c, in [0, 1].

    Raises:
        TypeError: if c is no tensor of float32 or float64.
        ValueError: if a value lies outside [−1, 1].

    >>> correlation_map(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([0.0000, 0.3183, 1.0000])
    """
    check_numbers(c=c)
    if (c.abs() > 1).any():
        raise ValueError("c must hold correlations, numbers from -1 to 1")
    angle = torch.arccos(c)
    following: Tensor = (((1 - c) * (1 + c)).sqrt() + (torch.pi - angle) * c) / torch.pi
    return following.clamp(0, 1)

"""Paths of bias-free multilayer ReLU networks: a basis under multiplication, and norms that rescaling leaves alone.

A path takes one unit of every layer; its value is the product of the weights along it. Multiplying what enters a
hidden unit by c > 0 and dividing what leaves it by c changes weights, but neither the network nor any path.

Every unit has an inward edge, from the unit of its own number in the layer before, modulo that layer's width, and an
outward edge likewise. Through each weight e from unit i to unit j goes one basis path: inward edges down to the
inputs from i, then e, then outward edges up to the outputs from j,

    p_e = a_i·w_e·b_j.

Through each hidden unit j goes its central path q_j = a_j·b_j, which belongs to its inward and to its outward edge:
of the m weights' paths H are named twice, and no other two are equal, so there are m − H. They generate all paths, as

    value = Π p_e / Π q_j    over the edges e and the hidden units j of the path,

so that only central paths are ever divided by. For hidden layers of one width these are the basis paths of the skeleton
method (Meng and others, G-SGD, ICLR 2019), whose skeleton is the diagonals; the construction is ours for other widths.

Source: Zheng and others, Capacity control of ReLU neural networks by basis-path norm (AAAI 2019): basis paths,
positive and negative ones; what is not in its abstract is recalled or reconstructed (A22).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from replication.checks import check_numbers_finite
from replication.multilayer import Multilayer, check_finite


@dataclass(frozen=True)
class BasisPaths:
    """The basis paths of a network.

    Attributes:
        paths: the units that each takes, in every layer, inputs first (basis, L + 1).
        values: the products of the weights along them (basis,).
        negative: whether paths are divided by it: those through a hidden unit's own inward and outward edge (basis,).
        through: for each layer, which basis path belongs to each weight (d_l, d_{l−1}).
        central: for each hidden layer, which basis path is each unit's central one (d_l,).
    """

    paths: Tensor
    values: Tensor
    negative: Tensor
    through: tuple[Tensor, ...]
    central: tuple[Tensor, ...]

    def factors(self, paths: Tensor) -> tuple[Tensor, Tensor]:
        """Return of which basis paths each path is the product, and by which it is divided.

        Args:
            paths: the units that each takes, inputs first (batch, L + 1).

        Returns:
            Places in the basis (batch, L) and (batch, L − 1).

        Raises:
            TypeError, ValueError: if these are no paths of the network.
        """
        self.check_paths(paths)
        above = [found[paths[:, place + 1], paths[:, place]] for place, found in enumerate(self.through)]
        below = [found[paths[:, place + 1]] for place, found in enumerate(self.central)]
        return torch.stack(above, 1), torch.stack(below, 1) if below else paths.new_zeros(len(paths), 0)

    def rebuild(self, paths: Tensor) -> Tensor:
        """Return the values of any paths from those of the basis alone (batch,).

        Args:
            paths: the units that each takes, inputs first (batch, L + 1).

        Raises:
            TypeError, ValueError: if these are no paths of the network; ValueError too if a path divided by is 0.
        """
        above, below = (self.values[places] for places in self.factors(paths))
        if (below == 0).any():
            raise ValueError("a negative basis path is 0, and paths through its units cannot be rebuilt from the basis")
        ratios = torch.cat([above[:, :1], above[:, 1:] / below], 1)
        return ratios.prod(1)

    def check_paths(self, paths: object) -> None:
        """Refuse what are no paths of the network.

        Raises:
            TypeError: if they are no tensor of whole numbers.
            ValueError: if they have another shape or name units that are not there.
        """
        if not isinstance(paths, Tensor) or paths.dtype != torch.int64:
            raise TypeError("paths must be a torch.Tensor of int64, the units that each takes")
        widths = torch.tensor([self.through[0].shape[1], *map(len, self.through)], device=paths.device)
        if paths.ndim != 2 or paths.shape[1] != len(widths) or not ((paths >= 0) & (paths < widths)).all():
            raise ValueError(f"paths must have the shape (batch, {len(widths)}), with units below {widths.tolist()}")


def basis_paths(network: nn.Module) -> BasisPaths:
    """Return a basis of the paths of a bias-free multilayer ReLU network: as many as weights less hidden units.

    Source: Zheng and others 2019; assumption A22 for the skeleton.

    Args:
        network: an nn.Sequential of nn.Linear(…, bias=False) and nn.ReLU in turn.

    Raises:
        TypeError: if the network is of another kind.
        ValueError: if it has biases or weights that are not finite, or a path overflows.

    >>> network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    >>> basis = basis_paths(network)  # 20 weights less 4 hidden units
    >>> len(basis.values), int(basis.negative.sum())
    (16, 4)
    """
    weights = bias_free(network)
    paths, found = every_edge(weights).unique(dim=0, return_inverse=True)
    values: Tensor = torch.stack([W[paths[:, place + 1], paths[:, place]] for place, W in enumerate(weights)]).prod(0)
    check_finite(values, "the value of a path")
    sizes = [W.numel() for W in weights]
    through = tuple(part.reshape(W.shape) for part, W in zip(found.split(sizes), weights, strict=True))
    central = tuple(places[torch.arange(len(places)), inward(places)] for places in through[:-1])
    negative = torch.zeros(len(paths), dtype=torch.bool, device=paths.device)
    if central:
        negative[torch.cat(central)] = True
    return BasisPaths(paths, values, negative, through, central)


def basis_path_norm(network: nn.Module) -> Tensor:
    """Return the basis-path norm: the largest of |p| over positive and |log|p|| over negative basis paths, a scalar.

    It is infinite where a negative basis path is 0, and differentiable elsewhere. Positive rescaling of hidden units
    leaves it alone; another order of hidden units, which leaves the network alone too, does not: the basis is another.

    Source: Zheng and others 2019, recalled (A22).

    Args:
        network: an nn.Sequential of nn.Linear(…, bias=False) and nn.ReLU in turn.

    Raises:
        TypeError, ValueError: as `basis_paths`.

    >>> network = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> _ = [nn.init.constant_(parameter, 2) for parameter in network.parameters()]
    >>> basis_path_norm(network).item()  # both paths are central, of value 4
    1.3862943649291992
    """
    weights = bias_free(network)
    positive, negative = basis_values(weights)
    check_finite(torch.cat([positive, negative]), "the value of a path")
    return basis_path_norms(positive, negative)


def path_norm(network: nn.Module, order: float = 1.0) -> Tensor:
    """Return the path norm (Σ |value|ᵖ)^{1/p} over all paths, by one forward pass of |W|ᵖ, a scalar; differentiable.

    Neither rescaling nor another order of hidden units changes it.

    Source: Neyshabur, Salakhutdinov and Srebro, Path-SGD (NIPS 2015); a rival in Zheng and others 2019.

    Args:
        network: an nn.Sequential of nn.Linear(…, bias=False) and nn.ReLU in turn.
        order: p, at least 1.

    Raises:
        TypeError: if the network is of another kind, or the order is no number.
        ValueError: if the network has biases or weights that are not finite, the order is below 1, or it overflows.

    >>> network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    >>> _ = [nn.init.constant_(parameter, -3) for parameter in network.parameters()]
    >>> path_norm(network).item(), path_norm(network, 2.0).item()  # four paths of value 9
    (36.0, 18.0)
    """
    check_numbers_finite(order=order)
    if order < 1:
        raise ValueError(f"order must be at least 1, not {order!r}")
    found = path_norms(bias_free(network), order)
    check_finite(found, "the path norm")
    return found


def bias_free(network: object) -> tuple[Tensor, ...]:
    """Return the weights (d_l, d_{l−1}) of a network without biases.

    Raises:
        TypeError, ValueError: as `basis_paths`.
    """
    layers = Multilayer.of(network)
    if layers.has_biases:
        raise ValueError("basis paths are those of a network without biases: make its layers with bias=False")
    return layers.weights


def inward(W: Tensor) -> Tensor:
    """Return from which unit of the layer before each unit's inward edge comes (d_l,), for W (…, d_l, d_{l−1})."""
    return torch.arange(W.shape[-2], device=W.device) % W.shape[-1]


def outward(W: Tensor) -> Tensor:
    """Return to which unit of the layer after each unit's outward edge goes (d_{l−1},), for its W (…, d_l, d_{l−1})."""
    return torch.arange(W.shape[-1], device=W.device) % W.shape[-2]


def every_edge(weights: Sequence[Tensor]) -> Tensor:
    """Return the basis path of every weight (m, L + 1), layer by layer, in the order of the weights' entries."""
    found = []
    for place, W in enumerate(weights):
        heads, tails = torch.meshgrid(*(torch.arange(size, device=W.device) for size in W.shape), indexing="ij")
        units = [tails.flatten(), heads.flatten()]
        for below in reversed(weights[:place]):
            units.insert(0, inward(below)[units[0]])
        for above in weights[place + 1 :]:
            units.append(outward(above)[units[-1]])
        found.append(torch.stack(units, 1))
    return torch.cat(found)


def basis_values(weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the values of all positive basis paths (…, m − H − negative ones) and of all central ones (…, H).

    Central paths that belong to several units appear once for each.

    Args:
        weights: (…, d_l, d_{l−1}), of one network or of many.
    """
    entering = [weights[0].new_ones(weights[0].shape[:-2] + weights[0].shape[-1:])]
    for W in weights[:-1]:
        units = torch.arange(W.shape[-2], device=W.device)
        entering.append(entering[-1][..., inward(W)] * W[..., units, inward(W)])
    leaving = [weights[-1].new_ones(weights[-1].shape[:-1])]
    for W in reversed(weights[1:]):
        units = torch.arange(W.shape[-1], device=W.device)
        leaving.insert(0, leaving[0][..., outward(W)] * W[..., outward(W), units])
    positive = [
        (a[..., None, :] * W * b[..., :, None])[..., ~skeleton(W, first=place == 0, last=place == len(weights) - 1)]
        for place, (a, W, b) in enumerate(zip(entering, weights, leaving, strict=True))
    ]
    central = [a * b for a, b in zip(entering[1:], leaving[:-1], strict=True)]
    return torch.cat(positive, -1), torch.cat(central, -1) if central else positive[0][..., :0]


def skeleton(W: Tensor, first: bool, last: bool) -> Tensor:
    """Return which weights of a layer are a hidden unit's inward or outward edge (d_l, d_{l−1})."""
    marked = torch.zeros(W.shape[-2:], dtype=torch.bool, device=W.device)
    if not last:
        marked[torch.arange(W.shape[-2], device=W.device), inward(W)] = True
    if not first:
        marked[outward(W), torch.arange(W.shape[-1], device=W.device)] = True
    return marked


def basis_path_norms(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the largest of |p| over positive and |log|p|| over negative basis paths (…,)."""
    found = torch.cat([positive.abs(), negative.abs().log().abs()], -1)
    largest: Tensor = found.amax(-1)
    return largest


def path_norms(weights: Sequence[Tensor], order: float) -> Tensor:
    """Return the path norms (…,) of networks with weights (…, d_l, d_{l−1})."""
    sums = weights[0].new_ones(weights[0].shape[:-2] + weights[0].shape[-1:])
    for W in weights:
        sums = (W.abs().pow(order) @ sums[..., None]).squeeze(-1)
    total: Tensor = sums.sum(-1).pow(1 / order)
    return total

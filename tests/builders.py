"""What the tests are made with: units, layers, networks, modules and configurations, each built in one place."""

from __future__ import annotations

import io
import math
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pandas as pd
import torch
from conftest import ROOT
from torch import Tensor, nn

import replication
from replication import (
    CausalConvUnit,
    CausalFlow,
    DeepConvUnit,
    DeepUnit,
    FeedForwardUnit,
    HamiltonianBlock,
    InjectiveConvReLU,
    InjectiveReLU,
    LayerwiseNetwork,
    LeapfrogBlock,
    LipschitzConvUnit,
    MidpointBlock,
    MonotoneCausalConvUnit,
    MonotoneConvUnit,
    PairedReLU,
    RectifierLinear,
    RectifierNetwork,
    ResidualUnit,
    ReversibleLayer,
    ReversibleSequence,
    RevNetBlock,
    StandardConvUnit,
    as_unit,
)
from replication.units import (
    Affine,
    BlockSequence,
    ChannelNormalisation,
    Flip,
    Orthogonal1x1,
    ReversibleBlock,
    SpaceToDepth,
    ZeroChannels,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from replication.experiments.data.images import MNIST, Digits

# dense units


def normal_parameters(h: int, d: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """W₁ (h, d), b₁, W₂ (d, h) and b₂ of normal numbers, in float64."""
    g = torch.Generator().manual_seed(seed)
    W1, b1, W2, b2 = (torch.randn(*shape, dtype=torch.float64, generator=g) for shape in ((h, d), (h,), (d, h), (d,)))
    return W1, b1, W2, b2


def unit_of_norm(h: int, d: int, norm: float, seed: int, dtype: torch.dtype = torch.float64) -> ResidualUnit:
    """A unit with ‖W₁W₂‖ = norm."""
    W1, b1, W2, b2 = normal_parameters(h, d, seed)
    W2 = W2 * norm / torch.linalg.matrix_norm(W1 @ W2, 2)
    return ResidualUnit(*(tensor.to(dtype) for tensor in (W1, b1, W2, b2)))


KINDS = ["normal", "integer", "zero column", "repeated row", "rectangular block"]


def unit_of_kind(kind: str, h: int, d: int, scale: float, seed: int) -> ResidualUnit:
    """A unit of random matrices, or of degenerate ones: with singular minors, zero columns or repeated rows."""
    rng = np.random.default_rng(seed)
    W1, W2 = rng.normal(size=(h, d)), scale * rng.normal(size=(d, h)) / math.sqrt(h * d)
    b1, b2 = rng.normal(size=h), rng.normal(size=d)
    if kind == "integer":
        W1, W2, b1, b2 = (rng.integers(-2, 3, array.shape).astype(float) for array in (W1, W2, b1, b2))
    elif kind == "zero column":
        W2[:, 0] = 0
    elif kind == "repeated row":
        W1[-1], b1[-1] = W1[0], b1[0]
    elif kind == "rectangular block":
        W1, W2 = np.triu(W1), np.triu(W2)
    return ResidualUnit(*(torch.as_tensor(array) for array in (W1, b1, W2, b2)))


def without_biases(W1: Tensor, W2: Tensor) -> ResidualUnit:
    """The unit x + W₂·relu(W₁x), or a batch of them."""
    return ResidualUnit(W1, W1.new_zeros(W1.shape[:-1]), W2, W2.new_zeros(W2.shape[:-1]))


def unit_of_matrix(M: Tensor) -> ResidualUnit:
    """The unit, or the batch of units, with A = M − I and W₁ = I."""
    eye = torch.eye(M.shape[-1], dtype=M.dtype).expand_as(M)
    return without_biases(eye, M - eye)


def triangular(n: int) -> Tensor:
    """Murty's matrix M, ones on the diagonal and twos below: all its minors are 1, and Murty's method may be slow."""
    return torch.tril(torch.full((n, n), 2.0, dtype=torch.float64), -1) + torch.eye(n, dtype=torch.float64)


def cycling(a: float) -> Tensor:
    """A P-matrix for a > 0, on which Newton's method cycles from some starts if a > 1."""
    return torch.tensor([[1, 0, a], [a, 1, 0], [0, a, 1]], dtype=torch.float64)


def folding() -> ResidualUnit:
    """x − 2·relu(x), which is never positive."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return without_biases(one, -2 * one)


def batch_of(units: list[ResidualUnit]) -> ResidualUnit:
    """These units as a batch."""
    return ResidualUnit(*(torch.stack([getattr(u, name).detach() for u in units]) for name in ("W1", "b1", "W2", "b2")))


def arrays_of(unit: ResidualUnit) -> tuple[np.ndarray, ...]:
    """W₁, b₁, W₂ and b₂."""
    return tuple(parameter.detach().numpy() for parameter in (unit.W1, unit.b1, unit.W2, unit.b2))


def images_of(unit: ResidualUnit, rows: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs (batch, d) and the unit's outputs."""
    x = torch.randn(rows, unit.W1.shape[-1], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = x.to(unit.W1.dtype)
    return x, unit(x).detach()


def layer_with_near_parallel_rows(n: int, seed: int, biased: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Small integers, rows of them repeated or turned round, some moved a little, scaled by powers of two, or zero."""
    g = np.random.default_rng(seed)
    W = g.integers(-3, 4, size=(g.integers(1, 7), n)).astype(float)
    again = g.choice([-3.0, -1.0, 1.0, 2.0], size=(len(W), 1)) * W
    moved = np.array([1e-2, 1e-6, 5e-7, 1e-9, 1e-13, 1e-30])[g.integers(0, 6, size=again.shape)]
    again += (g.random(again.shape) < 0.3) * moved * (again == 0 if n == 2 else 0)
    W = np.concatenate([W, again]) * 2.0 ** g.integers(-3, 4, size=(2 * len(W), 1))
    b = biased * g.integers(-2, 3, size=len(W)) / 2
    return torch.tensor(W, dtype=dtype), torch.tensor(b, dtype=dtype)


# convolutional units


def gram_unit(norm: float, dtype: torch.dtype = torch.float64, size: tuple[int, int] = (7, 6)) -> MonotoneConvUnit:
    """A Gram unit whose ‖A‖ is near `norm`."""
    unit = MonotoneConvUnit(6, 9, image_size=size).to(dtype)
    with torch.no_grad():
        unit.weight1 *= (norm / float(unit.rectifier_map((6, *size)).norm_bound.detach())) ** 0.5
        unit.bias1.normal_()
    return unit


def small(unit: nn.Module, share: float = 0.25) -> nn.Module:
    """The unit with all its weights, but not its biases, times `share`."""
    with torch.no_grad():
        for name, parameter in unit.named_parameters():
            if "bias" not in name:
                parameter.mul_(share)
    return unit


def causal_unit(
    g: torch.Generator, channels: int, hidden: int, k: int, size: tuple[int, int], corner: str, scale: float = 1.0
) -> CausalConvUnit:
    """A causal unit with normal taps, whose standard deviation is `scale`, and normal biases, in float64."""
    unit = CausalConvUnit(channels, hidden, k, size, corner).double()
    with torch.no_grad():
        for name, parameter in unit.named_parameters():
            factor = scale if name.startswith("weight") else 1.0
            parameter.copy_(factor * torch.randn(parameter.shape, generator=g, dtype=torch.float64))
    return unit


def monotone_causal_unit(channels: int, hidden: int, scale: float) -> MonotoneCausalConvUnit:
    """A monotone causal unit in float64 whose taps are all `scale` times as large as it is made with."""
    return small(MonotoneCausalConvUnit(channels, hidden).double(), scale)


# what solvers take: one unit of each kind, a contraction, whose float32 weights are the same in float64

HEIGHT, WIDTH, UNITS_IN_BATCH = 4, 5, 4


class TwoLayers(nn.Module):
    """x + third(relu(second(relu(first(x))))) on rows of 3 numbers, as a user writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.branch(x)
        return y


def unit_of_two_layers() -> FeedForwardUnit:
    unit = as_unit(TwoLayers(), torch.randn(4, 3))
    assert isinstance(unit, FeedForwardUnit)
    return unit


def with_biases(unit: nn.Module, size: float = 1.0) -> nn.Module:
    """The unit with normal biases times `size`."""
    with torch.no_grad():
        for name, parameter in unit.named_parameters():
            if name.rpartition(".")[2].startswith("b"):
                parameter.normal_().mul_(size)
    return unit


KINDS_OF_UNITS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: unit_of_norm(4, 3, 0.4, seed=0),
    "batch": lambda: batch_of([unit_of_norm(4, 3, 0.4, seed) for seed in range(UNITS_IN_BATCH)]),
    "zeros": lambda: small(StandardConvUnit(2, 3, image_size=(HEIGHT, WIDTH))),
    "circular": lambda: small(StandardConvUnit(2, 3, image_size=(HEIGHT, WIDTH), padding="circular")),
    "monotone": lambda: small(MonotoneConvUnit(2, 3, image_size=(HEIGHT, WIDTH)), 0.5),
    "causal": lambda: small(CausalConvUnit(2, 3, image_size=(HEIGHT, WIDTH))),
    "feed-forward": lambda: small(unit_of_two_layers(), 0.6),
}
ONE_LAYER = tuple(kind for kind in KINDS_OF_UNITS if kind != "feed-forward")
TAKEN_BY = (
    dict.fromkeys(("exact", "modulus", "newton", "pivoting"), ONE_LAYER)
    | dict.fromkeys(("chebyshev", "newton_cg"), ("monotone",))
    | dict.fromkeys(("jacobi", "newton_substitution", "substitution"), ("causal",))
)  # all other solvers take every kind


def unit_to_solve(kind: str, dtype: torch.dtype = torch.float64, biases: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    return with_biases(KINDS_OF_UNITS[kind]().float(), biases).to(dtype)


def taken(solver: str, kind: str) -> bool:
    """Whether a solver takes units of a kind."""
    return kind in TAKEN_BY.get(solver, KINDS_OF_UNITS)


# one layer of every kind, on images 2×4×4 or rows of 3 numbers

SIZE = {"image_size": (4, 4)}


def reversible(block: Callable[[], ReversibleBlock], sequence: type[BlockSequence]) -> ReversibleLayer:
    return ReversibleLayer(sequence([block(), block()]))


def network_of_all_kinds() -> LayerwiseNetwork:
    return LayerwiseNetwork(
        InjectiveConvReLU(1, 1, **SIZE), reversible(partial(HamiltonianBlock, 2), ReversibleSequence), SpaceToDepth(),
        Orthogonal1x1(8), LipschitzConvUnit(8, 2, image_size=(2, 2)), ChannelNormalisation(8), Flip(),
    )  # fmt: skip


UNITS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: ResidualUnit(torch.randn(2, 3), torch.randn(2), torch.randn(3, 2) / 4, torch.randn(3)),
    "batch": lambda: ResidualUnit(*(torch.randn(shape) / 3 for shape in ((2, 2, 3), (2, 2), (2, 3, 2), (2, 3)))),
    "linear": lambda: RectifierLinear(torch.randn(3, 3) / 4, torch.randn(3)),
    "standard": lambda: StandardConvUnit(2, 3, **SIZE),
    "lipschitz": lambda: LipschitzConvUnit(2, 3, lipschitz=0.5, **SIZE),
    "monotone": lambda: MonotoneConvUnit(2, 3, norm_cap=0.7, **SIZE),
    "monotone circular": lambda: MonotoneConvUnit(2, 3, padding="circular", **SIZE),
    "deep dense": lambda: DeepUnit(*(torch.randn(shape) / 2 for shape in ((4, 3), 4, 2, (3, 2), 3))),
    "deep": lambda: DeepConvUnit(2, 3, **SIZE),
    "deep circular": lambda: DeepConvUnit(2, 3, padding="circular", norm_cap=2.0, **SIZE),
    "causal": lambda: CausalConvUnit(2, 1, **SIZE),
    "causal wide": lambda: CausalConvUnit(2, 3, corner="top-right", **SIZE),
    "monotone causal": lambda: MonotoneCausalConvUnit(2, 3, corner="bottom-right", norm_cap=0.7, **SIZE),
    "feed-forward": unit_of_two_layers,
    "injective": lambda: InjectiveReLU.minimal(torch.randn(3, 3), extra=torch.randn(2, 3)),
    "paired": lambda: PairedReLU(3, 4),
    "injective conv": lambda: InjectiveConvReLU(2, 3, share=0.5, **SIZE),
}
CLOSED: dict[str, Callable[[], nn.Module]] = {  # undone by a formula
    "zero channels": lambda: ZeroChannels(2, 3),
    "space to depth": SpaceToDepth,
    "flip": Flip,
    "affine": lambda: Affine((2, 4, 4)),
    "normalisation": lambda: ChannelNormalisation(2),
    "orthogonal": lambda: Orthogonal1x1(2),
    "hamiltonian": lambda: reversible(partial(HamiltonianBlock, 2), ReversibleSequence),
    "midpoint": lambda: reversible(partial(MidpointBlock, 1, 0.3), BlockSequence),
    "leapfrog": lambda: reversible(partial(LeapfrogBlock, 1, 0.3), ReversibleSequence),
    "revnet": lambda: reversible(partial(RevNetBlock, 2), ReversibleSequence),
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "rectifier network": lambda: RectifierNetwork((1, 4, 4), 3, LipschitzConvUnit, 2, (3,), 1),
    "flow": lambda: CausalFlow((1, 4, 4), partial(MonotoneCausalConvUnit, norm_cap=2.0), (2,), 1),
    "network": network_of_all_kinds,
}
ALL = UNITS | CLOSED | NETWORKS
ROWS = ("dense", "deep dense", "batch", "linear", "feed-forward", "injective", "paired")  # all others take images


def shape_of(name: str) -> tuple[int, ...]:
    """The shape of one input of a layer or network of this name."""
    return (3,) if name in ROWS else (1 if name in NETWORKS else 2, 4, 4)


def built(name: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """The layer or network of this name with numbers of no special kind, in evaluation mode."""
    torch.manual_seed(seed)
    layer = ALL[name]().double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for buffer in layer.buffers():
            if buffer.is_floating_point():
                buffer.add_(torch.rand_like(buffer))
    return layer.to(dtype)


def every_layer() -> dict[str, nn.Module]:
    """One layer or network of every kind in float32, and one with a parametrization of a user's."""
    spectral = nn.utils.parametrizations.spectral_norm(StandardConvUnit(2, 3, image_size=(4, 4)), "weight1")
    return {"a user's parametrization": spectral} | {name: built(name, dtype=torch.float32) for name in ALL}


def given_to(name: str) -> Tensor:
    """Two inputs of a layer or network of this name."""
    return torch.randn(2, *shape_of(name), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def outputs_of(layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """What these layers make of the inputs `given_to` them."""
    return {name: layer(given_to(name)) for name, layer in layers.items()}


@torch.no_grad()
def output_of(layer: nn.Module, x: Tensor) -> Tensor:
    """What the inverse of a layer or network begins with."""
    return (layer.features if hasattr(layer, "features") else layer)(x)


def small_network(unit: Callable[..., nn.Module] = MonotoneConvUnit) -> RectifierNetwork:
    """A network of four units on images 1×8×8, with running statistics, in float64 and evaluation mode."""
    torch.manual_seed(0)
    made = RectifierNetwork((1, 8, 8), 10, unit, hidden=(8, 16), units_per_stage=2)
    made(torch.rand(64, 1, 8, 8))
    return made.double().eval()


def length(v: Tensor) -> Tensor:
    """The norm of every row (batch,) in float64, of rows of any size."""
    rows = v.double().flatten(1)
    largest = rows.abs().amax(1) if rows.numel() else rows.new_zeros(len(rows))
    scale = torch.where(largest > 0, largest, 1.0)
    return scale * (rows / scale[:, None]).norm(dim=1)


PACKAGE = str(Path(replication.__file__).parent)


def assert_one_sentence(error: BaseException) -> None:
    """An error that this package raises itself, in one line that says what to do, and not torch's own."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = last.filename.startswith(PACKAGE) and str(last.line).startswith("raise ")
    assert own, f"{type(error).__name__} from {last.filename}:{last.lineno}: {error}"
    assert "\n" not in str(error)
    assert 20 < len(str(error)) < 500


def said_by_example(name: str, *words: str) -> str:
    """What an example prints, run in this process as by `python examples/name.py words`."""
    said = io.StringIO()
    with mock.patch.object(sys, "argv", [name, *words]), redirect_stdout(said):
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    return said.getvalue()


class Block(nn.Module):
    """A user's module x + second(activation(first(x))), in float64."""

    def __init__(self, first: nn.Module, second: nn.Module, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.branch = nn.Sequential(first, activation or nn.ReLU(), second).double()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def same_tensors(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Whether two state dicts agree to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


# data and configurations: their libraries are loaded where they are asked for, since tests of the library need none


def mnist(folder: Path) -> MNIST:
    from replication.experiments.data.images import MNIST

    return MNIST(str(folder), batch_size=10, epochs=1, seed=0)


def digits(batch_size: int = 10) -> Digits:
    from replication.experiments.data.images import Digits

    return Digits(batch_size=batch_size, epochs=1, seed=0)


CONF = ROOT / "conf"


def composed(name: str, *overrides: str) -> DictConfig:
    """The configuration of an entry point, a copy that may be changed."""
    return deepcopy(composed_once(name, overrides))


@cache
def composed_once(name: str, overrides: tuple[str, ...]) -> DictConfig:
    from hydra import compose, initialize_config_dir

    import replication.experiments.places  # noqa: F401  (which registers the resolver of places)

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def recorded(name: str, *overrides: str) -> dict[str, object]:
    """What a record says of data and settings."""
    from replication.experiments.configuration import as_read, configuration_of

    return {"dataset": "random images", "configuration": as_read(configuration_of(composed(name, *overrides)))}


def options(group: str) -> list[str]:
    """The names of the choices in a group of conf/."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def checks_passed(name: str, table: pd.DataFrame) -> int:
    """How many checks of a claim hold for a table, which all of them measure."""
    from replication.experiments.studies.papers import CLAIMS

    (claim,) = [one for one in CLAIMS if one.name == name]
    deviations = [check.rule.deviation(float(check.measure(table)), check.expected) for check in claim.checks]
    return sum(off <= check.tolerance for off, check in zip(deviations, claim.checks, strict=True))

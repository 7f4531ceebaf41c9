"""Networks of hidden layers that are undone one by one, with a record and a certificate for each."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, cast

import torch
from torch import Tensor, nn

from replication.certificate import Certificate, Verdict, coincide
from replication.checks import all_finite, check_precision, check_rows, check_tensor, neither
from replication.parametrizations import without_graph
from replication.rows import column, residual_scale, row_norm, rows_at_once
from replication.solvers import Solution, Solver, Status
from replication.solvers.solution import CODE, resolve_tolerance
from replication.units import Layer
from replication.words import plain


@dataclass(frozen=True)
class LayerRecord:
    """How one hidden layer was undone: its index and title, the solution, and whether it is that of a formula."""

    index: int
    title: str
    solution: Solution
    closed_form: bool = False


@dataclass(frozen=True)
class LayerCertificate:
    """What is known of one hidden layer.

    Attributes:
        index: of the layer, in forward order.
        title: its kind.
        certificate: its verdict with the evidence; the condition is "formula" for layers in closed form.
        inverse_lipschitz: upper bound of the Lipschitz constant of its inverse, infinite where none is known.
        name: by which the user's model knows it, if it was read off one.
    """

    index: int
    title: str
    certificate: Certificate
    inverse_lipschitz: float
    name: str = ""

    __bool__ = neither("layer.certificate.verdict is Verdict.INVERTIBLE")

    @property
    def label(self) -> str:
        """Its name, or its index, and its title."""
        return f"{self.name or self.index} {self.title}"


def product_of(constants: Sequence[float]) -> float:
    """Return the product of constants ≥ 0 that may under- or overflow on the way, infinite if one is."""
    if not all(map(math.isfinite, constants)):
        return math.inf
    product = math.prod(Fraction(max(constant, sys.float_info.min)) for constant in constants)
    return float(product) if product <= sys.float_info.max else math.inf


@dataclass(frozen=True)
class NetworkCertificate:
    """The certificates of all hidden layers; printed, a table.

    Attributes:
        layers: in forward order.
        witness: two inputs (*shape) of the network with the same output, as for `Certificate`, where a layer folds and
            those before it can be undone; None otherwise.

    >>> from replication import MonotoneConvUnit
    >>> certificate = LayerwiseNetwork(*(MonotoneConvUnit(1, 2, image_size=(4, 4)) for _ in range(2))).certificate()
    >>> certificate.verdict.value, certificate.reason
    ('invertible', 'All 2 hidden layers are invertible.')
    """

    layers: tuple[LayerCertificate, ...]
    witness: tuple[Tensor, Tensor] | None = None

    __bool__ = neither("certificate.verdict is Verdict.INVERTIBLE")

    @property
    def verdict(self) -> Verdict:
        """Invertible if every hidden layer is; not invertible if there are two inputs with the same output.

        Otherwise unknown: inputs that collide in one layer need not be reached by the layers before it.
        """
        if self.witness is not None:
            return Verdict.NOT_INVERTIBLE
        return Verdict.UNKNOWN if self.open_layers else Verdict.INVERTIBLE

    @property
    def open_layers(self) -> list[LayerCertificate]:
        """The layers that are not proved to be invertible, in forward order."""
        return [layer for layer in self.layers if layer.certificate.verdict is not Verdict.INVERTIBLE]

    @property
    def reason(self) -> str:
        """One sentence, which names the layers that are not certified."""
        if self.witness is not None:
            return plain(
                f"Layer {self.open_layers[0].label} takes two of its inputs to one output, and two inputs of the "
                "network reach them."
            )
        if not self.open_layers:
            return f"All {len(self.layers)} hidden layers are invertible."
        named = ", ".join(
            f"{layer.name or layer.index} ({layer.title}: {layer.certificate.verdict.value})"
            for layer in self.open_layers
        )
        return plain(f"Not all hidden layers are certified: {named}.")

    @property
    def inverse_lipschitz(self) -> float:
        """Upper bound of the Lipschitz constant of the whole inverse."""
        return product_of([layer.inverse_lipschitz for layer in self.layers])

    def __str__(self) -> str:
        width = max([22, *(len(layer.label) for layer in self.layers)]) + 2
        lines = [f"{'layer':<{width}}{'verdict':<16}{'condition':<20}{'inverse Lipschitz <=':>20}"]
        for layer in self.layers:
            certificate = layer.certificate
            lines.append(
                f"{layer.label:<{width}}{certificate.verdict.value:<16}"
                f"{certificate.condition or '-':<20}{layer.inverse_lipschitz:>20.4g}"
            )
        lines.append(f"{'network':<{width}}{self.verdict.value:<16}{'':<20}{self.inverse_lipschitz:>20.4g}")
        if self.witness is not None:
            lines.append(self.reason)
        return plain("\n".join(lines))


@dataclass(frozen=True, repr=False)
class NetworkSolution(Solution):
    """A solution of the whole network, whose status is that of the first layer that failed, on the way back.

    Its error bound composes those of the layers: up to the rounding of residuals and formulas, and of the features.

    Attributes: as `Solution`, and
        layers: records of the layers in the order in which they were undone.

    >>> from replication import MonotoneConvUnit
    >>> network = LayerwiseNetwork(*(MonotoneConvUnit(1, 2, image_size=(4, 4)) for _ in range(2))).double()
    >>> solution = network.inverse(torch.ones(3, 1, 4, 4, dtype=torch.float64))
    >>> solution.converged, [record.title for record in solution.layers]
    (tensor([True, True, True]), ['monotone unit', 'monotone unit'])
    """

    layers: tuple[LayerRecord, ...] = field(default=())


class LayerwiseNetwork(nn.Module):
    """A chain of layers, undone one by one from the output of the last.

    Args:
        layers: in forward order.
        names: of the layers, by which certificates show them; by default they are numbered.

    >>> from replication import MonotoneConvUnit
    >>> network = LayerwiseNetwork(MonotoneConvUnit(1, 2), MonotoneConvUnit(1, 3)).double()
    >>> x = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    >>> bool((network.inverse(network.features(x).detach()).value - x).abs().max() < 1e-8)
    True
    """

    names: Sequence[str] = ()

    def __init__(self, *layers: Layer, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.names = tuple(names)
        self.hidden_layers = nn.ModuleList(layers)

    def layer(self, index: int) -> Layer:
        """Return a hidden layer by its index, in forward order."""
        return cast("Layer", self.hidden_layers[index])

    @property
    def units(self) -> Sequence[Layer]:
        """The hidden layers that a solver undoes, in forward order."""
        layers = map(self.layer, range(len(self.hidden_layers)))
        return [layer for layer in layers if not layer.closed_form]

    def features(self, inputs: Tensor) -> Tensor:
        """Return the output of the last hidden layer for inputs (batch, *shape).

        Raises:
            TypeError: if the inputs are no tensor of the network's dtype.
            ValueError: if they have the wrong shape.
        """
        check_tensor(inputs, like=next(self.parameters(), inputs))
        features = inputs
        for layer in self.hidden_layers:
            features = layer(features)
        return features

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the network's output, by default that of the last hidden layer."""
        return self.features(inputs)

    @without_graph
    def inverse(
        self,
        features: Tensor,
        solver: str | Solver = "auto",
        tolerance: float | None = None,
        progress: Callable[[LayerRecord], None] = lambda record: None,
        **options: object,
    ) -> NetworkSolution:
        """Recover inputs from the output of the last hidden layer alone, layer by layer.

        Rows that a layer fails to undo go on with that layer's best point, and keep its status. A row that all layers
        undo has stagnated nevertheless if the whole network's residual is above the root of the tolerance: then the
        features are no output of the network, or the layers amplify rounding too much.

        Args:
            features: as `features` returns them.
            solver, tolerance, options: of every unit, as for its `inverse`.
            progress: called with the record of each layer when it is undone.

        Returns:
            A solution with inputs (batch, *shape); its residual is that of the whole network, and its iterations
            and evaluations are sums over the layers.

        Raises:
            TypeError, ValueError: if the features, the solver, the tolerance or an option do not fit, or the features
                are of another dtype than float32 or float64.
            RuntimeError: in training mode, where normalisation is no map of single images.
        """
        like = next(self.parameters(), features)
        check_tensor(features, like=features)
        check_rows(features, like)
        check_precision(features)
        if features.ndim < 2:
            raise ValueError(f"features must be rows (batch, …), not of shape {tuple(features.shape)}")
        value, codes, bound, records = self.undo(features, solver, tolerance, progress, options)
        rows = rows_at_once(value, features)
        parts = zip(value.split(rows), features.split(rows), strict=True)
        residual = torch.cat([row_norm(self.features(x) - y) for x, y in parts]) / residual_scale(features)
        missed = ~(residual <= resolve_tolerance(tolerance, features.dtype) ** 0.5)
        codes[missed & (codes == CODE[Status.CONVERGED])] = CODE[Status.STAGNATED]
        solutions = [record.solution for record in records if not record.closed_form]
        none = torch.zeros_like(codes)
        return NetworkSolution(
            value,
            codes,
            sum((solution.iterations for solution in solutions), none),
            residual.nan_to_num(nan=torch.inf, posinf=torch.inf),
            sum((solution.evaluations for solution in solutions), none),
            bound,
            ", ".join({solution.solver: None for solution in solutions}),
            layers=tuple(records),
        )

    def undo(
        self,
        value: Tensor,
        solver: str | Solver,
        tolerance: float | None,
        progress: Callable[[LayerRecord], None],
        options: dict[str, Any],
    ) -> tuple[Tensor, Tensor, Tensor | None, list[LayerRecord]]:
        """Return the inputs, the status codes (batch,), the error bounds (batch,) or None, and the records.

        A row that a layer fails to bring back to finite numbers goes on as zeros.
        """
        bound: Tensor | None = value.new_zeros(len(value))
        codes = torch.full((len(value),), CODE[Status.CONVERGED], device=value.device)
        records = []
        for index in reversed(range(len(self.hidden_layers))):
            layer = self.layer(index)
            try:
                solution = layer.inverse(value, solver, tolerance, **options)
            except ValueError as error:
                label = f"{self.names[index] if self.names else index} ({layer.title})"
                raise ValueError(f"layer {label} stands in the way: {error}") from error
            bound = None if bound is None else layer.composed_bound(solution, value, bound)
            value = solution.value
            if not layer.closed_form:  # what a formula leaves of inexact outputs shows in the network's residual
                codes = torch.where(codes == CODE[Status.CONVERGED], solution.codes, codes)
            if not all_finite(value):
                finite = torch.isfinite(value.flatten(1)).all(1)
                value = torch.where(column(finite, value), value, 0)
                codes = torch.where(~finite & (codes == CODE[Status.CONVERGED]), CODE[Status.NOT_FINITE], codes)
                bound = None if bound is None else torch.where(finite, bound, torch.inf)
            records.append(LayerRecord(index, layer.title, solution, layer.closed_form))
            progress(records[-1])
        return value, codes, bound, records

    @without_graph
    def certificate(self) -> NetworkCertificate:
        """Certify every hidden layer; print the result for a table.

        Raises:
            RuntimeError: in training mode, where normalisation is no map of single images.
        """
        rows = []
        for index in range(len(self.hidden_layers)):
            layer = self.layer(index)
            constant, name = float(layer.inverse_lipschitz()), self.names[index] if self.names else ""
            rows.append(LayerCertificate(index, layer.title, layer.certificate(), constant, name))
        certificate = NetworkCertificate(tuple(rows))
        return replace(certificate, witness=self.witness(certificate))

    def witness(self, certificate: NetworkCertificate) -> tuple[Tensor, Tensor] | None:
        """Return two inputs (*shape) with the same output, by those of the first layer that folds.

        They are taken back through the layers before it where these are invertible; None if there is no such layer, or
        if what comes back does not collide in the whole network.
        """
        first = next(iter(certificate.open_layers), None)
        if first is None or first.certificate.witness is None:
            return None
        pair = torch.stack(first.certificate.witness)
        for index in reversed(range(first.index)):
            pair = self.layer(index).inverse(pair, tolerance=16 * torch.finfo(pair.dtype).eps).value
            if not torch.isfinite(pair).all():
                return None
        x1, x2 = pair
        return (x1, x2) if coincide(self.features(x1[None]), self.features(x2[None]), x1, x2) else None

"""Feed-forward maps: compositions of affine maps, element-wise activations and skip connections that keep the shape.

    s = Cx + Bφ(s) + b,    f(x) = Px + Eφ(s) + e        B strictly block lower triangular

s (batch, n) collects the preactivations of all activations φ, in the order in which they are computed. With this,

    f(x) = y  ⇔  s + Aφ(s) = c,    A = CP⁻¹E − B,    c = CP⁻¹(y − e) + b,    x = P⁻¹(y − e − Eφ(s))
    det Df(x) = det P · det(I + AD),    D the diagonal matrix of the slopes at s
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from replication.activations import Activation
from replication.forward_mode import along
from replication.maps.matrices import Matrices

INCREASING = frozenset({  # strictly, although their slopes come near zero
    "asinh", "atan", "celu", "elu", "erf", "logsigmoid", "selu", "sigmoid", "softplus", "softsign", "tanh",
    "tanhshrink",
})  # fmt: skip
LARGEST_ORDER = 4096
CHUNK = 2**22  # numbers at once in a batch of unit vectors


class AffineGraph(Protocol):
    """What is left of a map when its activations are free inputs, and the map itself."""

    def affine(self, x: Tensor, free: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return all preactivations and the output for values φ that are given."""

    def whole(self, x: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return all preactivations and the output for those that belong to x."""


@dataclass(frozen=True)
class ActivationLayer:
    """An activation between two affine maps, for numbers of a certain shape.

    Attributes:
        activation: the element-wise function, of preactivations (batch, *shape).
        shape: of the preactivations of one row.
        place: where it is called, in words.
    """

    activation: Activation
    shape: tuple[int, ...]
    place: str = ""

    @property
    def name(self) -> str:
        """The activation's name."""
        return self.activation.name

    @property
    def alpha(self) -> Tensor:
        """Lower bounds of all difference quotients (*shape)."""
        return self.activation.bounds(self.shape)[0]

    @property
    def beta(self) -> Tensor:
        """Upper bounds of all difference quotients (*shape)."""
        return self.activation.bounds(self.shape)[1]

    @property
    def size(self) -> int:
        """How many preactivations a row has."""
        return int(torch.Size(self.shape).numel())

    def __repr__(self) -> str:
        return f"{self.name} {self.shape}"


@dataclass(frozen=True)
class LinearPart:
    """One of the linear operators C, B, P, E as products with batches; rows are vectors, (batch, *shape) or (batch, n).

    Attributes:
        map: whose part it is.
        source, target: "x" or "phi", and "s" or "y".
    """

    map: FeedForwardMap
    source: str
    target: str

    def __call__(self, v: Tensor) -> Tensor:
        """Return the products with rows v."""
        x, phi = (v, self.map.no_phi(v)) if self.source == "x" else (self.map.no_x(v), v)
        return self.map.product(x, phi)[0 if self.target == "s" else 1]

    def adjoint(self, w: Tensor) -> Tensor:
        """Return the products of the transposed operator with rows w."""
        s, y = (w, self.map.no_x(w)) if self.target == "s" else (self.map.no_phi(w), w)
        return self.map.adjoint(s, y)[0 if self.source == "x" else 1]


@dataclass(frozen=True)
class FeedForwardMap:
    """A feed-forward map, as read off a module.

    All of it is computed in `dtype`, whatever precision the module has; `__call__` is the module itself.

    Attributes:
        module: computes f(x) for x (batch, *shape).
        graph: the same with its activations replaced by free inputs.
        activations: in the order in which they are computed.
        shape: of one input.
        dtype, device: of what is computed.
        eps: the rounding of the least precise numbers on the way, as of float32 in a module that converts to it.
        outer: the activation that makes the output, if one does. Where it is constant f loses information.
    """

    module: Callable[[Tensor], Any] = field(repr=False)
    graph: AffineGraph = field(repr=False)
    activations: tuple[ActivationLayer, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    eps: float
    outer: ActivationLayer | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the module makes of x (batch, *shape), in its own precision."""
        y: Tensor = self.module(x)
        return y

    @property
    def d(self) -> int:
        """Numbers of an input."""
        return int(torch.Size(self.shape).numel())

    @property
    def n(self) -> int:
        """Preactivations of an input."""
        return sum(self.sizes)

    @property
    def sizes(self) -> list[int]:
        """Preactivations of each activation."""
        return [activation.size for activation in self.activations]

    @property
    def alpha(self) -> Tensor:
        """Lower bounds of the difference quotients, (n,)."""
        return self.joined([a.alpha[None].to(self.device) for a in self.activations])[0]

    @property
    def beta(self) -> Tensor:
        """Upper bounds of the difference quotients, (n,)."""
        return self.joined([a.beta[None].to(self.device) for a in self.activations])[0]

    @property
    def departure(self) -> Tensor:
        """Bounds of |torch's activations − those that the bounds are of| (n,), where torch's are not continuous."""
        sizes = [torch.full((1, a.size), a.activation.departure, dtype=self.dtype) for a in self.activations]
        return self.joined(sizes)[0].to(self.device)

    @property
    def C(self) -> LinearPart:
        """The operator from inputs to preactivations."""
        return LinearPart(self, "x", "s")

    @property
    def B(self) -> LinearPart:
        """The operator from activations to later preactivations."""
        return LinearPart(self, "phi", "s")

    @property
    def P(self) -> LinearPart:
        """The operator from inputs to outputs, the shortcut."""
        return LinearPart(self, "x", "y")

    @property
    def E(self) -> LinearPart:
        """The operator from activations to outputs."""
        return LinearPart(self, "phi", "y")

    @property
    def loss(self) -> str:
        """What the activation at the end loses, in one sentence; empty if it loses nothing or there is none."""
        if self.outer is None or self.outer.name in INCREASING:
            return ""
        if not ((self.outer.alpha <= 0) & (self.outer.beta >= 0)).any():
            return ""
        return (
            f"the {self.outer.name} that makes its output ({self.outer.place}) maps different numbers to one, so that "
            "what was there is lost; take the module without it"
        )

    def joined(self, blocks: Sequence[Tensor]) -> Tensor:
        """Return numbers of all activations (batch, *their shapes) as (batch, n)."""
        rows = [block.flatten(1).to(self.dtype) if block.ndim > 1 else block[:, None] for block in blocks]
        return torch.cat(rows, 1) if rows else torch.zeros(1, 0, dtype=self.dtype, device=self.device)

    def split(self, v: Tensor) -> list[Tensor]:
        """Return numbers (batch, n) as one tensor (batch, *its shape) for each activation."""
        pairs = zip(v.split(self.sizes, 1), self.activations, strict=True)
        return [part.unflatten(1, a.shape) if a.shape else part[:, 0] for part, a in pairs]

    def no_x(self, like: Tensor) -> Tensor:
        """Return as many inputs of zeros as `like` has rows."""
        return torch.zeros(len(like), *self.shape, dtype=self.dtype, device=self.device)

    def no_phi(self, like: Tensor) -> Tensor:
        """Return as many rows of n zeros as `like` has."""
        return torch.zeros(len(like), self.n, dtype=self.dtype, device=self.device)

    def affine(self, x: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Return Cx + Bφ + b (batch, n) and Px + Eφ + e (batch, *shape) for any x (batch, *shape) and φ (batch, n)."""
        s, y = self.graph.affine(x.to(self.dtype), self.split(phi))
        return self.with_rows(s, x), y.to(self.dtype)

    def with_rows(self, s: Sequence[Tensor], x: Tensor) -> Tensor:
        """Return the preactivations of rows x joined, also if there are none."""
        return self.joined(s) if s else self.no_phi(x)

    def product(self, x: Tensor, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Return Cx + Bφ (batch, n) and Px + Eφ (batch, *shape)."""
        at = self.no_x(x), self.no_phi(x)
        s, y = along(self.affine, at, (x.to(self.dtype), phi.to(self.dtype)))
        return s, y

    def adjoint(self, s: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return Cᵀs + Pᵀy (batch, *shape) and Bᵀs + Eᵀy (batch, n)."""
        pulled_back = torch.func.vjp(self.affine, self.no_x(y), self.no_phi(y))[1]
        x, phi = pulled_back((s.to(self.dtype), y.to(self.dtype)))
        return x, phi

    def phi(self, s: Tensor) -> Tensor:
        """Return the activations (batch, n) of preactivations s (batch, n)."""
        blocks = [a.activation(part) for a, part in zip(self.activations, self.split(s), strict=True)]
        return self.with_rows(blocks, s)

    @torch.no_grad()
    def preactivations(self, x: Tensor) -> Tensor:
        """Return s (batch, n) at inputs x (batch, *shape)."""
        return self.with_rows(self.graph.whole(self.checked(x))[0], x)

    @torch.no_grad()
    def slopes(self, x: Tensor) -> Tensor:
        """Return the derivatives of the activations (batch, n) at inputs x; those of torch where there is a bend."""
        s = self.preactivations(x)
        slopes: Tensor = along(self.phi, (s,), (torch.ones_like(s),))
        return slopes

    def jacobian_product(self, x: Tensor, v: Tensor) -> Tensor:
        """Return Df(x)v for rows x and v (batch, *shape)."""
        product: Tensor = along(self.output, (self.checked(x),), (self.checked(v),))
        return product

    def jacobian_adjoint(self, x: Tensor, w: Tensor) -> Tensor:
        """Return Df(x)ᵀw for rows x and w (batch, *shape)."""
        product: Tensor = torch.func.vjp(self.output, self.checked(x))[1](self.checked(w))[0]
        return product

    def output(self, x: Tensor) -> Tensor:
        """Return f(x) in `dtype`."""
        return self.graph.whole(self.checked(x))[1].to(self.dtype)

    def checked(self, x: Tensor) -> Tensor:
        """Return inputs in `dtype`.

        Raises:
            ValueError: if their shape is not (batch, *shape).
        """
        if not isinstance(x, Tensor) or x.shape[1:] != self.shape:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"inputs of this map have the shape (batch, *{self.shape}), not {found}")
        return x.to(self.dtype)

    @torch.no_grad()
    def jacobian(self, x: Tensor) -> Tensor:
        """Return Df(x) (batch, d, d) in the order of flattened inputs."""
        identity = torch.eye(self.d, dtype=self.dtype, device=self.device)
        columns = []
        for part in identity.split(max(1, CHUNK // max(1, len(x) * (self.d + self.n)))):
            points = x.repeat_interleave(len(part), 0)
            found = self.jacobian_product(points, part.unflatten(1, self.shape).repeat(len(x), *[1] * len(self.shape)))
            columns.append(found.reshape(len(x), len(part), self.d))
        return torch.cat(columns, 1).mT

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """Return log|det Df(x)| (batch,), −∞ where it is singular."""
        logarithm: Tensor = torch.linalg.slogdet(self.jacobian(x)).logabsdet
        return logarithm

    @torch.no_grad()
    def matrices(self, limit: int = LARGEST_ORDER) -> Matrices:
        """Return the matrices in `dtype`, by products with unit vectors.

        Args:
            limit: of n and d; memory grows as (n + d)².

        Raises:
            ValueError: if the map is larger.
        """
        if max(self.n, self.d) > limit:
            raise ValueError(
                f"the map has {self.d} inputs and {self.n} preactivations, and its matrices are formed up to {limit}; "
                "use products, or raise limit"
            )
        total = self.d + self.n
        columns = []
        for part in torch.eye(total, dtype=self.dtype, device=self.device).split(max(1, CHUNK // total)):
            s, y = self.product(part[:, : self.d].unflatten(1, self.shape), part[:, self.d :])
            columns.append(torch.cat([s, y.flatten(1)], 1))
        whole = torch.cat(columns).mT
        C, B = whole[: self.n].split([self.d, self.n], 1)
        P, E = whole[self.n :].split([self.d, self.n], 1)
        b, e = self.affine(self.no_x(whole[:1]), self.no_phi(whole[:1]))
        return Matrices(C, B, P, E, b[0], e.flatten(), torch.zeros_like(b[0]))

    def equation(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (n, n) and c (batch, n) with f(x) = y ⇔ s + Aφ(s) = c, for y (batch, *shape).

        Raises:
            ValueError: if the map is large or its shortcut singular.
        """
        return self.matrices().equation(y.flatten(1).to(self.dtype))

    def recover(self, s: Tensor, y: Tensor) -> Tensor:
        """Return x = P⁻¹(y − e − Eφ(s)) (batch, *shape) for solutions s (batch, n).

        Raises:
            ValueError: if the map is large or its shortcut singular; large ones with P = I are recovered too.
        """
        _, rest = self.affine(self.no_x(y), self.phi(s))
        right = y.to(self.dtype) - rest
        if self.keeps_input:
            return right
        x: Tensor = torch.linalg.lu_solve(*self.matrices().factors, right.flatten(1).mT)
        return x.mT.reshape(right.shape)

    @cached_property
    def keeps_input(self) -> bool:
        """Whether the shortcut P is the identity, as products with random vectors tell."""
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(2, *self.shape, generator=generator, dtype=self.dtype).to(self.device)
        return bool(torch.equal(self.P(v), v))

"""Units of one's own: from a module y = x + second(relu(first(x))) to its certificate and inverse."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from replication.certificate import Certificate, Verdict
from replication.certification import with_error_bound
from replication.checks import check_numbers, check_rows
from replication.maps import RectifierEquation
from replication.networks.layerwise import NetworkCertificate
from replication.operators import OPPOSITE, SYMMETRIC_PADDINGS, aligned_tap
from replication.reading.affine import Affine, Identity, Kernel, Linear, Matrix, by_channel, common
from replication.reading.affine_functions import CANNOT_CERTIFY
from replication.reading.following import Reading, follow
from replication.reading.general import read
from replication.reading.guest import Guest, UnreadableError
from replication.rows import column, residual_scale, row_norm
from replication.solvers import Solution, Solver, Status
from replication.solvers.newton_gmres import MapEquation
from replication.solvers.solution import CODE, resolve_tolerance
from replication.units.causal import CausalConvUnit
from replication.units.convolutional import StandardConvUnit
from replication.units.feed_forward import FeedForwardUnit, general_solver
from replication.units.rectifier_unit import RectifierUnit
from replication.units.residual import ResidualUnit

GENERAL = "a composition of affine maps, element-wise activations and skip connections"


@torch.no_grad()
def as_unit(module: nn.Module, x: Tensor) -> RectifierUnit | FeedForwardUnit:
    """Read what a module computes as a unit, and hold it against the module on inputs.

    The forward pass is followed function by function, so that it does not matter how the module is written: layers in
    any order, functions, hooks, parametrized or shared weights, in place or not. Two forms are read:

    - x + second(relu(first(x))), with matrices or convolutions of stride 1 that keep the size: a unit of this package,
      for which all solvers and certificates are made. Factors and normalisation in evaluation mode are folded into its
      weights, which rounds those once; later changes of the module do not reach it.
    - every other composition of affine maps, element-wise activations and skip connections that keeps the shape: a
      `FeedForwardUnit`, which is the module itself, read.

    Nothing of the module changes: neither its weights, statistics and mode, nor the random numbers to come.

    Args:
        module: keeps the shape of its input, and acts on every row by itself.
        x: inputs (batch, *shape), which fix the shape and are used for the check.

    Returns:
        The unit, whose `certificate` and `inverse` are the module's.

    Raises:
        TypeError: if the module is no module, or the inputs are no tensor of float32 or float64.
        ValueError: if the module is of neither form, with what stands in the way, or x has values that are not finite.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.first, self.second = nn.Linear(3, 2), nn.Linear(2, 3)
    ...
    ...     def forward(self, x):
    ...         return x + self.second(torch.relu(self.first(x)))
    >>> block, x = Block(), torch.randn(4, 3)
    >>> unit = as_unit(block, x)
    >>> unit.input_shape, bool((unit(x) - block(x)).abs().max() < 1e-5)
    ((3,), True)
    >>> as_unit(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)), x).feed_forward().activations
    (tanh (5,),)
    """
    guest = Guest(module)
    check_numbers(x=x)
    check_rows(x, like=x)
    if x.ndim < 2 or 0 in x.shape[1:]:
        raise ValueError(f"a module is read on inputs (batch, *shape), not {tuple(x.shape)}")
    x = x if len(x) else x.new_zeros(1, *x.shape[1:])
    try:
        return rectifier_unit(guest, x)
    except UnreadableError:
        try:
            found = read(module, x)
        except UnreadableError as error:
            raise UnreadableError(f"the module is not read as {GENERAL}: {error}") from error
    return FeedForwardUnit(module, x, read, guest, found)


def rectifier_unit(guest: Guest, x: Tensor) -> RectifierUnit:
    """Return the unit with one ReLU that a module computes.

    Raises:
        UnreadableError: if it is of another form.
    """
    if x.ndim not in (2, 4):
        raise UnreadableError(f"its inputs are neither (batch, d) nor images, but {tuple(x.shape)}")
    reading = follow(guest, x)
    unit = unit_of(reading, x)
    fresh = random_like(x)
    if not (agree(reading.found, unit(x)) and agree(guest(fresh), unit(fresh))):
        raise UnreadableError(
            "it differs from what was read by more than rounding (it may compute something else at each call, or use a "
            "library that cannot be followed)"
        )
    return unit


@torch.no_grad()
def certify(module: nn.Module, x: Tensor) -> Certificate | NetworkCertificate:
    """Say whether a module or network is invertible: a verdict with its evidence.

    A module that cannot be read has the verdict *unknown*, with what stands in the way.

    Args:
        module: a layer or network of this package, or any module that keeps the shape.
        x: inputs (batch, *shape), which fix the shape; folds are looked for at them.

    Raises:
        TypeError, ValueError: if the module is none, or x has no such shape or is not finite.

    >>> certify(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.randn(3, 2)).verdict.value
    'not invertible'
    """
    own = getattr(module, "certificate", None)
    if callable(own):
        certificate: Certificate | NetworkCertificate = own()
        return certificate
    try:
        return as_unit(module, x).certificate()
    except UnreadableError as error:
        return Certificate(Verdict.UNKNOWN, None, f"{str(error)[0].upper()}{str(error)[1:]}.")


@torch.no_grad()
def invert(
    module: nn.Module, y: Tensor, solver: str | Solver = "auto", tolerance: float | None = None, **options: object
) -> Solution:
    """Recover x from y = module(x), for any module that keeps the shape.

    The residual, the status and the error bound are those of the module itself, evaluated at the values returned. A
    module that `as_unit` cannot read is inverted too, if it acts on every row by itself: by Newton's method on products
    with its Jacobian, without an error bound; a value may then be one of several preimages.

    Args:
        module: as for `as_unit`, or any other that keeps the shape, in evaluation mode.
        y: outputs, of the shape and dtype of the module's inputs.
        solver, tolerance, options: as for `RectifierUnit.inverse`.

    Returns:
        A solution with a status for every row.

    Raises:
        ValueError, TypeError: if the module is no map of single rows, or y, the solver, the tolerance or an option is
            wrong.

    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 3)
    ...
    ...     def forward(self, x):
    ...         return x + self.second(torch.relu(self.first(x)))
    >>> block = Block()
    >>> x = torch.randn(4, 3)
    >>> solution = invert(block, block(x).detach())
    >>> bool(solution.converged.all()), solution.solver
    (True, 'exact')
    """
    guest = Guest(module)
    try:
        unit = as_unit(module, y)
    except UnreadableError as error:
        check_by_rows(guest, y, error)
        equation = MapEquation(guest.differentiable, y, guest)
        return general_solver(solver, **options).solve(equation, resolve_tolerance(tolerance, y.dtype))
    solution = unit.inverse(y, solver, tolerance, **options)
    if isinstance(unit, FeedForwardUnit):
        return solution
    return judged(solution, guest, unit, y, resolve_tolerance(tolerance, y.dtype))


def check_by_rows(guest: Guest, y: Tensor, error: UnreadableError) -> None:
    """Refuse a module that is no map of single rows to rows like them.

    Args:
        guest: the module.
        y: rows (batch, *shape).
        error: why it was not read.
    """
    try:
        whole, *alone = [guest(rows) for rows in (y, *y[:3].split(1))] if len(y) else [guest(y)]
    except ValueError:
        raise error from None
    if not (like(whole, y) and all(like(row, y[:1]) for row in alone)):
        raise error
    if alone and not agree(whole[: len(alone)], torch.cat(alone)):
        if not str(error).endswith(CANNOT_CERTIFY):
            raise error
        raise UnreadableError(f"{error}, and this one not, since each row that it returns depends on others") from error


def like(found: object, y: Tensor) -> bool:
    """Return whether what a module returns is a tensor like its input."""
    return isinstance(found, Tensor) and found.shape == y.shape and found.dtype == y.dtype


def judged(solution: Solution, guest: Guest, unit: RectifierUnit, y: Tensor, tolerance: float) -> Solution:
    """Return a solution with the residual, status and error bound that the module itself gives it."""
    if not len(y):
        return solution
    residual = row_norm(guest(solution.value) - y) / residual_scale(y)
    met = residual <= tolerance
    codes = torch.where(solution.converged, CODE[Status.STAGNATED], solution.codes)
    codes = torch.where(torch.isfinite(residual), codes, CODE[Status.NOT_FINITE])
    codes = torch.where(met & solution.converged, CODE[Status.CONVERGED], codes)
    rows, rectifier_map = unit.rows(y)
    judged_by_module = replace(solution, residual=residual.nan_to_num(nan=torch.inf), codes=codes)
    return with_error_bound(judged_by_module, RectifierEquation(rectifier_map, rows))


def random_like(x: Tensor) -> Tensor:
    """Return random rows like x, of sizes from 10 down to 0.1, which leave the generators as they are."""
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    return (v * column(torch.logspace(1, -1, len(x), dtype=x.dtype), v)).to(x.device)


def agree(found: Tensor, expected: Tensor) -> bool:
    """Return whether two outputs differ by rounding at most, in the rows where both are finite."""
    rows = torch.isfinite(found).flatten(1).all(1) & torch.isfinite(expected).flatten(1).all(1)
    found, expected = found[rows], expected[rows]
    size = 1 + torch.linalg.vector_norm(expected, ord=torch.inf) if expected.numel() else 1
    return bool(((found - expected).abs() <= 1000 * torch.finfo(found.dtype).eps * size).all())


def unit_of(reading: Reading, x: Tensor) -> RectifierUnit:
    """Return the unit that computes what was read.

    Raises:
        UnreadableError: if it is none.
    """
    output = reading.output
    sources = [source for source in output.parts if source > 0]
    if output.parts.get(0) != Identity():
        raise UnreadableError(
            f"its input is not added as it is to what it returns, but {described(output.parts.get(0))}"
        )
    if not sources:
        raise UnreadableError(
            "no ReLU that can be followed lies on the way to what it returns (those of TorchScript, vmap and other "
            "libraries cannot)"
        )
    if len(sources) > 1:
        places = " and ".join(reading.places[source - 1] for source in sources)
        raise UnreadableError(f"two ReLU are added up, {places}; stack their weights in one layer")
    inner, second = reading.rectified[sources[0] - 1], output.parts[sources[0]]
    first = inner.parts[0]
    if x.ndim == 2:
        (W1, W2), d = (matrix_of(part, x) for part in (first, second)), x.shape[1]
        return ResidualUnit(W1, inner.bias, W2, output.bias.reshape(d))
    return convolutional_unit(first, inner, second, output, x)


def described(part: Linear | None) -> str:
    """Say what the shortcut is."""
    if part is None:
        return "not at all"
    return f"times {part.scale:g}" if isinstance(part, Identity) else "by way of a layer"


def matrix_of(part: Linear, x: Tensor) -> Tensor:
    """Return the matrix of a map of rows like x, which the identity keeps as long as they are."""
    if isinstance(part, Identity):
        return part.scale * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    assert isinstance(part, Matrix)
    return part.weight


def kernel_of(part: Linear, channels: int, x: Tensor) -> Kernel:
    """Return the kernel of a map of images."""
    if isinstance(part, Identity):
        return Kernel(part.scale * torch.eye(channels, dtype=x.dtype, device=x.device)[..., None, None])
    assert isinstance(part, Kernel)
    return part


def convolutional_unit(first: Linear, inner: Affine, second: Linear, output: Affine, x: Tensor) -> StandardConvUnit:
    """Return the unit of two convolutions."""
    kernels = square(*common(kernel_of(first, x.shape[1], x), kernel_of(second, inner.shape[0], x)))
    size, padding = kernels[0].weight.shape[-1], padding_name(kernels[0])
    arguments = (x.shape[1], inner.shape[0], size, (x.shape[2], x.shape[3]), padding)
    with torch.random.fork_rng(devices=[]):  # it is drawn at random at first
        unit = StandardConvUnit(*arguments) if padding in SYMMETRIC_PADDINGS else CausalConvUnit(*arguments)
    unit = unit.to(x)
    biases = (by_channel(value.bias, "a constant") for value in (inner, output))
    for name, tensor in zip(
        ("weight1", "weight2", "bias1", "bias2"), (*(kernel.weight for kernel in kernels), *biases), strict=True
    ):
        getattr(unit, name).copy_(tensor)
    return unit


def square(*kernels: Kernel) -> tuple[Kernel, ...]:
    """Return kernels of one size and padding as square ones."""
    left, right, top, bottom = kernels[0].sides
    size = max(left + right, top + bottom)
    if left == right and top == bottom:
        half = size // 2
        return tuple(kernel.grown((half, half, half, half)) for kernel in kernels)
    across = (size, 0) if left else (0, size)
    down = (size, 0) if top else (0, size)
    return tuple(kernel.grown((*across, *down)) for kernel in kernels)


def padding_name(kernel: Kernel) -> str:
    """Return the name by which units know the padding of a square kernel.

    Raises:
        UnreadableError: if it is none that they know.
    """
    left, right, top, bottom = kernel.sides
    size = kernel.weight.shape[-1]
    for name in (kernel.mode, *OPPOSITE):
        row, column = aligned_tap(name, size)
        if (top, left) == (row, column) and (bottom, right) == (size - 1 - row, size - 1 - column):
            return name
    raise UnreadableError(
        "its convolutions are padded by different numbers of points on their sides, but not at one corner only"
    )

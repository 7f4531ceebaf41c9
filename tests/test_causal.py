"""Causal units: one small matrix decides whole images, and three inverses find the one image there is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from builders import causal_unit, cycling, monotone_causal_unit
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import convolution_matrix, exact_minors, forward, preimages
from torch import Tensor

from replication import (
    Banach,
    CausalConvUnit,
    Exact,
    Inverse,
    MonotoneCausalConvUnit,
    RectifierNetwork,
    StandardConvUnit,
    Status,
    Substitution,
    Verdict,
)
from replication.conditions import POSITIVE, p_matrix_test
from replication.experiments.studies.causal_inverses import causal_inverses, random_unit
from replication.experiments.studies.padding import Block, RandomBlocks, padding_sweep
from replication.operators import CORNERS, Product, norm_estimate
from replication.solvers.jacobians import solve_adjoint

SOLVERS = ["substitution", "jacobi", "newton_substitution"]
corners = pytest.mark.parametrize("corner", CORNERS)
solvers = pytest.mark.parametrize("solver", SOLVERS)


def as_matrices(unit: CausalConvUnit, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """W₁, b₁, W₂, b₂ of the unit on images of a size, by the oracle."""
    weight1, weight2 = (kernel.detach().numpy() for kernel in unit.kernels())
    W1, W2 = (convolution_matrix(weight, *size, unit.padding) for weight in (weight1, weight2))
    b1, b2 = (np.repeat(bias.detach().numpy(), size[0] * size[1]) for bias in (unit.bias1, unit.bias2))
    return W1, b1, W2, b2


def relative_errors(value: Tensor, x: Tensor) -> Tensor:
    return (value - x).flatten(1).norm(dim=1) / x.flatten(1).norm(dim=1)


def test_the_test_of_one_pixel_is_that_of_the_whole_matrix_and_its_collisions_collide() -> None:
    g = torch.Generator().manual_seed(5)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=g))

    verdicts = []
    for case in range(500):
        channels, k, size = draw(1, 2), draw(1, 3), (draw(1, 3), draw(2, 3))
        hidden = draw(1, channels)
        unit = causal_unit(g, channels, hidden, k, size, CORNERS[case % 4])
        W1, b1, W2, b2 = as_matrices(unit, size)
        whole = bool(p_matrix_test(torch.as_tensor(W1 @ W2)).signs == POSITIVE)
        row, column = (k - 1 if "top" in unit.padding else 0), (k - 1 if "left" in unit.padding else 0)
        A0 = unit.weight1[:, :, row, column] @ unit.weight2[:, :, row, column]
        assert whole == bool(p_matrix_test(A0.detach()).signs == POSITIVE)
        certificate = unit.certificate()
        assert certificate.verdict is (Verdict.INVERTIBLE if whole else Verdict.NOT_INVERTIBLE)
        verdicts.append(whole)
        if not whole:
            x1, x2 = (x.flatten().numpy() for x in certificate.witness)
            difference = forward(np.stack([x1, x2]), W1, b1, W2, b2)
            size_of_output = np.abs(difference).max()
            assert np.abs(x1 - x2).max() > 1e-3
            np.testing.assert_allclose(difference[0], difference[1], atol=1e-9 * size_of_output)
    assert 50 < sum(verdicts) < 450


@pytest.mark.parametrize("case", range(6))
def test_images_of_certified_units_have_one_preimage_and_of_others_several(case: int) -> None:
    g = torch.Generator().manual_seed(case)
    size = (2, 4)
    unit = causal_unit(g, 1, 1, 2, size, CORNERS[case % 4])
    with torch.no_grad():
        unit.weight2 *= (1 if case < 3 else -4) * torch.sign(unit.weight1.sum() * unit.weight2.sum())
    matrices = as_matrices(unit, size)
    minors = exact_minors(matrices[0], matrices[2])
    certificate = unit.certificate()
    if certificate.verdict is Verdict.INVERTIBLE:
        assert min(minors.values()) > 0
        x = torch.randn(1, 1, *size, generator=g, dtype=torch.float64)
    else:
        assert min(minors.values()) < 0
        x = certificate.witness[0][None]
    found = preimages(unit(x).detach().flatten().numpy(), *matrices)
    assert len(found) == 1 if certificate.verdict is Verdict.INVERTIBLE else len(found) > 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@solvers
@corners
@settings(max_examples=6)  # in each of 24 cases
@given(seed=st.integers(0, 10**6), k=st.integers(1, 4), height=st.integers(1, 6), width=st.integers(1, 6))
def test_every_inverse_brings_every_image_back(
    corner: str, solver: str, dtype: torch.dtype, seed: int, k: int, height: int, width: int
) -> None:
    torch.manual_seed(seed)
    unit = MonotoneCausalConvUnit(3, 4, k, corner=corner).to(dtype)
    x = torch.randn(3, 3, height, width, dtype=dtype)
    tolerance = 50 * torch.finfo(dtype).eps
    solution = unit.inverse(unit(x).detach(), solver, tolerance)
    assert solution.converged.all()
    # what a residual within the tolerance may mean for x
    assert (relative_errors(solution.value, x) <= 4 * tolerance * unit.inverse_condition(x) + 1e-30).all()


def test_pixels_of_order_three_where_newton_cycles_are_left_to_pivoting() -> None:
    a = 1.5  # a P-matrix on which Newton's method cycles from some starts
    A = cycling(a) - torch.eye(3).double()
    unit = CausalConvUnit(3, 3, 2).double()
    with torch.no_grad():
        unit.weight1.mul_(0.2)
        unit.weight2.mul_(0.2)
        unit.weight1[:, :, 1, 1] = torch.eye(3)
        unit.weight2[:, :, 1, 1] = A
    assert unit.certificate().verdict is Verdict.INVERTIBLE
    x = torch.randn(200, 3, 5, 5, dtype=torch.float64)
    y = unit(x).detach()
    assert (relative_errors(unit.inverse(y, "substitution").value, x) <= 1e-9).all()
    assert not unit.inverse(y, "newton_substitution", max_iterations=200).converged.all()


def test_auto_takes_substitution_and_the_others_are_what_they_are_called() -> None:
    unit = MonotoneCausalConvUnit(2, 3).double()
    x = torch.randn(2, 2, 5, 5).double()
    solutions = {solver: unit.inverse(unit(x).detach(), solver) for solver in ("exact", "auto", "newton")}
    taken = {solver: solution.solver for solver, solution in solutions.items()}
    assert taken == {"exact": "exact", "auto": "substitution", "newton": "newton"}
    for solution in solutions.values():
        torch.testing.assert_close(solution.value, x, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="is too large for methods and certificates that take its matrix apart"):
        unit.inverse(torch.zeros(1, 2, 28, 28).double(), "exact")


def test_wrong_corners_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="not 'centre'"):
        CausalConvUnit(2, 3, corner="centre")
    with pytest.raises(ValueError, match="channels must be at least 1, not 0"):
        CausalConvUnit(0, 3)
    with pytest.raises(ValueError, match="a norm_cap needs an image_size"):
        MonotoneCausalConvUnit(2, 3, norm_cap=2.0)
    with pytest.raises(ValueError, match="norm_cap must be positive or None, not -1"):
        MonotoneCausalConvUnit(2, 3, image_size=(4, 4), norm_cap=-1)
    with pytest.raises(ValueError, match="a kernel padded on all sides must have an odd size, not 2"):
        StandardConvUnit(2, 3, kernel_size=2)


def test_a_row_that_fails_leaves_the_others_alone() -> None:
    unit = CausalConvUnit(1, 1, 2).double()
    with torch.no_grad():
        unit.weight1.fill_(1)
        unit.weight2.fill_(0)
        unit.weight2[..., -1, -1] = -2  # x − 2relu(x): nothing is mapped to positive numbers
    y = torch.stack([-torch.ones(1, 3, 3), torch.ones(1, 3, 3)]).double()
    for solver in SOLVERS:
        solution = unit.inverse(y, solver)
        assert solution.status[0] is Status.CONVERGED
        assert solution.status[1] is not Status.CONVERGED
        assert solution.residual[1] > 0.1


def test_outputs_that_are_no_numbers_are_refused_and_overflow_is_said() -> None:
    unit = causal_unit(torch.Generator().manual_seed(0), 2, 2, 3, (40, 40), "top-left", scale=1e4)
    with torch.no_grad():
        unit.weight2[:, :, -1, -1] = unit.weight1[:, :, -1, -1].T
    with pytest.raises(ValueError, match="not finite"):
        unit.inverse(torch.full((1, 2, 4, 4), torch.nan, dtype=torch.float64))
    y = torch.randn(2, 2, 40, 40)
    for solver in ("substitution", "jacobi"):
        solution = unit.float().inverse(y, solver)
        assert all(status in (Status.NOT_FINITE, Status.STAGNATED) for status in solution.status), solver
        assert (solution.residual > 1).all()


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_jacobi_ends_after_as_many_steps_as_there_are_diagonals_whatever_the_taps(scale: float) -> None:
    torch.manual_seed(1)
    unit = monotone_causal_unit(2, 3, scale)
    x = torch.randn(5, 2, 7, 9, dtype=torch.float64)
    y = unit(x).detach()
    solution = unit.inverse(y, "jacobi", tolerance=1e-12)
    assert solution.converged.all()
    assert solution.iterations.max() <= 7 + 9 - 1
    assert (relative_errors(solution.value, x) <= 1e-12 * unit.inverse_condition(x)).all()


@corners
def test_log_determinants_are_those_of_the_whole_jacobian(corner: str) -> None:
    unit = causal_unit(torch.Generator().manual_seed(2), 2, 3, 3, (4, 3), corner, scale=0.5)
    x = torch.randn(5, 2, 4, 3, dtype=torch.float64)
    for image, found in zip(x, unit.log_abs_det_jacobian(x), strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda v: unit(v[None])[0].flatten(), image).reshape(24, 24)
        torch.testing.assert_close(found.detach(), torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-10, atol=1e-10)


def test_log_determinants_are_differentiable_in_the_parameters() -> None:
    unit = MonotoneCausalConvUnit(2, 3, 2).double()
    x = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    names = [name for name, _ in unit.named_parameters()]

    def log_det(*parameters: Tensor) -> Tensor:
        def of_input(x: Tensor) -> Tensor:
            return unit.rectifier_map((2, 3, 3)).log_abs_det_jacobian(x)

        swapped = dict(zip(names, parameters, strict=True))
        with torch.nn.utils.stateless._reparametrize_module(unit, swapped):
            return of_input(x)

    preactivation = unit.rectifier_map((2, 3, 3)).preactivation(x)
    assert preactivation.abs().min() > 1e-4  # no kink within gradcheck's steps of 1e-6
    assert torch.autograd.gradcheck(log_det, tuple(unit.parameters()))


@corners
@pytest.mark.parametrize("family", [CausalConvUnit, MonotoneCausalConvUnit])
def test_inverse_layers_have_the_gradient_of_the_inverse(family: type, corner: str) -> None:
    torch.manual_seed(3)
    unit = family(2, 3, corner=corner).double()
    y = unit(torch.randn(3, 2, 4, 5).double()).detach().requires_grad_()
    assert torch.autograd.gradcheck(Inverse(unit, tolerance=1e-13), [y])


def test_singular_pieces_have_no_gradient() -> None:
    unit = CausalConvUnit(1, 1, 1).double()
    with torch.no_grad():
        unit.weight1.fill_(1)
        unit.weight2.fill_(-1)
    with pytest.raises(RuntimeError, match="singular or nearly so"):
        solve_adjoint(
            unit.rectifier_map((1, 2, 2)), torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 1, 2, 2).double()
        )


@pytest.mark.parametrize("k", [2, 3])
@corners
def test_monotone_causal_units_are_certified_whatever_their_parameters(corner: str, k: int) -> None:
    unit = MonotoneCausalConvUnit(4, 30, k, corner=corner)
    for scale in (1.0, 1e3, 1e-3):
        with torch.no_grad():
            for parameter in unit.parameters():
                parameter.normal_().mul_(scale)
        certificate = unit.certificate()
        assert certificate.verdict is Verdict.INVERTIBLE
        assert certificate.condition in ("triangular", "lipschitz")
    capped = MonotoneCausalConvUnit(4, 30, k, (6, 5), corner, norm_cap=2.0).double()
    with torch.no_grad():
        for parameter in capped.parameters():
            parameter.normal_().mul_(1e3)
    W1, _, W2, _ = as_matrices(capped, (6, 5))
    assert np.linalg.norm(W1, 2) * np.linalg.norm(W2, 2) <= 2.0
    assert capped.rectifier_map((4, 6, 5)).pixel().gram
    assert unit.kernels()[1].shape == (4, 30, k, k)
    assert sum(parameter.numel() for parameter in unit.parameters()) == 2 * 4 * 30 * k**2 - 4 * 30 + 34


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_inverse_condition_is_the_norm_of_the_inverse_jacobian(scale: float) -> None:
    torch.manual_seed(4)
    unit = monotone_causal_unit(2, 3, 3 * scale)
    x = torch.randn(4, 2, 5, 4, dtype=torch.float64)
    y = unit(x).detach()
    for row, estimate in enumerate(unit.inverse_condition(x, iterations=200)):
        jacobian = torch.autograd.functional.jacobian(lambda v: unit(v[None])[0].flatten(), x[row]).reshape(40, 40)
        exact = y[row].norm() / (torch.linalg.svdvals(jacobian)[-1] * x[row].norm())
        assert float(estimate) == pytest.approx(float(exact), rel=1e-3)
        assert estimate <= exact * (1 + 1e-9)


def test_flips_let_every_pixel_see_every_side() -> None:
    def unit(channels: int, hidden: int, image_size: tuple[int, int]) -> CausalConvUnit:
        return MonotoneCausalConvUnit(channels, hidden, image_size=image_size)

    seen = {}
    for flips in (False, True):
        torch.manual_seed(0)
        network = RectifierNetwork((1, 14, 14), 10, unit, 4, (8,), 2, flips).eval()
        with torch.no_grad():
            for part in network.units:
                part.bias1.fill_(5.0)  # all active, so that no path is cut
        x = torch.randn(1, 1, 14, 14)
        moved = network.features(x + torch.nn.functional.pad(torch.ones(1, 1, 2, 2), (6, 6, 6, 6)))
        seen[flips] = (moved - network.features(x)).abs().sum(1)[0] > 1e-6
    assert not seen[False][:3].any()
    assert not seen[False][:, :3].any()
    centre = seen[True][1:6, 1:6]  # the pixel in the middle, two above and below, and two to each side
    assert centre.all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("scale", [2.0, 24.0])
def test_large_images_come_back_as_far_as_their_measured_condition_allows(size: int, scale: float) -> None:
    torch.manual_seed(size)
    unit = MonotoneCausalConvUnit(16, 32, image_size=(size, size)).double()
    with torch.no_grad():
        unit.weight1 *= math.sqrt(scale)
        unit.taps2 *= math.sqrt(scale)
    rectifier_map = unit.rectifier_map(unit.input_shape)
    assert norm_estimate(Product(rectifier_map.W1, rectifier_map.W2)) >= 5
    assert unit.certificate().verdict is Verdict.INVERTIBLE
    x = torch.randn(100, 16, size, size, dtype=torch.float64)
    solution = unit.inverse(unit(x).detach(), "substitution")
    error, expected = relative_errors(solution.value, x), 2.0**-52 * unit.inverse_condition(x, iterations=5)
    assert (error <= expected).all()
    if scale == 2:
        assert (expected <= 1e-8).all()
    else:
        assert (expected > 1e-8).all()
        assert (error > 1e-8).any()


def test_random_blocks_are_convolutions_whatever_the_padding() -> None:
    for padding in ("zeros", "top-left"):
        blocks = RandomBlocks.draw(Block(2, 1, 4), 3, padding, 5, torch.Generator().manual_seed(1))
        generator = torch.Generator().manual_seed(1)
        kernels = [torch.randn(5, *shape, 3, 3, dtype=torch.float64, generator=generator) for shape in ((1, 2), (2, 1))]
        weight1, weight2 = kernels[0] / 18**0.5, kernels[1] / 9**0.5
        b1, b2 = (torch.randn(5, channels, dtype=torch.float64, generator=generator) for channels in (1, 2))
        x = torch.randn(5, 2, 4, 4, dtype=torch.float64)
        sides = (1, 1, 1, 1) if padding == "zeros" else (2, 0, 2, 0)

        def conv(v: Tensor, weight: Tensor, bias: Tensor, sides: tuple[int, ...] = sides) -> Tensor:
            padded = torch.nn.functional.pad(v, sides)
            return torch.stack(
                [torch.nn.functional.conv2d(*row) for row in zip(padded[:, None], weight, bias, strict=True)]
            )[:, 0]

        expected = x + conv(torch.relu(conv(x, 2 * weight1, b1)), 2 * weight2, b2)
        found = blocks.scaled(4.0)(x.flatten(1))
        torch.testing.assert_close(found, expected.flatten(1))
        if padding == "top-left":
            torch.testing.assert_close(blocks.A0, weight1[:, :, :, 2, 2] @ weight2[:, :, :, 2, 2])


def test_the_condition_on_the_first_taps_is_the_truth_in_every_case_of_a_sweep() -> None:
    table = padding_sweep(
        [Block(1, 1, 3), Block(2, 2, 2)],
        {"all sides": "zeros", "one corner": "top-left"},
        {"exact": Exact()},
        torch.tensor([1.0, 16.0], dtype=torch.float64),
        cases=60,
        kernel_size=3,
        tolerance=1e-11,
        recovery=1e-6,
        seed=0,
    )
    counts = table.pivot(index=["ensemble", "padding", "gamma"], columns="quantity", values="count")
    corner, sides = counts.xs("one corner", level="padding"), counts.xs("all sides", level="padding")
    assert (corner["first_tap"] == corner["p_matrix"]).all()
    assert sides["first_tap"].isna().all()
    large = sides.index.get_level_values("gamma") == 16
    assert (corner["p_matrix"][large] > 2 * sides["p_matrix"][large]).all()
    assert (corner["exact"] >= corner["p_matrix"] - 1).all()  # one may be too ill-conditioned


def test_the_study_of_inverses_measures_what_it_says() -> None:
    table = causal_inverses(
        2, 3, [5, 7], [4, 3], [0.5, 64.0], {"substitution": Substitution(), "existing": Banach(500, 25)},
        {"float64": ["existing", "substitution"], "float32": ["substitution"]}, 2, 1.0, 1e-8, 30, seed=0,
    ).set_index(["dtype", "scale", "method", "size"]).sort_index()  # fmt: skip
    assert len(table) == 2 * 2 * 3
    substitution = table.xs(("float64", "substitution"), level=("dtype", "method"))
    assert (substitution["relative_error_median"] <= 10 * substitution["expected_error_median"]).all()
    assert (substitution["converged_percent"] == 100).all()
    assert (table.loc[("float64", 64.0, "existing"), "recovered_percent"] == 0).all()
    torch.manual_seed(0)
    unit = random_unit(2, 3, 7, 64.0, seed=0)
    rectifier_map = unit.rectifier_map(unit.input_shape)
    A = rectifier_map.W1.matrix(unit.bias1) @ rectifier_map.W2.matrix(unit.bias1)
    exact = float(torch.linalg.matrix_norm(A.detach(), 2))
    assert substitution.loc[(64.0, 7), "norm_A"] == pytest.approx(exact, rel=1e-5)
    for name in ("seconds", "forward_seconds"):
        assert (table[name] > 0).all()
    assert ((table["seconds"] / table["forward_seconds"] - table["forward_passes"]).abs() <= 1e-9).all()


def test_newton_converges_through_residuals_that_grow_for_many_steps() -> None:
    unit = random_unit(16, 32, 28, 8.0, seed=0)
    x = torch.randn(2, 16, 28, 28, dtype=torch.float64)
    solution = unit.inverse(unit(x).detach(), "newton_substitution")
    assert solution.converged.all()
    assert solution.iterations.max() > 10
    assert (relative_errors(solution.value, x) <= 1e-8).all()

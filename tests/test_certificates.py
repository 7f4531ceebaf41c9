"""Certificates: against exact arithmetic and brute force, and nothing certified that is not so."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from builders import (
    KINDS,
    arrays_of,
    cycling,
    normal_parameters,
    triangular,
    unit_of_kind,
    unit_of_matrix,
    without_biases,
)
from hypothesis import assume, example, given
from hypothesis import strategies as st
from oracles import ExactUnit, exact_minors, preimages, rational, smallest_singular_value, squared_distance
from torch import Tensor

from replication import (
    CausalConvUnit,
    InjectiveConvReLU,
    InjectiveReLU,
    LayerwiseNetwork,
    LipschitzConvUnit,
    MonotoneConvUnit,
    PairedReLU,
    RectifierNetwork,
    ResidualUnit,
    StandardConvUnit,
    Status,
    Verdict,
    directed_spanning_test,
)
from replication.certification import inverse_lipschitz
from replication.certification.collisions import collision_ratio, piece_signs
from replication.certification.decisions import SEARCH_LIMIT
from replication.conditions import P_MATRIX_LIMIT


def assert_collides(unit: ResidualUnit, witness: tuple[Tensor, Tensor]) -> None:
    x1, x2 = witness
    difference = float((unit(x1[None]) - unit(x2[None])).detach().norm())
    assert difference <= math.sqrt(torch.finfo(x1.dtype).eps) * float((x1 - x2).norm())
    assert float((x1 - x2).norm()) > 1e-6


@given(st.sampled_from(KINDS), st.integers(1, 7), st.integers(1, 7), st.floats(0.3, 8), st.integers(0, 10_000))
def test_verdicts_agree_with_all_principal_minors(kind: str, h: int, d: int, scale: float, seed: int) -> None:
    unit = unit_of_kind(kind, h, d, scale, seed)
    W1, _, W2, _ = arrays_of(unit)
    minors = exact_minors(W1, W2)
    certificate = unit.certificate()
    assert certificate.reason.endswith(".")
    full_row_rank = np.linalg.matrix_rank(W1) == h
    if certificate.verdict is Verdict.INVERTIBLE:
        assert min(minors.values()) > 0
        assert certificate.witness is None
    elif certificate.verdict is Verdict.NOT_INVERTIBLE:
        assert min(minors.values()) <= 0
        assert certificate.condition == "collision"
        assert_collides(unit, certificate.witness)
    elif full_row_rank:  # then only a minor that is zero is left open
        assert min(minors.values()) == 0
    else:
        assert min(minors.values()) <= 0


@given(st.sampled_from(KINDS), st.integers(1, 6), st.integers(1, 6), st.floats(0.3, 6), st.integers(0, 10_000))
def test_exact_recovers_every_input_of_an_invertible_unit(kind: str, h: int, d: int, scale: float, seed: int) -> None:
    unit = unit_of_kind(kind, h, d, scale, seed)
    assume(unit.certificate().verdict is Verdict.INVERTIBLE)
    W1, b1, W2, b2 = arrays_of(unit)
    x = torch.as_tensor(np.random.default_rng(seed).integers(-3, 4, (4, d)), dtype=torch.float64)
    with torch.no_grad():
        unit.b1[0] = -unit.W1[0] @ x[0]  # a preactivation of zero
    y = unit(x).detach()
    steepness = 1 / smallest_singular_value(W1, W2)
    solution = unit.inverse(y, "exact", tolerance=1e-10)
    assert solution.converged.all()
    size = (1 + np.linalg.norm(W1, 2) * np.linalg.norm(W2, 2)) * (
        1 + float(x.norm()) + np.linalg.norm(b1) + np.linalg.norm(b2)
    )
    assert float((solution.value - x).norm()) <= 1e-13 * steepness * size


@given(st.integers(2, 5), st.floats(1.5, 8), st.integers(0, 10_000))
def test_units_that_are_not_invertible_have_two_preimages_of_one_output(n: int, scale: float, seed: int) -> None:
    unit = unit_of_kind("normal", n, n, scale, seed)
    certificate = unit.certificate()
    assume(certificate.verdict is Verdict.NOT_INVERTIBLE)
    assume(smallest_singular_value(*(arrays_of(unit)[i] for i in (0, 2))) > 1e-4)
    y = unit(certificate.witness[0][None])[0].detach().numpy()
    found = preimages(y, *arrays_of(unit), slack=1e-7)
    for x in certificate.witness:
        assert min(np.linalg.norm(x.numpy() - other) for other in found) < 1e-5 * (1 + np.linalg.norm(x.numpy()))
    assert len(found) >= 2


@given(st.integers(1, 5), st.integers(1, 5), st.floats(0.1, 4), st.integers(0, 10_000))
def test_certified_units_have_one_preimage(h: int, d: int, scale: float, seed: int) -> None:
    W1, b1, W2, b2 = normal_parameters(h, d, seed)
    unit = ResidualUnit(scale * W1 / d, b1, W2 / h, b2)
    certificate = unit.certificate()
    assert certificate.reason.endswith(".")
    if certificate.verdict is Verdict.INVERTIBLE:
        y = torch.randn(d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
        assert len(preimages(y.numpy(), *arrays_of(unit))) == 1


@pytest.mark.parametrize(
    ("M", "condition"),
    [
        (1.5 * torch.eye(2), "lipschitz"),
        (6 * torch.eye(2), "monotone"),
        (torch.tensor([[1.0, 9.0], [0.0, 1.0]]), "h_matrix"),
        (torch.tensor([[1.0, -3.0, 5.0], [3.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "triangular"),
        (cycling(3.0), "p_matrix"),
        (-4 * torch.eye(2), "collision"),
        (torch.tensor([[1.0, 3.0], [3.0, 1.0]]), "collision"),
        (torch.tensor([[1.0, 1.0], [1.0, 1.0]]), None),
    ],
)
def test_each_condition_is_found_and_named(M: Tensor, condition: str | None) -> None:
    certificate = unit_of_matrix(M.double()).certificate()
    assert certificate.condition == condition
    expected = {"collision": Verdict.NOT_INVERTIBLE, None: Verdict.UNKNOWN}.get(condition, Verdict.INVERTIBLE)
    assert certificate.verdict is expected


def test_collisions_keep_the_units_dtype_and_survive_large_biases() -> None:
    M = torch.tensor([[1.0, 3.0], [3.0, 1.0]])
    for dtype in (torch.float32, torch.float64):
        unit = unit_of_matrix(M.to(dtype))
        with torch.no_grad():
            unit.b1.fill_(1e4)
        certificate = unit.certificate()
        assert certificate.witness[0].dtype == dtype
        assert_collides(unit, certificate.witness)


@example(seed=303, dtype=torch.float32, parallel=True)
@given(st.integers(0, 1000), st.sampled_from([torch.float32, torch.float64]), st.booleans())
def test_witnesses_collide_in_exact_arithmetic(seed: int, dtype: torch.dtype, parallel: bool) -> None:
    rng = np.random.default_rng(seed)
    h = int(rng.integers(2, 6))
    d = int(rng.integers(h, 7))
    W1, W2 = rng.normal(size=(h, d)), 3 * rng.normal(size=(d, h))
    if parallel:  # nearly: then the witness is large, and loses digits
        W1[-1] = W1[0] + 10.0 ** rng.uniform(-7, -2) * rng.normal(size=d)
    b1 = rng.normal(size=h) * 10.0 ** rng.uniform(0, 6)
    unit = ResidualUnit(*(torch.as_tensor(array).to(dtype) for array in (W1, b1, W2, np.zeros(d))))
    witness = unit.certificate().witness
    if witness is not None:
        assert_collides(unit, witness)
        exact = ExactUnit(*(array.astype(float) for array in arrays_of(unit)))
        x1, x2 = (rational(x.double().numpy()) for x in witness)
        assert squared_distance(exact(x1), exact(x2)) <= Fraction(torch.finfo(dtype).eps) * squared_distance(x1, x2)


def test_inputs_that_collide_only_as_evaluated_are_no_witness() -> None:
    one, large = torch.ones(1, 1), torch.full((1,), 1e8)
    steep = ResidualUnit(one, large, one, torch.zeros(1)).rectifier_map((1,))  # f(x) = 2x + 1e8 for x > −1e8
    x1, x2 = torch.tensor([0.0]), torch.tensor([1.0])
    assert torch.equal(steep(x1[None]), steep(x2[None]))
    assert collision_ratio(steep, x1, x2) is None
    flat = ResidualUnit(one, large, -one, torch.zeros(1)).rectifier_map((1,))
    assert collision_ratio(flat, x1, x2) == 0
    assert collision_ratio(flat, x1, x1) is None
    assert collision_ratio(flat, x1, -x1 / 0) is None


@pytest.mark.parametrize("h", [100, 250, 400])
@pytest.mark.parametrize("size", [1.0, 64.0, 1e6])
def test_a_slope_summed_up_from_many_terms_has_the_right_sign_or_none(h: int, size: float) -> None:
    # x + Σ wᵢ²·relu(x + 1) with terms that rounding in float32 drops beside the first, and one that takes all back
    first = np.float32(math.sqrt(size))
    small = np.float32(math.sqrt(0.49 * float(np.spacing(first * first))))
    W1, W2 = np.full((h, 1), small), np.full((1, h), small)
    W1[0], W1[-1], W2[0, 0] = first, first, first
    others = 1 + sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(W1[:-1, 0], W2[0, :-1], strict=True))
    for slope in (2e-7 * size, -2e-7 * size):
        W2[0, -1] = float((Fraction(slope) - others) / Fraction(float(first)))
        exact = others + Fraction(float(W1[-1, 0])) * Fraction(float(W2[0, -1]))
        unit = ResidualUnit(*(torch.as_tensor(array) for array in (W1, W1[:, 0], W2, np.zeros(1, np.float32))))
        x = torch.tensor([[-3.0], [0.0], [5.0]])
        assert piece_signs(unit.rectifier_map((1,)), x).tolist() == [1, *[math.copysign(1, exact)] * 2]


def test_products_that_overflow_decide_nothing() -> None:
    for sign in (1, -1):
        large = torch.diag(torch.tensor([1e155, 1.0], dtype=torch.float64))
        unit = without_biases(large, sign * large)  # A has an entry of ±1e310
        certificate = unit.certificate()
        assert certificate.verdict is Verdict.UNKNOWN
        assert "overflows in float64" in certificate.reason
        assert torch.isinf(inverse_lipschitz(unit.rectifier_map((2,))))
        for solver in ("exact", "pivoting", "modulus", "banach"):
            solution = unit.inverse(torch.ones(1, 2, dtype=torch.float64), solver)
            assert not solution.converged
            assert solution.error_bound is None


def test_norms_that_underflow_certify_nothing() -> None:
    # W₁W₂ has the norm 1.5, and −1.5 as its eigenvalue
    first, second = torch.full((256, 256), 2.5e-23), torch.full((256, 256), -1.5 / (2.5e-23 * 256**2))
    unit = StandardConvUnit(256, 256, 1, image_size=(2, 2))
    with torch.no_grad():
        unit.weight1.copy_(first[..., None, None])
        unit.weight2.copy_(second[..., None, None])
    certificate = unit.certificate(folds=False)
    assert certificate.verdict is Verdict.UNKNOWN
    assert "||W1||*||W2|| <= 1.5" in certificate.reason
    assert unit.certificate().verdict is Verdict.NOT_INVERTIBLE


@pytest.mark.parametrize("corner", ["top-left", "bottom-right"])
def test_witnesses_of_causal_units_collide_on_whole_images(corner: str) -> None:
    found = 0
    for seed in range(20):
        torch.manual_seed(seed)
        unit = CausalConvUnit(2, 2, 2, image_size=(3, 3), corner=corner).double()
        with torch.no_grad():
            unit.bias1.normal_()
            unit.weight2.mul_(9)
        witness = unit.certificate().witness
        if witness is not None:
            found += 1
            assert_collides(unit, witness)
    assert found > 3


def test_extreme_scales_are_decided_or_left_open() -> None:
    D = torch.float64
    W2 = torch.tensor([[0, -1e-170, 0], [0, 0, 1e200], [1e200, 0, 0]], dtype=D)
    hidden = without_biases(torch.diag(torch.tensor([1e-170, 1, 1], dtype=D)), W2)
    assert hidden.certificate().verdict is not Verdict.INVERTIBLE  # det M = 1 − 1e60, behind an entry that underflows
    scales = torch.tensor([1e8, 1e-8, 1], dtype=D)
    folded = without_biases(torch.diag(scales), -2 * torch.diag(1 / scales)).certificate()  # M = −I
    assert folded.verdict is Verdict.NOT_INVERTIBLE
    barely = without_biases(torch.eye(3, dtype=D), (1e-9 - 1) * torch.eye(3, dtype=D)).certificate()
    assert "1 - 1e-09 < 1" in barely.reason


def test_past_the_limit_large_units_are_decided_by_blocks_or_small_minors_or_not_at_all() -> None:
    n = P_MATRIX_LIMIT + 6
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(n, n, dtype=torch.float64, generator=g)
    spread = unit_of_matrix(torch.eye(n).double() + noise / 6).certificate()
    assert (spread.verdict, spread.condition) == (Verdict.INVERTIBLE, "p_matrix")
    assert "by branch and bound" in spread.reason
    skew = unit_of_matrix(torch.eye(n).double() + 3 * (noise - noise.mT))
    scaling = torch.logspace(-3, 3, n, dtype=torch.float64)
    stable = unit_of_matrix(scaling[:, None] * (torch.eye(n).double() + 3 * (noise - noise.mT)) / scaling)
    assert skew.certificate().condition == "monotone"
    assert stable.certificate().condition == "diagonal_stability"
    large = torch.randn(260, 260, dtype=torch.float64, generator=g)
    left = unit_of_matrix(torch.eye(260).double() + large / 17).certificate()
    assert left.verdict is Verdict.UNKNOWN
    assert f"past the limit {SEARCH_LIMIT}" in left.reason
    blocks = torch.triu(9 * noise, 3) + torch.block_diag(*[cycling(3.0)] * (n // 3))
    assert unit_of_matrix(blocks).certificate().condition == "triangular"
    folded = torch.eye(n).double() + noise / 4
    folded[3, 20] = folded[20, 3] = 2
    certificate = unit_of_matrix(folded).certificate()
    assert certificate.verdict is Verdict.NOT_INVERTIBLE
    assert_collides(unit_of_matrix(folded), certificate.witness)


def test_units_with_more_hidden_than_input_coordinates_are_never_guessed() -> None:
    # f(x) = −4x, with a negative determinant everywhere: M is no P-matrix, and f is invertible all the same
    W1 = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    W2 = torch.tensor([[-5.0, 5.0]], dtype=torch.float64)
    unit = without_biases(W1, W2)
    torch.testing.assert_close(unit(torch.tensor([[2.0], [-3.0]]).double()), torch.tensor([[-8.0], [12.0]]).double())
    certificate = unit.certificate()
    assert certificate.verdict is Verdict.UNKNOWN
    assert "h = 2 > d = 1" in certificate.reason
    # f(x) = x − 5·relu(x) + relu(−x)/2 folds
    folded = without_biases(W1, torch.tensor([[-5.0, 0.5]], dtype=torch.float64)).certificate()
    assert folded.verdict is Verdict.NOT_INVERTIBLE


def test_convolutional_families_are_certified_by_construction_or_fold() -> None:
    size = (6, 6)
    loud = StandardConvUnit(2, 4, image_size=size)
    torch.nn.init.constant_(loud.weight1, 3.0)
    assert MonotoneConvUnit(2, 4, image_size=size).certificate().condition == "monotone"
    assert LipschitzConvUnit(2, 4, image_size=size).certificate().condition == "lipschitz"
    assert loud.certificate(folds=False).verdict is Verdict.UNKNOWN
    assert loud.certificate().verdict is Verdict.NOT_INVERTIBLE


def test_a_certificate_without_image_size_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="image_size=\\(height, width\\)"):
        StandardConvUnit(2, 4).certificate()


def test_a_batch_has_a_certificate_for_each_unit() -> None:
    batch = unit_of_matrix(1.5 * torch.eye(2).repeat(3, 1, 1))
    with pytest.raises(ValueError, match=r"unit\[i\]\.certificate"):
        batch.certificate()
    assert batch[2].certificate().condition == "lipschitz"


@given(st.sampled_from(["lipschitz", "monotone", "h_matrix"]), st.integers(1, 6), st.integers(0, 10_000))
def test_error_bound_holds(condition: str, n: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    B, W2 = (torch.randn(n, n, dtype=torch.float64, generator=g) for _ in range(2))
    if condition == "lipschitz":
        W1 = 0.9 * B / torch.linalg.matrix_norm(B, 2) / torch.linalg.matrix_norm(W2, 2)
    elif condition == "monotone":
        W1, W2 = B, B.T + 0.1 * torch.linalg.pinv(B) @ (W2 - W2.T)
    else:
        W1, W2 = torch.eye(n).double(), torch.triu(5 * B, 1) + torch.diag(B.diagonal().abs())
    unit = ResidualUnit(W1, torch.ones(n).double(), W2, torch.zeros(n).double())
    x = 3 * torch.randn(5, n, dtype=torch.float64, generator=g)
    y = unit(x).detach()
    solution = unit.inverse(y, "modulus", tolerance=1e-3)
    assert solution.error_bound is not None
    assert torch.isfinite(solution.error_bound).all()
    rounding = 1e-14 * float(inverse_lipschitz(unit.rectifier_map((n,))).detach()) * y.norm(dim=1)  # of y = f(x)
    assert ((solution.value - x).norm(dim=1) <= solution.error_bound + rounding).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", ["exact", "modulus"])
def test_error_bound_holds_down_to_rounding(solver: str, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    checked = 0
    for _ in range(60):  # dyadic numbers, so that y = f(x) is exact
        W1, W2, b = (torch.randint(-8, 9, shape, generator=g).to(dtype) for shape in ((3, 3), (3, 3), (3,)))
        unit = ResidualUnit(W1 / 8, b / 8, W2 / 16, b / 8)
        x = (torch.randint(-64, 65, (50, 3), generator=g) / 64).to(dtype)
        solution = unit.inverse(unit(x).detach(), solver)
        if solution.error_bound is not None:
            error = (solution.value.double() - x.double()).norm(dim=1)
            assert (error <= solution.error_bound.double()).all()
            checked += 1
    assert checked > 20


def test_error_bound_is_none_where_no_constant_is_known() -> None:
    unit = unit_of_matrix(cycling(3.0))
    solution = unit.inverse(torch.ones(1, 3).double(), "exact")
    assert solution.status[0] is Status.CONVERGED
    assert solution.error_bound is None


def test_error_bounds_of_a_batch_are_those_of_its_units() -> None:
    batch = unit_of_matrix(torch.stack([1.5 * torch.eye(3).double(), triangular(3), cycling(3.0)]))
    y = torch.ones(3, 3, dtype=torch.float64)
    together = batch.inverse(y, "banach", max_iterations=3).error_bound
    alone = [batch[unit].inverse(y[unit : unit + 1], "banach", max_iterations=3).error_bound for unit in range(3)]
    torch.testing.assert_close(together[:2], torch.cat(alone[:2]))
    assert torch.isinf(together[2])
    assert alone[2] is None


def statements() -> list[object]:
    """One of each kind of statement, of both truths where there are two."""
    certificates = [without_biases(torch.eye(2), s * torch.eye(2)).certificate() for s in (0.5, -3.0)]
    network = LayerwiseNetwork(StandardConvUnit(1, 1, image_size=(2, 2))).certificate()
    tests = [directed_spanning_test(torch.tensor(rows)) for rows in ([[1.0], [-1.0]], [[1.0], [2.0]])]
    assert [certificate.verdict.value for certificate in certificates] == ["invertible", "not invertible"]
    assert [test.spans for test in tests] == [True, False]
    return [*certificates, network, network.layers[0], *tests, *Verdict, *Status]


def test_no_statement_is_taken_for_true() -> None:
    for statement in statements():
        with pytest.raises(TypeError, match=r"is neither true nor false; ask \w+[.\w]* is "):
            bool(statement)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_reasons_can_be_printed_through_every_pipe(encoding: str) -> None:
    units = [
        MonotoneConvUnit(2, 2, image_size=(3, 3)), LipschitzConvUnit(2, 2, image_size=(3, 3)),
        CausalConvUnit(2, 2, image_size=(3, 3)), StandardConvUnit(2, 2, image_size=(3, 3)),
        PairedReLU(2, 3), InjectiveReLU(torch.randn(3, 2)), InjectiveConvReLU(1, 1, image_size=(2, 2)),
        *(ResidualUnit(s * torch.randn(3, 4), torch.randn(3), torch.randn(4, 3), torch.randn(4)) for s in (0.01, 1, 9)),
    ]  # fmt: skip
    network = RectifierNetwork((1, 8, 8), 3, StandardConvUnit, hidden=(4,)).eval()
    for statement in (*(unit.certificate() for unit in units), network.certificate()):
        statement.reason.encode(encoding)
        str(statement).encode(encoding)
    images = torch.rand(2, 1, 8, 8)
    repr(network.inverse(network.features(images).detach())).encode(encoding)

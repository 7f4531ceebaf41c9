"""Certificates: the conditions against their definitions, and nothing certified that is not so."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import preimages

from replication import LipschitzConvUnit, MonotoneConvUnit, ResidualUnit, StandardConvUnit, Verdict
from replication.conditions import is_lipschitz, is_monotone


@given(st.integers(1, 6), st.floats(0.1, 3), st.integers(0, 10_000))
def test_conditions_agree_with_their_definitions(n: int, norm: float, seed: int) -> None:
    A = np.random.default_rng(seed).normal(size=(n, n))
    A *= norm / np.linalg.norm(A, 2)
    minimum = np.linalg.eigvalsh((A + A.T) / 2)[0]
    if abs(norm - 1) > 1e-9:
        assert bool(is_lipschitz(torch.as_tensor(A))) == (norm < 1)
    if abs(minimum + 1) > 1e-9:
        assert bool(is_monotone(torch.as_tensor(A))) == (minimum > -1)


def test_boundary_cases_are_not_certified() -> None:
    identity = torch.eye(3, dtype=torch.float64)
    assert not is_lipschitz(identity)
    assert not is_monotone(-identity)
    assert not is_lipschitz((1 - 1e-16) * identity)


@given(st.integers(1, 5), st.integers(1, 5), st.floats(0.1, 4), st.integers(0, 10_000))
def test_certified_units_have_one_preimage(h: int, d: int, scale: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    W1, b1, W2, b2 = (torch.randn(*shape, dtype=torch.float64, generator=g) for shape in ((h, d), (h,), (d, h), (d,)))
    unit = ResidualUnit(scale * W1 / d, b1, W2 / h, b2)
    certificate = unit.certificate()
    assert certificate.reason.endswith(".")
    if certificate.verdict is Verdict.INVERTIBLE:
        y = torch.randn(d, dtype=torch.float64, generator=g)
        arrays = [tensor.detach().numpy() for tensor in (unit.W1, unit.b1, unit.W2, unit.b2)]
        assert len(preimages(y.numpy(), *arrays)) == 1


def test_each_condition_is_found_and_named() -> None:
    identity, zero = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    cases = {"lipschitz": 0.5 * identity, "monotone": 5 * identity, None: -5 * identity}
    for condition, W in cases.items():
        certificate = ResidualUnit(W, zero, identity, zero).certificate()
        assert certificate.condition == condition
        assert (certificate.verdict is Verdict.INVERTIBLE) == (condition is not None)


def test_convolutional_families_are_certified_by_construction_or_not_at_all() -> None:
    size = (6, 6)
    loud = StandardConvUnit(2, 4, image_size=size)
    torch.nn.init.constant_(loud.weight1, 3.0)
    assert MonotoneConvUnit(2, 4, image_size=size).certificate().condition == "monotone"
    assert LipschitzConvUnit(2, 4, image_size=size).certificate().condition == "lipschitz"
    assert loud.certificate().verdict is Verdict.UNKNOWN


def test_a_certificate_without_image_size_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="image_size=\\(height, width\\)"):
        StandardConvUnit(2, 4).certificate()


def test_a_batch_has_a_certificate_for_each_unit() -> None:
    batch = ResidualUnit(
        torch.eye(2).repeat(3, 1, 1) / 2, torch.zeros(3, 2), torch.eye(2).repeat(3, 1, 1), torch.zeros(3, 2)
    )
    with pytest.raises(ValueError, match=r"unit\[i\]\.certificate"):
        batch.certificate()
    assert batch[2].certificate().condition == "lipschitz"


@given(st.floats(0.05, 0.9), st.integers(0, 1000))
def test_error_bound_holds(norm: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(4, 4, dtype=torch.float64, generator=g)
    W = norm * W / torch.linalg.matrix_norm(W, 2)
    unit = ResidualUnit(W, torch.ones(4).double(), torch.eye(4).double(), torch.zeros(4).double())
    x = torch.randn(5, 4, dtype=torch.float64, generator=g)
    y = unit(x).detach()
    solution = unit.inverse(y, "banach", tolerance=1e-3)
    rounding = 1e-14 * y.norm(dim=1)
    assert ((solution.value - x).norm(dim=1) <= solution.error_bound + rounding).all()


def test_error_bound_is_none_where_no_constant_is_known() -> None:
    identity, zero = torch.eye(2), torch.zeros(2)
    assert (
        ResidualUnit(-5 * identity, zero, identity, zero).inverse(torch.ones(1, 2), max_iterations=3).error_bound
        is None
    )

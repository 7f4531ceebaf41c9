"""Deep networks with known limits (figE5): closed forms in other arithmetic, and the cases as they are derived."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from builders import composed
from hydra.utils import instantiate
from scipy.linalg import expm

from replication.experiments.studies.deep_limits import (
    FromOutputs,
    boundary,
    cases,
    closed_form,
    deep_limits,
    explicit_errors,
    exponentials,
    outputs,
    random_perturbations,
    trajectory,
)
from replication.experiments.studies.measures import deep_slope, deep_value

GENERATOR = np.random.default_rng(0)
S = GENERATOR.uniform(size=(4, 4)) / 3
START = np.maximum(GENERATOR.normal(size=(4, 6)), 0)
DEPTHS = np.array([1, 10, 100, 300])


def test_finite_networks_are_exponentials_of_partial_sums() -> None:
    for p in (1.0, 1.5, 2.0):
        for n, _, _, z in outputs(exponentials(S, p, 300), START, 300):
            if n in DEPTHS:
                expected = expm(S * sum(float(i) ** -p for i in range(1, n + 1))) @ START
                np.testing.assert_allclose(z, expected, rtol=1e-12)


def test_the_error_is_that_of_the_tail_and_has_its_slope() -> None:
    table = pd.DataFrame([line for p in (2.0, 3.0) for line in closed_form(S, p, START, np.array([1000, 10000]))])
    for p in (2.0, 3.0):
        assert deep_slope(table, "sufficient", "error", p) == pytest.approx(1 - p, abs=0.01)
    wide = table.pivot(index=["p", "depth"], columns="quantity", values="value")
    assert (wide["error"] <= wide["tail"]).all()
    assert (wide["error"] >= 0.3 * wide["tail"]).all()


def test_growth_at_the_boundary_is_the_spectral_radius() -> None:
    radius = np.abs(np.linalg.eigvals(S)).max()
    table = pd.DataFrame(boundary(S, START, np.array([1000, 10000]), radius))
    assert deep_slope(table, "boundary", "norm", 1.0) == pytest.approx(radius, rel=0.01)


def ends(name: str, depth: int = 300) -> dict[str, float]:
    made = cases(4, np.random.default_rng(1), depth)[name]
    return {str(line["quantity"]): float(line["value"]) for line in trajectory(name, made, START, np.array([depth]))}  # type: ignore[arg-type]


def test_layers_made_from_outputs_have_these_outputs_and_approach_the_identity() -> None:
    made = FromOutputs.drawn(4, 200, np.random.default_rng(2))
    for n, (W, b), before, z in outputs(made, START, 200):
        np.testing.assert_allclose(z, made.P[n] @ START + made.c[n], rtol=1e-10)
        np.testing.assert_allclose(W @ before + b, z, rtol=1e-10)  # all units are active
        step = np.linalg.norm(made.P[n] - made.P[n - 1], 2) * np.linalg.norm(np.linalg.inv(made.P[n - 1]), 2)
        assert np.linalg.norm(W - np.eye(4), 2) <= step * (1 + 1e-9)
    assert ends("invertible limit")["distance"] < 1e-3
    assert ends("invertible limit")["bias"] < 1e-2


def test_three_networks_converge_although_their_layers_stay_off_the_identity() -> None:
    for name, off in (("W = ½I", "distance"), ("W = projection", "distance"), ("W = I, b = −0.1", "bias")):
        found = ends(name)
        assert found["change"] <= 1e-12
        assert found[off] >= 0.1


def test_products_of_scalars_are_those_of_fractions() -> None:
    factors = {
        "W = (1 + 1/n)I": lambda n: 1 + Fraction(1, n),
        "W = (1 + (−1)ⁿ/(n+1))I": lambda n: 1 + Fraction((-1) ** n, n + 1),
        "W = (1 + 1/n²)I": lambda n: 1 + Fraction(1, n * n),
    }
    for name, factor in factors.items():
        product = Fraction(1)
        for n in range(1, 301):
            product *= factor(n)
        assert ends(name)["norm"] == pytest.approx(float(product), rel=1e-12)


def test_permutations_go_on_and_lose_nothing() -> None:
    found = ends("W = permutation")
    assert found["norm"] == pytest.approx(1, rel=1e-14)
    assert found["change"] > 0.5


def test_random_networks_settle_above_one_half_and_not_below() -> None:
    lines = random_perturbations([0.3, 1.5], 40, 729, 4, np.random.default_rng(3))
    table = pd.DataFrame(lines).query("quantity == 'change'").set_index(["p", "depth"])["value"]
    assert table[1.5, 729] < 0.01 < 0.5 < table[0.3, 729]


def test_the_explicit_expression_is_exact_to_rounding() -> None:
    assert max(float(line["value"]) for line in explicit_errors(20, 6, 10, 2, 0)) <= 1e-13  # type: ignore[arg-type]


def test_the_study_has_every_part_and_repeats_itself() -> None:
    small = ["study.depth=100", "study.random.depth=81", "study.initialisation.steps=2", "study.random.networks=3"]
    config = composed("figE5", *small, "study.initialisation.depths=[3]", "study.points=5")
    settings = instantiate(config.study, _convert_="all")
    one, two = (deep_limits(instantiate(config.data), **settings) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert set(one["part"]) == {"explicit", "sufficient", "boundary", "cases", "random", "initialisation"}
    assert one["value"].notna().all()
    assert deep_value(one, "cases", "W = (1 + 1/n)I", "norm", 100) == pytest.approx(101)
    assert np.isnan(deep_value(one, "cases", "W = (1 + 1/n)I", "norm", 99))

"""Paper E2's study: flows against each other, limits in closed form, least variation by linear programs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from builders import checks_passed
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from scipy.optimize import linprog

from replication.experiments.studies.gradient_dynamics import kernel_limit, reduced_and_full, scale_of_width, sweep
from replication.experiments.studies.shallow_flow import Reduced, Shallow, fitted, full_flow, reduced_flow
from replication.experiments.studies.univariate_splines import (
    Samples,
    fixed_knots,
    initial_law,
    variation_of_slope,
)

TABLE = pd.read_csv(ROOT / "figures" / "figE2.csv")
SQUARE = Samples.draw("square", 1.2, 10, 0.2, 1)
SHORT = Samples.draw("square", 0.8, 10, 0.2, 0)
SINE = Samples.draw("sine", 2.0, 10, 0.2, 0)


def drawn(m: int, seed: int) -> Shallow:
    a, b, c = np.random.default_rng(seed).standard_normal((3, m))
    return Shallow(a, b, c, float(m) ** 0.5)


def test_the_derivatives_are_those_of_finite_differences() -> None:
    network, x = drawn(7, 0), np.linspace(-1, 1, 5)
    J = network.jacobian(x)
    for place, step in enumerate(1e-6 * np.eye(21)):
        slope = (network.moved(step)(x) - network.moved(-step)(x)) / 2e-6
        assert np.allclose(slope, J[:, place], atol=1e-8)


def test_a_network_on_a_grid_is_zero_and_a_reduced_one_the_same_function() -> None:
    x = np.linspace(-1, 1, 9)
    start = Shallow.on_a_grid(40, 3.0, 0.7, 40.0, 2.0)
    assert np.abs(start(x)).max() < 1e-15
    assert np.allclose(np.unique(np.round(start.knots, 12)), np.linspace(-2, 2, 10))
    network = drawn(11, 1)
    assert np.allclose(Reduced.of(network)(x), network(x), atol=1e-13)
    with pytest.raises(ValueError, match="multiple of 4"):
        Shallow.on_a_grid(6, 1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_both_flows_go_the_same_way_and_keep_what_is_conserved(seed: int) -> None:
    network, x = drawn(12, seed), np.linspace(-1, 1, 4)
    small = (
        0.9 * np.tanh(network.c) * np.hypot(network.a, network.b)
    )  # δ < 0, so that no (a, b) reaches 0, without angle
    network = Shallow(network.a, network.b, small, network.alpha)
    y, grid, times = np.array([1.0, -1.0, 1.0, 1.0]), np.linspace(-1.5, 1.5, 99), np.array([0.5, 1.0])
    full, reduced = (flow(network, x, y, times, 1e-3)[-1] for flow in (full_flow, reduced_flow))
    assert np.abs(full(grid) - reduced(grid)).max() <= 1e-4 * np.abs(full(grid)).max()
    assert np.abs(full(grid) - network(grid)).max() > 0.05
    assert np.allclose(full.conserved, network.conserved, atol=1e-4)


def test_a_wrong_reduced_flow_would_be_noticed() -> None:
    """The rate of θ has 1/w²; with the rate of another δ the functions part."""
    network, x = drawn(12, 0), np.linspace(-1, 1, 4)
    y, times = np.array([1.0, -1.0, 1.0, 1.0]), np.array([1.0])
    doubled = Shallow(2 * network.a, 2 * network.b, network.c / 2, network.alpha)  # the same r and θ
    ours, other = (reduced_flow(one, x, y, times, 1e-3)[0] for one in (network, doubled))
    assert np.abs(ours(x) - other(x)).max() > 0.01


def test_steps_of_the_linearised_flow_end_where_small_steps_end() -> None:
    start = Shallow.on_a_grid(80, 5.0, 2.0, 80.0, 2.0)
    x, y = SQUARE.x[::3], SQUARE.y[::3]
    fit = fitted(start, x, y, tolerance=0.05, max_steps=2000)
    assert fit.residual <= 0.05
    networks = full_flow(start, x, y, np.arange(1, 400) * 2.0, 0.1)
    nearest = min(networks, key=lambda one: abs(np.abs(one(x) - y).max() - fit.residual))
    grid = np.linspace(-1, 1, 99)
    assert np.abs(nearest(grid) - fit.network(grid)).max() < 0.03


def exact_kernel(samples: Samples, grid: np.ndarray, reach: float) -> np.ndarray:
    """Interpolation by ∫ relu(x − t)·relu(x′ − t) + relu(t − x)·relu(t − x′) dt over [−L, L], in closed form."""

    def side(low: np.ndarray, high: np.ndarray) -> np.ndarray:  # ∫ (low − t)(high − t) dt from −L to low
        length, gap = low + reach, high - low
        return length**3 / 3 + gap * length**2 / 2

    def kernel(x: np.ndarray, other: np.ndarray) -> np.ndarray:
        low, high = np.minimum.outer(x, other), np.maximum.outer(x, other)
        return side(low, high) + side(-high, -low)

    return kernel(grid, samples.x) @ np.linalg.solve(kernel(samples.x, samples.x), samples.y)


@pytest.mark.parametrize("reach", [1.1, 2.0, 5.0])
def test_fixed_knots_have_the_limit_of_the_exact_kernel(reach: float) -> None:
    grid = SQUARE.grid(201)
    values = fixed_knots(*initial_law("uniform", 4000, reach), SQUARE, grid)
    assert np.abs(values - exact_kernel(SQUARE, grid, reach)).max() < 1e-3
    assert np.allclose(fixed_knots(*initial_law("uniform", 4000, reach), SQUARE, SQUARE.x), SQUARE.y, atol=1e-8)


def test_normal_weights_have_the_kernel_of_uniform_directions() -> None:
    grid = SQUARE.grid(101)
    a, b = np.random.default_rng(0).standard_normal((2, 100_000))
    drawn_values, ours = (
        fixed_knots(a, b, SQUARE, grid),
        fixed_knots(*initial_law("normal weights", 4000, 1), SQUARE, grid),
    )
    assert np.abs(drawn_values - ours).max() < 0.05


def test_the_flow_of_large_first_weights_is_that_of_fixed_knots() -> None:
    start = Shallow.on_a_grid(200, 1000.0, 0.01, 200.0, 2.0)
    fit = fitted(start, SQUARE.x, SQUARE.y, 1e-4, 500)
    grid = SQUARE.grid(99)
    assert np.abs(fit.network(grid) - fixed_knots(start.a, start.b, SQUARE, grid)).max() < 2e-3


def least_variation_program(samples: Samples, parts: int = 6) -> tuple[float, list[float]]:
    """The least variation of an interpolant's slope, and the spread of such functions in the middle of each interval.

    By linear programs over piecewise linear functions with bends at the samples and between them.
    """
    x, y = samples.x, samples.y
    bends = np.concatenate([np.linspace(a, b, parts, endpoint=False) for a, b in pairwise(x)])[1:]

    def values(points: np.ndarray) -> np.ndarray:  # of value and slope at the start, and bends
        ramps = np.maximum(np.subtract.outer(points, bends), 0)
        return np.column_stack([np.ones(len(points)), points - x[0], ramps, -ramps])

    total = np.concatenate([[0, 0], np.ones(2 * len(bends))])
    bounds = [(None, None)] * 2 + [(0, None)] * (2 * len(bends))
    least = linprog(total, A_eq=values(x), b_eq=y, bounds=bounds).fun
    spreads = []
    for row in values((x[:-1] + x[1:]) / 2):
        ends = [
            linprog(sign * row, A_ub=total[None], b_ub=[least * (1 + 1e-9)], A_eq=values(x), b_eq=y, bounds=bounds).fun
            for sign in (1, -1)
        ]
        spreads.append(-ends[1] - ends[0])
    return least, spreads


@pytest.mark.parametrize("samples", [SQUARE, SHORT, SINE], ids=["square", "short", "sine"])
def test_free_intervals_are_those_of_linear_programs(samples: Samples) -> None:
    least, spreads = least_variation_program(samples)
    assert least == pytest.approx(samples.least_variation(), rel=1e-7)
    assert [spread > 1e-5 for spread in spreads] == samples.free_intervals().tolist()


@settings(max_examples=8)
@given(values=st.lists(st.integers(-2, 2), min_size=4, max_size=6))
def test_free_intervals_of_any_values(values: list[int]) -> None:
    x = np.linspace(-1, 1, len(values)) + 0.05 * np.sin(np.arange(len(values)))
    samples = Samples(x, np.array(values, dtype=float))
    least, spreads = least_variation_program(samples)
    assert least == pytest.approx(samples.least_variation(), abs=1e-7)
    if least > 1e-9:
        assert [spread > 1e-5 for spread in spreads] == samples.free_intervals().tolist()


def test_measures_of_known_functions() -> None:
    grid = np.linspace(0, 1, 1001)
    assert variation_of_slope(np.abs(grid - 0.5), grid) == pytest.approx(2)
    assert variation_of_slope(grid**2, grid) == pytest.approx(2, rel=5e-3)
    assert np.allclose(SQUARE.cubic(grid), CubicSpline(SQUARE.x, SQUARE.y, bc_type="natural")(grid))
    assert SQUARE.share_near(SQUARE.x) == 1
    assert SQUARE.share_near((SQUARE.x[:-1] + SQUARE.x[1:]) / 2) == 0
    assert SQUARE.share_near(np.array([SQUARE.x[0], 0.0, 9.0]), np.array([3.0, 1.0, 5.0])) == 0.75
    with pytest.raises(ValueError, match="wave must be"):
        Samples.draw("saw", 1.0, 4, 0.0, 0)
    with pytest.raises(ValueError, match="law must be"):
        initial_law("cauchy", 4, 1.0)


def test_tables_have_their_rows() -> None:
    table, arrays = sweep({"a": SQUARE, "b": SINE}, [100, 50], 10.0, 40, 2.0, 0.1, 50, "a")
    assert list(table["data"]) == ["a", "a", "b", "b"]
    assert {"fit 100", "knots 50", "x", "y", "grid"} <= arrays.keys()
    assert table.query("data == 'a'")["free_error"].isna().all()
    assert list(kernel_limit(SQUARE, [2], 200)["law"]) == ["uniform", "normal knots", "normal weights"]
    assert list(scale_of_width(SQUARE, [40], 2.0, 0.4, 20)["alpha"]) == ["√m", "m"]
    assert list(reduced_and_full(5, 3, [0.1, 0.2], [0.1, 0.05], 0)["time"]) == [0.1, 0.2, 0.1, 0.2]


@pytest.mark.parametrize(
    ("claim", "rows", "column", "value"),
    [
        ("E2-reduced", "part == 'reduced'", "difference", 0.1),
        ("E2-kernel", "part == 'sweep' and w == 1000", "to_cubic", 0.3),
        ("E2-adaptive", "part == 'sweep' and data == 'square'", "to_linear", 0.3),
        ("E2-variation", "part == 'sweep' and data == 'sine'", "variation", 1.5),
        ("E2-regimes", "part == 'width' and alpha == '√m'", "turned", 1.0),
    ],
)
def test_a_changed_table_fails_a_check_that_held(claim: str, rows: str, column: str, value: float) -> None:
    changed = TABLE.copy()
    changed.loc[changed.eval(rows), column] = value
    assert checks_passed(claim, changed) < checks_passed(claim, TABLE)

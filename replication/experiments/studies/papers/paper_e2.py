"""What paper E2 claims, as far as its abstract goes, and what is derived here about its linear splines."""

from __future__ import annotations

import numpy as np
import pandas as pd

from replication.experiments.studies.claims import Check, Claim, Rule

SQUARES = ("square", "square, other samples")


def reduced(table: pd.DataFrame, column: str) -> float:
    """Return the largest value of a column over the times, at the smallest step."""
    rows = table[table["part"] == "reduced"]
    return float(rows[rows["step"] == rows["step"].min()][column].max())


def uniform(table: pd.DataFrame) -> pd.Series:
    """Return the distances from the cubic spline for uniform knots in the limit, by the range of the knots."""
    rows = table[(table["part"] == "kernel limit") & (table["law"] == "uniform")]
    found: pd.Series = rows.set_index("reach")["to_cubic"].sort_index()
    return found


def fall(table: pd.DataFrame) -> float:
    """Return the exponent with which these distances fall with the range of the knots, from 2 on."""
    rows = uniform(table).loc[2:]
    return float(np.polyfit(np.log(rows.index.to_numpy(float)), np.log(rows.to_numpy(float)), 1)[0])


def controls(table: pd.DataFrame) -> float:
    """Return how many times farther off the other laws are, the least of them, than the widest uniform one."""
    rows = table[(table["part"] == "kernel limit") & (table["law"] != "uniform")]
    return float(rows["to_cubic"].min() / uniform(table).iloc[-1])


def swept(table: pd.DataFrame, data: str = "") -> pd.DataFrame:
    """Return the rows of the sweep, of one data set or of all, the largest scale first."""
    rows = table[table["part"] == "sweep"]
    chosen: pd.DataFrame = rows[rows["data"] == data] if data else rows
    return chosen.sort_values("w", ascending=False)


def largest_scale(table: pd.DataFrame, column: str) -> pd.Series:
    """Return a column at the largest scale, all data sets."""
    rows = swept(table)
    found: pd.Series = rows[rows["w"] == rows["w"].max()][column]
    return found


def least_linear(table: pd.DataFrame, *data: str) -> float:
    """Return the distance (%) from the linear spline at the scale where it is least, the most of some data sets."""
    return 100 * max(float(swept(table, name)["to_linear"].min()) for name in data)


def most_clustered(table: pd.DataFrame, *data: str) -> float:
    """Return the share (%) of knots at samples at the scale where it is largest, the least of some data sets."""
    return 100 * min(float(swept(table, name)["near"].max()) for name in data)


def least_variation(table: pd.DataFrame) -> float:
    """Return the total variation of the slope at the scale where it is nearest to the least, the most of all data."""
    rows = swept(table)
    return float((rows["variation"] - 1).abs().groupby(rows["data"]).min().max())


def freedom(table: pd.DataFrame) -> float:
    """Return how many times the free intervals' error is that of the others, short runs, second smallest scale."""
    row = swept(table, "square, short runs").iloc[-2]
    return float(row["free_error"] / row["line_error"])


def steps(table: pd.DataFrame, column: str) -> float:
    """Return the least change of a column from one scale to the next smaller one, down to 30, on the square waves."""
    return min(float(part[part["w"] >= 30][column].diff().min()) for part in (swept(table, name) for name in SQUARES))


def turned(table: pd.DataFrame, alpha: str) -> float:
    """Return how much the units turn at the largest width, of what they turn at the smallest."""
    rows = table[(table["part"] == "width") & (table["alpha"] == alpha)].sort_values("m")["turned"]
    return float(rows.iloc[-1] / rows.iloc[0])


CLAIMS = (
    Claim(
        "E2-reduced", "abstract",
        "The gradient dynamics of a shallow univariate ReLU network are those of parameters without redundancy.",
        (
            Check("figE2", "largest difference of the two flows' functions, of the function, until t = 10",
                  lambda t: reduced(t, "difference"), Rule.AT_MOST, 0, 1e-4,
                  "steps of first order where knots slide along samples"),
            Check("figE2", "largest turn of a unit by then, in radians",
                  lambda t: reduced(t, "angle"), Rule.AT_LEAST, 0.3, 0, "units move, or nothing would be compared"),
            Check("figE2", "largest change of c² − a² − b², which is conserved, of its largest value",
                  lambda t: reduced(t, "delta_drift"), Rule.AT_MOST, 0, 1e-3, "the same steps"),
        ),
        ("A20",),
    ),
    Claim(
        "E2-kernel", "abstract",
        "In the kernel regime interpolants are smooth, and cubic splines for uniform initialisation.",
        (
            Check("figE2", "full flow at w = 1000 off the natural cubic spline, of the range, most of four data sets",
                  lambda t: 100 * largest_scale(t, "to_cubic").max(),
                  Rule.AT_MOST, 0, 2, "200 knots to a side, of a range of 2, leave about one percent", " %"),
            Check("figE2", "fixed knots off the spline, exponent in their range L ≥ 2",
                  fall, Rule.CLOSE_TO, -1, 0.2, "1/L in the limit, which the spline is"),
            Check("figE2", "normal laws off the spline, in units of uniform knots with L = 10, least",
                  controls, Rule.AT_LEAST, 10, 0, "controls: not any law will do"),
        ),
        ("A20",),
    ),
    Claim(
        "E2-adaptive", "abstract",
        "In the adaptive regime interpolants are linear splines whose knots cluster at the samples.",
        (
            Check("figE2", "off the linear spline at the best scale, square wave with runs of three, two draws",
                  lambda t: least_linear(t, *SQUARES), Rule.AT_MOST, 0, 5, "5 % of the range can be seen", " %"),
            Check("figE2", "knots at samples at the best scale, the same (11 % before)",
                  lambda t: most_clustered(t, *SQUARES), Rule.AT_LEAST, 90, 5, "nearly all of them", " %"),
            Check("figE2", "off the linear spline at the best scale, square wave with runs of two",
                  lambda t: least_linear(t, "square, short runs"),
                  Rule.AT_MOST, 0, 5, "5 % of the range can be seen", " %"),
            Check("figE2", "knots at samples at the best scale, square wave with runs of two and sine, least",
                  lambda t: most_clustered(t, "square, short runs", "sine"), Rule.AT_LEAST, 90, 5,
                  "nearly all of them", " %"),
        ),
        ("A20",),
    ),
    Claim(
        "E2-variation", "ours, proved on the page of the paper",
        "In the adaptive regime the slope varies as little as an interpolant's can, and the interpolant is linear "
        "between samples where all such functions are.",
        (
            Check("figE2", "variation of the slope over the least, less 1, at the best scale, most of four data sets",
                  least_variation, Rule.AT_MOST, 0, 0.05, "kernel fits have up to 0.6; steps end at a residual"),
            Check("figE2", "error on the intervals left free over that on the others, runs of two, w = 20",
                  freedom, Rule.AT_LEAST, 10, 0, "two different kinds of intervals"),
        ),
        ("A20",),
    ),
    Claim(
        "E2-regimes", "abstract",
        "The regime depends on the relative magnitude of the layers and on the scaling of the network with its width.",
        (
            Check("figE2", "change of the distance to the cubic spline from one w ≥ 30 to the next, least",
                  lambda t: steps(t, "to_cubic"), Rule.AT_LEAST, 0, 1e-3, "monotone but for the residual"),
            Check("figE2", "turn of the units at m = 25,600, of that at 400, α = √m",
                  lambda t: turned(t, "√m"), Rule.AT_MOST, 0.5, 0, "towards the kernel regime, where they stay"),
            Check("figE2", "the same, α = m",
                  lambda t: turned(t, "m"), Rule.CLOSE_TO, 1, 0.2, "a limit in which units move"),
        ),
        ("A20",),
    ),
)  # fmt: skip

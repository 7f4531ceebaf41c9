"""Numbers read off the tables of figures: what the papers' claims are judged by, and what the pages quote."""

from __future__ import annotations

import numpy as np
import pandas as pd


def sweep_percent(table: pd.DataFrame, part: str = "percent") -> pd.DataFrame:
    """Return a γ sweep with a row for each (ensemble, gamma) and a column for each quantity."""
    return table.pivot(index=["ensemble", "gamma"], columns="quantity", values=part)


def least_excess(table: pd.DataFrame, of: str, over: str) -> float:
    """Return by how many percent one quantity of a sweep exceeds another at least."""
    wide = sweep_percent(table)
    return float((wide[of] - wide[over]).min())


def ensembles_led(table: pd.DataFrame) -> float:
    """Return the share (%) of ensembles in which the proposed method is ahead by more than both intervals somewhere."""
    lead = sweep_percent(table, "ci_low")["proposed"] - sweep_percent(table, "ci_high")["existing"]
    return float(100 * (lead.groupby("ensemble").max() > 0).mean())


def worst_lag(table: pd.DataFrame) -> float:
    """Return by how many percent the proposed method's interval lies below the existing one's at most."""
    return float((sweep_percent(table, "ci_low")["existing"] - sweep_percent(table, "ci_high")["proposed"]).max())


def percent_at(table: pd.DataFrame, condition: str) -> pd.Series:
    """Return the percentages of the rows that meet a condition."""
    return table.query(condition)["percent"]


def crossing(table: pd.DataFrame, n: int, percent: float) -> float:
    """Return the expansivity at which the percentage for n inputs first reaches a value, interpolated."""
    rows = table[table["n"] == n].sort_values("expansivity")
    return float(np.interp(percent, rows["percent"].cummax(), rows["expansivity"]))


def accuracy_lead(table: pd.DataFrame, rival: str) -> pd.Series:
    """Return by how many percent the Hamiltonian network's mean accuracy exceeds a rival's, for each share."""
    means = table.pivot_table(index="share_percent", columns="network", values="test_accuracy")
    return means["hamiltonian"] - means[rival]


def image_errors(table: pd.DataFrame, method: str) -> pd.Series:
    """Return the errors (%) of the images that a method recovers in float64."""
    return table.query("method == @method and dtype == 'float64'")["relative_error_percent"]


def mean_accuracy(table: pd.DataFrame, family: str) -> float:
    """Return the mean test accuracy (%) of a family's seeds."""
    return float(table.query("family == @family")["test_accuracy"].mean())


def certified_percent(table: pd.DataFrame, family: str) -> float:
    """Return the share (%) of a family's units that are certified as invertible, the least of its seeds."""
    rows = table.query("family == @family")
    return float((100 * rows["certified_units"] / rows["units"]).min())


def padding_lead(table: pd.DataFrame) -> float:
    """Return how far (%), at γ = 16, the interval for zeros at one corner lies above that for all sides, at least."""
    rows = table.query("quantity == 'p_matrix' and 15.9 < gamma < 16.1")
    low, high = (rows.pivot(index="ensemble", columns="padding", values=part) for part in ("ci_low", "ci_high"))
    return float((low["one corner"] - high["all sides"]).min())


def tap_disagreements(table: pd.DataFrame) -> float:
    """Return in how many cases, at least, the condition on A₀ and the test of the whole matrix disagree."""
    corner = table[table["padding"] == "one corner"]
    counts = corner.pivot(index=["ensemble", "gamma"], columns="quantity", values="count")
    return float((counts["first_tap"] - counts["p_matrix"]).abs().sum())


def causal_error(table: pd.DataFrame, method: str) -> float:
    """Return the largest error of a method on 28×28 images in float64, with ‖A‖ up to 26."""
    rows = table.query("size == 28 and dtype == 'float64' and norm_A < 26 and method == @method")
    return float(rows["relative_error_max"].max())


def constant_ratio(table: pd.DataFrame) -> float:
    """Return the smallest ratio ‖f(x) − f(x′)‖/‖x − x′‖ seen over any injective layer, in units of its σ."""
    injective = table[table["sigma_lower"] > 0]
    return float((injective["smallest_ratio"] / injective["sigma_lower"]).min())


def branch_excess(table: pd.DataFrame, of: str, over: str) -> pd.Series:
    """Return by how many percent one quantity of random branches exceeds another, by branch, order and γ."""
    wide = table.pivot(index=["branch", "n", "gamma"], columns="quantity", values="percent")
    return (wide[of] - wide[over]).dropna()


def least_branch_excess(table: pd.DataFrame, over: str) -> float:
    """Return by how many percent the share of P-matrices exceeds that of a condition at least."""
    return float(branch_excess(table, "p_matrix", over).min())


def deep_value(table: pd.DataFrame, part: str, case: str, quantity: str, depth: int) -> float:
    """Return one number of deep networks (figE5); NaN where it is not there."""
    rows = table.query("part == @part and case == @case and quantity == @quantity and depth == @depth")
    return float(rows["value"].iloc[0]) if len(rows) else float("nan")


def deep_slope(table: pd.DataFrame, part: str, quantity: str, p: float) -> float:
    """Return the slope of a quantity in the logarithms, from 10³ to 10⁴ layers."""
    rows = table.query("part == @part and quantity == @quantity and p == @p").set_index("depth")["value"]
    return float(np.log10(rows[10_000] / rows[1_000]))


def surest_lead(table: pd.DataFrame, start: str, axis: str) -> float:
    """Return the lower end of a basis-path norm's lead over its best rival (figE4), of the better of its two forms."""
    rows = table.query("part == 'lead' and start == @start and axis == @axis")
    return float(rows.groupby("quantity")["low"].min().max())


def penalty_gain(table: pd.DataFrame, start: str, rivals: tuple[str, ...]) -> float:
    """Return by how many percent the basis-path penalty lowers the test error of the best rival, less 2 SE (figE4)."""
    rows = table.query("part == 'regularised' and quantity == 'test_error' and start == @start")
    wide = rows.pivot(index="seed", columns="case", values="value")
    gain = wide[list(rivals)].mean().min() - wide["basis-path norm"].mean()
    pairs = wide[wide[list(rivals)].mean().idxmin()] - wide["basis-path norm"]
    return float(gain - 2 * pairs.std() / np.sqrt(len(pairs)))


def ten_epochs(table: pd.DataFrame) -> pd.Series:
    """Return the test accuracies (percent) of the networks of paper C that had ten epochs on CIFAR-10 (tableC)."""
    rows = table.query("dataset == 'CIFAR-10' and epochs == 10 and training_images == 50000")
    return rows.groupby("network")["test_accuracy"].mean()

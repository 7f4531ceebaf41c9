"""What paper E3 claims, as far as its abstract and its first author's blog go."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd

from replication.experiments.studies.claims import Check, Claim, Rule

BLOG = "blog of the first author, mostly derived from the paper"


def at(table: pd.DataFrame, part: str, width: float, layer: int, column: str) -> float:
    """Return one number of a part of figE3's table."""
    rows = table[(table["part"] == part) & (table["width"] == width) & (table["layer"] == layer)]
    return float(rows[column].item())


def theory(table: pd.DataFrame, layer: int, column: str = "variance") -> float:
    """Return a number of the theory."""
    return at(table, "theory", math.inf, layer, column)


def deviation(table: pd.DataFrame, layer: int) -> float:
    """Return v in theory."""
    return math.sqrt(theory(table, layer))


def total_off(table: pd.DataFrame) -> float:
    """Return by how many standard errors σ² is off 1 at most, at the layer nearest to N/10 of each width."""
    random = table[table["part"] == "random"]
    depth, near = random["layer"].max(), random["width"] // 10
    row = random[random["layer"] == near.clip(upper=depth - 1)]
    return float(((row["total"] - 1).abs() / row["total_se"]).max())


def published_off(table: pd.DataFrame) -> float:
    """Return by how many percent m/v is off what is read off the published picture, the most of all widths."""
    published = table[table["part"] == "read off"]
    measured = [at(table, "random", row["width"], row["layer"], "ratio") for _, row in published.iterrows()]
    return float((100 * (measured / published["ratio"] - 1).abs()).max())


def least_step(table: pd.DataFrame) -> float:
    """Return by how much m/v at layer 49 grows from one width to the next, and to the theory, at least."""
    random = table[(table["part"] == "random") & (table["layer"] == 49)].sort_values("width")["ratio"].tolist()
    return float(pd.Series([*random, theory(table, 49, "ratio")]).diff().min())


def normalised(table: pd.DataFrame, first: int, last: int) -> pd.Series:
    """Return the sample variance with batch normalisation from one layer to another, all widths."""
    return table[(table["part"] == "batch norm") & table["layer"].between(first, last)]["variance"]


def last_losses(table: pd.DataFrame) -> pd.DataFrame:
    """Return the losses at the end of the trainings, with a row for each rate and seed, a column for each start."""
    trained = table[table["part"] == "training"]
    rows: pd.DataFrame = trained[trained["step"] == trained["step"].max()]
    return rows.pivot(index=["rate", "seed"], columns="initialisation", values="loss")


def best(table: pd.DataFrame, initialisation: str) -> float:
    """Return the mean loss at the end, at the best rate at which no seed diverges."""
    means = last_losses(table)[initialisation].groupby("rate").agg(lambda losses: losses.mean(skipna=False))
    return float(means.min())


def rates_lost(table: pd.DataFrame) -> float:
    """Return at how many rates all seeds diverge from the start that keeps the sample variance, and none from He's."""
    lost = last_losses(table).isna().groupby("rate").mean()
    return float(((lost["sample"] == 1) & (lost["total"] == 0)).sum())


def gap_in_ranges(table: pd.DataFrame) -> float:
    """Return how far batch normalisation is off the total start in units of the larger range of seeds, at any rate."""
    losses = last_losses(table)[["total", "batch norm"]].groupby("rate")
    ranges = (losses.max() - losses.min()).max(axis=1)
    means = losses.mean()
    return float(((means["total"] - means["batch norm"]).abs() / ranges).max())


def map_off(table: pd.DataFrame, form: str) -> float:
    """Return by how many standard errors a form of the map is off the mean of random draws, the most of all values."""
    rows = table[table["part"] == "map"]
    return float(((rows[form] - rows["draws_mean"]).abs() / rows["draws_se"]).max())


CLAIMS = (
    Claim(
        "E3-total", "abstract",
        "Weights that preserve the total variance keep the sum of sample variance and squared sample mean.",
        (
            Check("figE3", "σ² off 1, at layer N/10 (49 at most) of each width, most, in standard errors",
                  total_off, Rule.AT_MOST, 0, 3,
                  "three standard errors; deeper the mean is carried by rare networks"),
        ),
        ("A21",),
    ),
    Claim(
        "E3-decay", "abstract; the numbers by eye off a picture in the blog",
        "At infinite width the sample variance decays with depth although the total variance is preserved.",
        (
            *(
                Check("figE3", f"v at layer {layer} in theory", partial(deviation, layer=layer),
                      Rule.CLOSE_TO, value, 0.01, "what can be read by eye off the picture")
                for layer, value in ((10, 0.36), (20, 0.23), (50, 0.11))
            ),
            Check("figE3", "(1 − c)·l² at layer 10,000 over 9π²/2, which we derive",
                  lambda t: theory(t, 10_000) * 1e8 / (4.5 * math.pi**2),
                  Rule.CLOSE_TO, 1, 0.01, "it is approached as log(l)/l"),
        ),
    ),
    Claim(
        "E3-width", "abstract; the numbers by eye off a picture in the blog",
        "Numerical simulations show the decay at finite width, the nearer to the theory the wider the network.",
        (
            Check("figE3", "m/v at layer 10, N = 1000, over the theory's",
                  lambda t: at(t, "random", 1000, 10, "ratio") / theory(t, 10, "ratio"),
                  Rule.CLOSE_TO, 1, 0.05, "three standard errors of the mean over 16 networks are 4 %"),
            Check("figE3", "growth of m/v at layer 49 from one width to the next and to the theory, least",
                  least_step, Rule.AT_LEAST, 0, 0, "monotone in N"),
            Check("figE3", "m/v at layer 49 off what is read off the published picture, most of four widths",
                  published_off, Rule.AT_MOST, 0, 10, "what can be read by eye, and its scatter over networks", " %"),
        ),
        ("A21",),
    ),
    Claim(
        "E3-batch-norm", "abstract", "Batch normalisation eliminates the decay.",
        (
            Check("figE3", "sample variance before normalisation, layers 1 to 10, largest distance from 1 − 1/π",
                  lambda t: (normalised(t, 1, 10) - (1 - 1 / math.pi)).abs().max(),
                  Rule.AT_MOST, 0, 0.05, "a few percent of 0.68: it rises a little in narrow networks"),
            Check("figE3", "the same, layers 10 to 50, smallest over 1 − 1/π",
                  lambda t: normalised(t, 10, 50).min() / (1 - 1 / math.pi),
                  Rule.AT_LEAST, 1, 0.05, "no decay; it rises with depth over width"),
        ),
        ("A21",),
    ),
    Claim(
        "E3-map", BLOG,
        "m² grows by 1 + (√(1/c² − 1) − arccos c)/π from layer to layer, with c² = m²/(m² + v²).",
        (
            Check("figE3", "the map as printed off a Monte Carlo mean, in standard errors",
                  lambda t: map_off(t, "as_printed"), Rule.AT_MOST, 0, 4, "four standard errors, four values"),
            Check("figE3", "the map with c = m²/(m² + v²), in standard errors",
                  lambda t: map_off(t, "corrected"), Rule.AT_MOST, 0, 4, "four standard errors, four values"),
        ),
    ),
    Claim(
        "E3-impact", "abstract",
        "Preserving the sample variance, not only the total one, can have an impact on training.",
        (
            Check("figE3", "total less batch normalised loss, in ranges of the seeds, largest of three rates",
                  gap_in_ranges, Rule.AT_LEAST, 2, 0, "a gap that the seeds do not explain"),
            Check("figE3", "rates at which keeping the sample variance makes all seeds diverge, and He's start none",
                  rates_lost, Rule.AT_LEAST, 1, 0, "an impact, though not a gain"),
        ),
        ("A21",), dataset="MNIST",
    ),
    Claim(
        "E3-order", "by eye off a picture in the blog, of two convolutional networks",
        "Training is slowest from weights that keep the total variance, faster from those that keep the sample "
        "variance, fastest with batch normalisation.",
        (
            Check("figE3", "total less sample start, loss at the end, each at its best rate",
                  lambda t: best(t, "total") - best(t, "sample"), Rule.AT_LEAST, 0, 0, "the direction alone is asked"),
            Check("figE3", "total start less batch normalisation, the same",
                  lambda t: best(t, "total") - best(t, "batch norm"),
                  Rule.AT_LEAST, 0, 0, "the direction alone is asked"),
        ),
        ("A21",), dataset="MNIST",
    ),
)  # fmt: skip

"""What paper E4 claims, as far as its abstract and recalled facts go, and what is derived here."""

from __future__ import annotations

from functools import partial

import pandas as pd

from replication.experiments.studies.claims import Check, Claim, Rule
from replication.experiments.studies.measures import penalty_gain, surest_lead

RECALLED, DERIVED = "recalled", "derived here"
STARTS = {"he": "He's start", "skeleton": "skeleton at 1"}
AXES = {"mislabelled": "wrong labels", "width": "widths", "seed": "seeds"}


def structure(table: pd.DataFrame, quantity: str) -> pd.Series:
    """Return a number of every small architecture."""
    return table[(table["part"] == "structure") & (table["quantity"] == quantity)].set_index("case")["value"]


def off(quantity: str, table: pd.DataFrame) -> float:
    """Return by how much a number differs from weights less hidden units, at most over the architectures."""
    return float((structure(table, quantity) - structure(table, "expected")).abs().max())


def moves(change: str, measure: str, table: pd.DataFrame) -> float:
    """Return how far a change that leaves the network alone moves a measure, relative to it."""
    rows = table[(table["part"] == "invariance") & (table["case"] == change) & (table["quantity"] == measure)]
    return float(rows["value"].max())


CLAIMS = (
    Claim(
        "E4-basis", "recalled; their number is known from public code",
        "Few basis paths generate all paths: as many as weights less hidden units.",
        (
            Check("figE4", "rank of all enumerated paths less (weights − hidden units), most of ten architectures",
                  partial(off, "rank"), Rule.CLOSE_TO, 0, 0, "a number"),
            Check("figE4", "paths in the basis less (weights − hidden units), most of ten architectures",
                  partial(off, "basis"), Rule.CLOSE_TO, 0, 0, "a number"),
            Check("figE4", "largest relative error of a path rebuilt from the basis",
                  lambda t: structure(t, "rebuild_error").max(), Rule.AT_MOST, 0, 1e-12, "rounding in float64"),
        ),
        ("A22",),
    ),
    Claim(
        "E4-invariant", RECALLED,
        "Positive rescaling of hidden units leaves the basis-path norm alone, and not the L2 and the spectral norm.",
        (
            Check("figE4", "relative change of the basis-path norm, most of 20 rescalings",
                  partial(moves, "rescaled", "basis_sup"), Rule.AT_MOST, 0, 1e-12, "rounding in float64"),
            *(
                Check("figE4", f"relative change of the {words}, most of 20 rescalings",
                      partial(moves, "rescaled", measure), Rule.AT_LEAST, 0.1, 0, "far beyond rounding")
                for measure, words in (("l2", "L2 norm"), ("spectral", "product of spectral norms"))
            ),
        ),
        ("A22",),
    ),
    Claim(
        "E4-order", DERIVED,
        "Another order of hidden units, which leaves the network alone, changes the basis-path norm, no path norm.",
        (
            Check("figE4", "relative change of the basis-path norm, most of 20 orders",
                  partial(moves, "permuted", "basis_sup"), Rule.AT_LEAST, 0.1, 0, "far beyond rounding"),
            Check("figE4", "relative change of the path norm, most of 20 orders",
                  partial(moves, "permuted", "path_l1"), Rule.AT_MOST, 0, 1e-12, "rounding in float64"),
        ),
        ("A22",),
    ),
    Claim(
        "E4-explains", RECALLED,
        "The basis-path norm explains the generalisation of networks better than other norms.",
        tuple(
            Check("figE4", f"{axis}, {start}: lead over the best rival, lower end",
                  partial(surest_lead, start=key, axis=place), Rule.AT_LEAST, 0, 0,
                  "in rank correlation with the gap, a bootstrap interval of 95 %")
            for place, axis in AXES.items() for key, start in STARTS.items()
        ),
        ("A22",), dataset="MNIST",
    ),
    Claim(
        "E4-regularises", RECALLED,
        "Training with the basis-path norm as penalty lowers the test error more than other penalties.",
        tuple(
            Check("figE4", f"{start}: mean gain over {words}, less two standard errors",
                  partial(penalty_gain, start=key, rivals=rivals), Rule.AT_LEAST, 0, 0,
                  "two standard errors of three seeds", " %")
            for key, start in STARTS.items()
            for words, rivals in (("plain SGD", ("SGD",)), ("the best other penalty", ("L2", "path norm")))
        ),
        ("A22",), dataset="MNIST",
    ),
)  # fmt: skip

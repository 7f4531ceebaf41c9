"""What paper E5 claims, as far as its abstracts go, and what is proved here of its conditions."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd

from replication.experiments.studies.claims import Check, Claim, Rule
from replication.experiments.studies.measures import deep_slope, deep_value

ABSTRACT, DERIVED = "abstract", "derived here"
LAST = 10_000  # layers of the longest networks


def limit_of(case: str, quantity: str, table: pd.DataFrame) -> float:
    """Return what a quantity of a network has come to at the largest depth."""
    return deep_value(table, "cases", case, quantity, LAST)


def layers_off(case: str, table: pd.DataFrame) -> float:
    """Return ‖W − I‖ + ‖b‖ of a network's last layer."""
    return limit_of(case, "distance", table) + limit_of(case, "bias", table)


def tail_ratio(table: pd.DataFrame) -> float:
    """Return the largest distance from the limit over the tail of the sum, at the largest depth."""
    rows = table[(table["part"] == "sufficient") & (table["depth"] == LAST)].pivot(
        index="p", columns="quantity", values="value"
    )
    return float((rows["error"] / rows["tail"]).max())


def moved(p: float, table: pd.DataFrame) -> float:
    """Return how far random networks move in the last tripling of their depth, over the same at 27 layers."""
    rows = table[(table["part"] == "random") & (table["p"] == p) & (table["quantity"] == "change")]
    values = rows.set_index("depth")["value"]
    return float(values[values.index.max()] / values[27])


def literal(case: str, words: str) -> tuple[Check, Check]:
    """Return the checks of a network that converges: that it does, and that its layers approach the identity."""
    return (
        Check("figE5", f"{words}: last change of the outputs, relative to the inputs",
              partial(limit_of, case, "change"), Rule.AT_MOST, 0, 1e-12, "rounding"),
        Check("figE5", f"{words}: ‖W − I‖ + ‖b‖ of the last layer",
              partial(layers_off, case), Rule.AT_MOST, 0, 1e-2, "below a hundredth after 10⁴ layers"),
    )  # fmt: skip


CLAIMS = (
    Claim(
        "E5-explicit", ABSTRACT,
        "A deep ReLU network has an explicit expression by a product of activation matrices.",
        (
            Check("figE5", "largest relative difference from the forward pass, 50 layers",
                  lambda t: deep_value(t, "explicit", "random networks", "relative_error", 50),
                  Rule.AT_MOST, 0, 1e-12, "rounding of 50 products in float64"),
        ),
        ("A23",),
    ),
    Claim(
        "E5-sufficient", "abstract; the condition itself is recalled",
        "Networks of one width converge pointwise if Σ‖Wₙ − I‖ and Σ‖bₙ‖ are finite.",
        (
            *(
                Check("figE5", f"slope of the distance from exp(S·ζ(p))·relu(x), p = {p:g}, 10³ to 10⁴ layers",
                      partial(deep_slope, part="sufficient", quantity="error", p=p),
                      Rule.CLOSE_TO, 1 - p, 0.05, "the next order of n^{1−p} still bends the line at p = 1.5")
                for p in (1.5, 2.0, 3.0)
            ),
            Check("figE5", "distance from the limit over ‖S‖·Σ i^{−p} past 10⁴ layers, most",
                  tail_ratio, Rule.AT_MOST, 1, 1, "twice the tail bounds it to first order"),
        ),
        ("A23",),
    ),
    Claim(
        "E5-necessary", ABSTRACT, "If deep ReLU networks converge, then Wₙ → I and bₙ → 0.",
        (
            *literal("invertible limit", "network made from outputs with an invertible limit")[1:],
            *literal("W = ½I", "W = ½I"),
            *literal("W = projection", "W = projection"),
            *literal("W = I, b = −0.1", "W = I, b = −0.1"),
        ),
        ("A23",),
    ),
    Claim(
        "E5-qualified", DERIVED,
        "With an invertible limit on a piece where all units are active, Wₙ → I and bₙ → 0; if Wₙ stays off I, "
        "outputs may go on changing.",
        (
            literal("invertible limit", "network made from outputs with an invertible limit")[1],
            Check("figE5", "W = permutation: last change of the outputs, relative to the inputs",
                  partial(limit_of, "W = permutation", "change"), Rule.AT_LEAST, 0.1, 0, "it does not converge"),
        ),
        ("A23",),
    ),
    Claim(
        "E5-boundary", DERIVED, "At p = 1 networks with Wₙ = exp(S·n^{−p}) grow like n to the spectral radius of S.",
        (
            Check("figE5", "slope of the size of the outputs, 10³ to 10⁴ layers",
                  partial(deep_slope, part="boundary", quantity="norm", p=1.0),
                  Rule.CLOSE_TO, 1.2, 0.012, "1 % of the spectral radius"),
        ),
        ("A23",),
    ),
    Claim(
        "E5-neither", DERIVED, "Wₙ → I and bₙ → 0 are not sufficient, and a finite Σ‖Wₙ − I‖ is not necessary.",
        (
            Check("figE5", "W = (1 + 1/n)I: size of the outputs after 10⁴ layers, relative to the inputs",
                  partial(limit_of, "W = (1 + 1/n)I", "norm"), Rule.CLOSE_TO, LAST + 1, 1e-6, "rounding"),
            Check("figE5", "W = (1 + (−1)ⁿ/(n+1))I, where the sum is infinite: size of the outputs after 10⁴ layers",
                  partial(limit_of, "W = (1 + (−1)ⁿ/(n+1))I", "norm"),
                  Rule.CLOSE_TO, 0.5, 1e-4, "the product is within 1/(2n) of its limit"),
            Check("figE5", "W = (1 + 1/n²)I: size of the outputs after 10⁴ layers",
                  partial(limit_of, "W = (1 + 1/n²)I", "norm"),
                  Rule.CLOSE_TO, math.sinh(math.pi) / math.pi, 1e-3, "the tail of the product: 4/n"),
            Check("figE5", "W = I + G/n, where the sum is infinite: last move of the outputs over that at 27 layers",
                  partial(moved, 1.0), Rule.AT_MOST, 0, 0.1, "the move falls like n^{−½}: by 0.064 from 27 to 6561"),
        ),
        ("A23",),
    ),
    Claim(
        "E5-initialisation", "abstract of the published version (recalled)",
        "The conditions are of use in initialising deep networks.",
        untested="reported only, on the page of this paper: the experiment is ours, and there is nothing to hold it to",
    ),
)  # fmt: skip

"""What companion E1 claims, as far as its abstract and the theorems seen in public places go."""

from __future__ import annotations

import numpy as np
import pandas as pd

from replication.experiments.studies.claims import Check, Claim, Rule

SHALLOW, DEEP = "kind == 'network' and hidden_layers == 1", "kind == 'network' and hidden_layers == 2"


def exponents(table: pd.DataFrame) -> tuple[float, float]:
    """Return the exponents of inputs and of units in the queries, one hidden layer, by least squares."""
    part = table.query(SHALLOW)
    widths = part["widths"].str.split("-", expand=True).astype(float)
    design = np.column_stack([np.log(widths[0]), np.log(widths[1]), np.ones(len(part))])
    solution = np.linalg.lstsq(design, np.log(part["queries"].astype(float)), rcond=None)[0]
    return float(solution[0]), float(solution[1])


def flagged(table: pd.DataFrame) -> float:
    """Return the share of networks, wrong by more than 1e-6 at test points, that the recovery calls wrong."""
    part = table.query("kind != 'crossing' and function_error > 1e-6")
    return 1.0 if part.empty else float((~part["whole"].astype(bool)).mean())


def least_recovered(table: pd.DataFrame) -> float:
    """Return the least share of networks of one architecture with two hidden layers all of whose weights came out."""
    part = table.query(DEEP)
    right = part["architecture_exact"].astype(bool) & (part["weight_error"] <= 1e-6) & (part["function_error"] <= 1e-6)
    return float(right.groupby(part["widths"]).mean().min())


ROUNDING = "finite differences of pieces reach 10⁻⁹ in float64; three decades of margin"
CLAIMS = (
    Claim(
        "E1-recovered", "abstract",
        "Architecture, weights and biases are found from the outputs, up to the order and scale of units.",
        (
            Check("figE1", "largest error of a weight or bias, one hidden layer, all units",
                  lambda t: t.query(SHALLOW)["weight_error"].max(), Rule.AT_MOST, 0, 1e-6, ROUNDING),
            Check("figE1", "largest error of the function, one hidden layer",
                  lambda t: t.query(SHALLOW)["function_error"].max(), Rule.AT_MOST, 0, 1e-8, ROUNDING),
        ),
        ("A18", "A19"),
    ),
    Claim(
        "E1-bends", "theorem 1",
        "A boundary bends exactly where it meets one of an earlier layer; those of one layer go straight on.",
        (
            Check("figE1", "largest error of the angle between a second-layer boundary's arms (radians)",
                  lambda t: t.query("layers == '1-2'")["angle_error"].max(), Rule.AT_MOST, 0, 1e-6, ROUNDING),
            Check("figE1", "smallest such angle (radians)",
                  lambda t: t.query("layers == '1-2'")["angle"].min(), Rule.AT_LEAST, 1e-5, 0,
                  "ten times what counts as straight"),
            Check("figE1", "largest angle where two first-layer boundaries cross (radians)",
                  lambda t: t.query("layers == '1-1'")["angle"].max(), Rule.AT_MOST, 0, 1e-6, ROUNDING),
        ),
        ("A19",),
    ),
    Claim(
        "E1-architecture", "abstract", "The numbers of units of the layers are found.",
        (
            Check("figE1", "networks with one hidden layer whose widths are exact",
                  lambda t: 100 * t.query(SHALLOW)["architecture_exact"].astype(bool).mean(),
                  Rule.AT_LEAST, 100, 0, "a width is right or wrong", " %"),
            Check("figE1", "networks with two hidden layers all of whose first layer is found",
                  lambda t: 100 * (t.query(DEEP)["first_layer_found"] == 1).mean(),
                  Rule.AT_LEAST, 100, 0, "a unit is found or not", " %"),
        ),
        ("A18", "A19"),
    ),
    Claim(
        "E1-often", "abstract", "Deep networks can often be recovered, not always.",
        (
            Check("figE1", "share of networks with two hidden layers recovered whole, least of the architectures",
                  least_recovered, Rule.AT_LEAST, 0.8, 0, "“often”: at least 8 of 10 seeds"),
            Check("figE1", "share of wrong networks that the self-check flags",
                  flagged, Rule.AT_LEAST, 1, 0, "a wrong network must never pass for the right one"),
        ),
        ("A18", "A19"),
    ),
    Claim(
        "E1-trained", "experiments (second-hand)", "Trained networks are recovered too (there on MNIST).",
        (
            Check("figE1", "largest error of the function, networks trained on 8×8 digits",
                  lambda t: t.query("kind == 'trained'")["function_error"].max(), Rule.AT_MOST, 0, 1e-6,
                  "as for random networks with two hidden layers"),
            Check("figE1", "of these, networks whose widths are exact",
                  lambda t: 100 * t.query("kind == 'trained'")["architecture_exact"].astype(bool).mean(),
                  Rule.AT_LEAST, 100, 0, "a width is right or wrong", " %"),
        ),
        ("A18", "A19"),
    ),
    Claim(
        "E1-queries", "section on queries (second-hand)",
        "The first layer takes O(n_in·n₁·log n₁) queries.",
        (
            Check("figE1", "exponent of the number of inputs", lambda t: exponents(t)[0], Rule.AT_MOST, 1, 0.1,
                  "the spread of the fit"),
            Check("figE1", "exponent of the number of units", lambda t: exponents(t)[1], Rule.AT_MOST, 1, 0.3,
                  "the logarithm from 10 to 80 units adds about 0.3"),
            Check("figE1", "most queries for each parameter, one hidden layer",
                  lambda t: (t.query(SHALLOW)["queries"] / t.query(SHALLOW)["parameters"]).max(),
                  Rule.AT_MOST, 45, 0, "a budget set beforehand"),
        ),
        ("A18",),
    ),
)  # fmt: skip

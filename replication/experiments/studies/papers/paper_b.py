"""What paper B claims, as far as its abstract, captions and recalled facts go."""

from __future__ import annotations

from functools import partial

from replication.experiments.studies.claims import Check, Claim, Rule
from replication.experiments.studies.measures import (
    causal_error,
    certified_percent,
    least_excess,
    padding_lead,
    percent_at,
    tap_disagreements,
)
from replication.experiments.studies.papers.reasons import RECOVERED

CLAIMS = (
    Claim(
        "B-condition", "abstract",
        "A necessary and sufficient condition decides whether a block with one ReLU layer is invertible.",
        (
            Check("fig6", "cases, h = d = 10, that are neither certified nor shown to collide, most at any γ",
                  lambda t: percent_at(t, "quantity == 'unknown'").max(),
                  Rule.AT_MOST, 0, 0.2, "one case of 500 may lie within rounding of the border", " %"),
            Check("fig3", "recovered by the exact inverse less certified as P-matrix, least of all ensembles and γ",
                  lambda t: least_excess(t, "exact", "p_matrix"), Rule.AT_LEAST, 0, 0.2, "one case of 500", " %"),
        ),
        ("A2", "A3"),
    ),
    Claim(
        "B-padding", "abstract",
        "Convolutional blocks are invertible under weak conditions with certain zero padding.",
        (
            Check("figB1", "lead of zeros at one corner in invertible blocks, γ = 16, least of four shapes",
                  padding_lead, Rule.AT_LEAST, 0, 0, "clear of both intervals, which hold the uncertainty", " %"),
            Check("figB1", "cases in which the condition on A₀ alone and the test of the whole matrix disagree",
                  tap_disagreements, Rule.AT_MOST, 0, 3, "1 in 10,000 may lie within rounding of the border"),
            Check("table1", "causal units of trained networks certified, least of three seeds",
                  lambda t: certified_percent(t, "causal"),
                  Rule.AT_LEAST, 100, 0, "every one", " %"),
        ),
        ("A7", "A9"),
    ),
    Claim(
        "B-algorithms", "abstract", "Inverse algorithms for such blocks, shown effective by experiment.",
        (
            *(
                Check("figB2", f"largest error of {method}, 28×28 images, ‖A‖ up to 25",
                      partial(causal_error, method=method), Rule.AT_MOST, 0, 1e-6, RECOVERED)
                for method in ("substitution", "jacobi", "newton")
            ),
            Check("figB3", "largest error over 1000 digits through a trained network and back, by substitution",
                  lambda t: t.query("network == 'causal' and method == 'substitution'")["relative_error_percent"].max(),
                  Rule.AT_MOST, 0, 1e-4, RECOVERED, " %"),
        ),
        ("A7", "A8"),
    ),
)  # fmt: skip

"""What is claimed beyond the papers."""

from __future__ import annotations

from functools import partial

from replication.experiments.studies.claims import Check, Claim, Rule
from replication.experiments.studies.measures import branch_excess, least_branch_excess
from replication.experiments.studies.papers.reasons import INTERVAL

CLAIMS = (
    Claim(
        "ours-sound", "ours, not a paper's", "No condition certifies a branch that is no P-matrix in its slopes.",
        tuple(
            Check("fig9", f"P-matrices less those that are {words}, order 10, least of all branches and γ",
                  partial(least_branch_excess, over=condition),
                  Rule.AT_LEAST, 0, 0, "a proof allows no exception", " %")
            for condition, words in (("lipschitz", "Lipschitz"), ("monotone", "monotone"), ("h_matrix", "H-matrices"))
        ),
        ("A3", "A17"),
    ),
    Claim(
        "ours-stable", "ours, not a paper's",
        "Diagonal stability certifies nearly every branch of order 10 that has a P-matrix, at any depth.",
        (
            Check("fig9", "P-matrices less diagonally stable ones, most of all branches and γ",
                  lambda t: branch_excess(t, "p_matrix", "diagonal_stability").max(),
                  Rule.AT_MOST, 0, 10, "one case in ten is what “nearly” leaves", " %"),
            Check("fig9", "diagonally stable cases less monotone ones, most, least of all branches",
                  lambda t: branch_excess(t, "diagonal_stability", "monotone").groupby("branch").max().min(),
                  Rule.AT_LEAST, 20, 0, "a lead that no interval explains", " %"),
        ),
        ("A3", "A17"),
    ),
    Claim(
        "ours-newton", "ours, not a paper's",
        "Newton's method with GMRES brings back as many branches as have P-matrices, and more than the fixed point.",
        (
            Check("fig9", "recovered by Newton with GMRES less P-matrices, order 10, least of all branches and γ",
                  lambda t: branch_excess(t, "newton_gmres", "p_matrix").min(),
                  Rule.AT_LEAST, 0, 0.8, INTERVAL, " %"),
            Check("fig9", "recovered by Newton with GMRES less by the fixed point, most, least of all branches",
                  lambda t: branch_excess(t, "newton_gmres", "existing").groupby("branch").max().min(),
                  Rule.AT_LEAST, 20, 0, "a lead that no interval explains", " %"),
        ),
        ("A3", "A4", "A17"),
    ),
)  # fmt: skip

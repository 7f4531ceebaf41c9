"""What is claimed beyond the papers."""

from __future__ import annotations

from functools import partial

import pandas as pd

from replication.experiments.studies.claims import Check, Claim, Rule
from replication.experiments.studies.measures import branch_excess, least_branch_excess
from replication.experiments.studies.papers.reasons import INTERVAL


def percent_of_blocks(table: pd.DataFrame, network: str, condition: str) -> float:
    """Return the share (%) of the blocks of a network of fig10 for which a condition holds."""
    blocks = table[table["network"] == network]
    return 100 * len(blocks.query(condition)) / len(blocks)


def accuracy_lost(table: pd.DataFrame) -> float:
    """Return by how much (%) the penalty lowers the test accuracy of fig10's network."""
    accuracy = table.groupby("network")["test_accuracy"].first()
    return float(accuracy["plain"] - accuracy["penalised"])


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
    Claim(
        "ours-folds", "ours, not a paper's",
        "Trained residual blocks with free kernels fold: two inputs with the same output are found for each unit of "
        "the standard network, and for most blocks of two ReLU layers.",
        (
            Check("fig10", "units of the standard network for which two such inputs are found",
                  partial(percent_of_blocks, network="standard", condition="verdict == 'not invertible'"),
                  Rule.AT_LEAST, 100, 0, "every unit is claimed", " %"),
            Check("fig10", "blocks of two ReLU layers for which they are",
                  partial(percent_of_blocks, network="plain", condition="verdict == 'not invertible'"),
                  Rule.AT_LEAST, 50, 0, "what “most” asks for", " %"),
            Check("fig10", "distance of the outputs, relative to that of the inputs, largest",
                  lambda t: t["gap"].max(), Rule.AT_MOST, 0, 1e-9, "what is wanted of float64"),
            Check("fig10", "processor time of a search, longest",
                  lambda t: t.query("verdict == 'not invertible'")["cpu_seconds"].max(),
                  Rule.AT_MOST, 60, 0, "what is wanted", " s"),
        ),
        dataset="MNIST",
    ),
    Claim(
        "ours-penalty", "ours, not a paper's",
        "Trained with the penalty, the same blocks of two ReLU layers are certified by a condition that is not "
        "Lipschitz, give all images back, and classify nearly as well.",
        (
            Check("fig10", "blocks certified by a condition that is not Lipschitz",
                  partial(percent_of_blocks, network="penalised",
                          condition="verdict == 'invertible' and condition != 'lipschitz' and norms > 1"),
                  Rule.AT_LEAST, 100, 0, "every block is claimed", " %"),
            Check("fig10", "images brought back to 1e-8",
                  lambda t: (100 * t["recovered"] / t["images"]).dropna().min(),
                  Rule.AT_LEAST, 100, 0, "every image is claimed", " %"),
            Check("fig10", "test accuracy with the penalty",
                  lambda t: t.query("network == 'penalised'")["test_accuracy"].min(),
                  Rule.AT_LEAST, 99.2, 0, "what is wanted", " %"),
            Check("fig10", "test accuracy that the penalty costs", accuracy_lost,
                  Rule.AT_MOST, 0, 0.3, "what is wanted", " %"),
        ),
        dataset="MNIST",
    ),
    Claim(
        "ours-branches", "ours, not a paper's",
        "Below norm 1 every random branch of eight kinds comes back to 1e-9, in a like number of evaluations as by the "
        "fixed point, and chains of ten lose no more than rounding times their conditions.",
        (
            Check("bench_branches", "rows brought back to 1e-9, least of kinds and methods",
                  lambda t: t["recovered_percent"].min(), Rule.AT_LEAST, 100, 0, "every row is claimed", " %"),
            Check("bench_branches", "evaluations of Newton with GMRES over the fixed point's, most of kinds",
                  lambda t: t.query("method == 'newton_gmres'")["evaluations_ratio"].max(),
                  Rule.AT_MOST, 3, 0, "what is wanted"),
            Check("bench_branches", "error of chains over ε times the product of conditions, largest",
                  lambda t: t.query("method == 'newton_gmres'")["chain_rounding_max"].max(),
                  Rule.AT_MOST, 100, 0, "what is wanted"),
        ),
        ("A4", "A17"),
    ),
)  # fmt: skip

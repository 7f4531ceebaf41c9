"""What the papers claim, as far as their abstracts, captions and recalled facts go, and what is claimed beyond them.

A module for each paper; a new claim is one more `Claim` in its CLAIMS, whose measures take the table of the figure that
the check names.
"""

from __future__ import annotations

from replication.experiments.studies.papers import (
    ours,
    paper_a,
    paper_b,
    paper_c,
    paper_d,
    paper_e1,
    paper_e2,
    paper_e3,
    paper_e4,
    paper_e5,
)

PAPERS = {  # the papers by letter, and what is ours
    "A": "Wang, An, Liu, Li: Fixed-point algorithms for inverse of residual rectifier neural networks (2021)",
    "B": "Wang, An, Liu, Li: Invertible residual blocks in deep learning networks (2024)",
    "C": "Chang, Meng, Haber, Ruthotto, Begert, Holtham: Reversible architectures for arbitrarily deep residual neural "
    "networks (2018)",
    "D": "Puthawala, Kothari, Lassas, Dokmanić, de Hoop: Globally injective ReLU networks (2022)",
    "E1": "Rolnick, Kording: Reverse-engineering deep ReLU networks (2020)",
    "E2": "Williams and others: Gradient dynamics of shallow univariate ReLU networks (2019)",
    "E3": "Luther, Seung: Sample variance decay in randomly initialized ReLU networks (2019)",
    "E4": "Zheng and others: Capacity control of ReLU neural networks by basis-path norm (2019)",
    "E5": "Xu, Zhang: Convergence of deep ReLU networks (2021)",
    "ours": "Any residual map: no paper has it",
    "speed": "How fast the inverses are",
}
OURS = ("fig9", "fig10", "bench_branches")


def paper_of(figure: str) -> str:
    """Return the letter of the paper that a figure belongs to, by its name, or that it is ours.

    >>> [paper_of(name) for name in ("fig1", "table1", "figB2", "tableC", "fig9", "bench_solvers")]
    ['A', 'A', 'B', 'C', 'ours', 'speed']
    """
    if figure in OURS:
        return "ours"
    if figure.startswith("bench"):
        return "speed"
    place = figure.removeprefix("fig").removeprefix("table")
    return next((letter for letter in PAPERS if place.startswith(letter)), "A")


CLAIMS = (
    *paper_a.CLAIMS,
    *paper_b.CLAIMS,
    *paper_c.CLAIMS,
    *paper_d.CLAIMS,
    *paper_e1.CLAIMS,
    *paper_e2.CLAIMS,
    *paper_e3.CLAIMS,
    *paper_e4.CLAIMS,
    *paper_e5.CLAIMS,
    *ours.CLAIMS,
)

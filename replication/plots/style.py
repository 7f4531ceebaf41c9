"""One look for all figures: the style file, and a colour, line and label for every method and condition."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

STYLE_FILE = Path(__file__).with_name("replication.mplstyle")

# Okabe and Ito's palette, told apart with every kind of colour vision
COLOURS = {
    "existing": "#D55E00",
    "proposed": "#0072B2",
    "exact": "#009E73",
    "lcp_lemke": "#CC79A7",
    "chebyshev": "#009E73",
    "anderson": "#CC79A7",
    "newton_cg": "#E69F00",
    "substitution": "#009E73",
    "jacobi": "#CC79A7",
    "newton": "#E69F00",
    "lipschitz": "#E69F00",
    "monotone": "#56B4E9",
    "p_matrix": "#000000",
    "hamiltonian": "#0072B2",
    "midpoint": "#009E73",
    "leapfrog": "#E69F00",
    "revnet": "#CC79A7",
    "resnet": "#D55E00",
    "stored": "#D55E00",
    "reversible": "#0072B2",
    "revtorch": "#CC79A7",
    "plain": "#999999",
    "text": "#333333",
}
LABELS = {
    "existing": "existing method (Banach)",
    "proposed": "proposed method (modulus)",
    "exact": "exact (Newton and pivoting)",
    "lcp_lemke": "QuantEcon's lcp_lemke",
    "chebyshev": "Chebyshev semi-iteration",
    "anderson": "Anderson acceleration",
    "newton_cg": "Newton, conjugate gradients",
    "substitution": "substitution, pixel by pixel",
    "jacobi": "block Jacobi, whole image",
    "newton": "Newton, whole image",
    "lipschitz": "condition: ‖A‖ < 1",
    "monotone": "condition: λmin(sym A) > −1",
    "p_matrix": "the truth: I + A is a P-matrix",
    "hamiltonian": "Hamiltonian",
    "midpoint": "midpoint",
    "leapfrog": "leapfrog",
    "revnet": "RevNet",
    "resnet": "ResNet",
    "stored": "activations stored",
    "reversible": "activations recomputed",
    "revtorch": "revtorch",
}
LINES = {"existing": "-", "proposed": "-", "exact": "-", "lipschitz": ":", "monotone": "--", "p_matrix": "-."}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the look of this package."""
    with mpl.rc_context(fname=str(STYLE_FILE)):
        yield

"""One look for all figures: the style file, and a colour, line and label for every method and condition."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

mpl.use("Agg")

STYLE_FILE = Path(__file__).with_name("replication.mplstyle")
TITLE_SIZE = 9.5  # points
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
LETTER = 0.55  # mean width of a letter of the font, in its size: rather too much than too little

# Okabe and Ito's palette, told apart with every kind of colour vision
COLOURS = {
    "existing": "#D55E00",
    "proposed": "#0072B2",
    "exact": "#009E73",
    "lcp_lemke": "#CC79A7",
    "substitution": "#009E73",
    "lipschitz": "#E69F00",
    "monotone": "#56B4E9",
    "h_matrix": "#0072B2",
    "diagonal_stability": "#009E73",
    "p_matrix": "#000000",
    "hamiltonian": "#0072B2",
    "midpoint": "#009E73",
    "leapfrog": "#E69F00",
    "revnet": "#CC79A7",
    "resnet": "#D55E00",
    "resnet-longer": "#999999",
    "stored": "#D55E00",
    "reversible": "#0072B2",
    "revtorch": "#CC79A7",
    "plain": "#999999",
    "text": "#333333",
}
LABELS = {
    "lcp_lemke": "QuantEcon's lcp_lemke",
    "lipschitz": "condition: ‖A‖ < 1",
    "monotone": "condition: λmin(sym A) > −1",
    "p_matrix": "the truth: I + A is a P-matrix",
    "hamiltonian": "Hamiltonian",
    "midpoint": "midpoint",
    "leapfrog": "leapfrog",
    "revnet": "RevNet",
    "resnet": "ResNet",
    "resnet-longer": "ResNet, as long in time",
    "stored": "activations stored",
    "reversible": "activations recomputed",
    "revtorch": "revtorch",
}
LINES = {"lipschitz": ":", "monotone": "--", "p_matrix": "-."}
SOLVERS = {  # by class: label and colour; a colour stands for two methods where no figure has both
    "Banach": ("existing method (Banach)", COLOURS["existing"]),
    "Modulus": ("proposed method (modulus)", COLOURS["proposed"]),
    "Exact": ("exact (Newton and pivoting)", COLOURS["exact"]),
    "Newton": ("Newton alone", "#CC79A7"),
    "Pivoting": ("pivoting (Murty)", "#999999"),
    "Chebyshev": ("Chebyshev semi-iteration", "#009E73"),
    "Anderson": ("Anderson acceleration", "#CC79A7"),
    "NewtonCG": ("Newton, conjugate gradients", "#E69F00"),
    "ResidualFlowPeer": ("normflows' residual block", "#E69F00"),
    "NewtonGMRES": ("Newton with GMRES", "#CC79A7"),
    "Substitution": ("substitution, pixel by pixel", COLOURS["substitution"]),
    "Jacobi": ("block Jacobi, whole image", "#CC79A7"),
    "NewtonSubstitution": ("Newton, whole image", "#E69F00"),
    "Auto": ("method that suits the unit", "#56B4E9"),
}
SPARE = (
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#8C564B",
    "#7F7F00",
    "#6A3D9A",
    "#999999",
)  # for what has no colour of its own


@dataclass(frozen=True)
class Method:
    """How a method appears in a picture."""

    label: str
    colour: str


def methods(solvers: Mapping[str, Any], beside: Iterable[Method] = ()) -> dict[str, Method]:
    """Return how the solvers of a configuration appear, by their keys: named by what they are, told apart by colour.

    Args:
        solvers: their settings by key.
        beside: what else is in the picture.
    """
    found: dict[str, Method] = {}
    for key, settings in solvers.items():
        kind = settings["_target_"].rpartition(".")[2] if isinstance(settings, Mapping) else ""
        if not kind:
            continue  # an option such as _convert_
        label, colour = SOLVERS.get(kind, (kind, SPARE[0]))
        taken = {method.colour for method in (*found.values(), *beside)}
        if label in {method.label for method in found.values()}:
            label = f"{label}, {key}"
        found[key] = Method(label, next((one for one in (colour, *SPARE) if one not in taken), colour))
    return found


def named(names: Iterable[object]) -> dict[str, Method]:
    """Return how networks or implementations appear, by their names; one that is not known keeps its name."""
    known = [str(name) for name in names]
    spare = iter(SPARE * len(known))
    return {name: Method(LABELS.get(name, name), COLOURS[name] if name in COLOURS else next(spare)) for name in known}


def caption(figure: Figure, text: str) -> None:
    """Write a title above the panels, in as many lines as the figure's width asks for: beyond two it grows by them."""
    lines = wrapped(text, figure.get_figwidth(), TITLE_SIZE)
    figure.set_figheight(figure.get_figheight() + 1.25 * TITLE_SIZE / 72 * max(0, len(lines) - 2))
    figure.suptitle("\n".join(lines), fontsize=TITLE_SIZE)


def wrapped(text: str, width: float, size: float) -> list[str]:
    """Return the lines of a text that fit into a width (inches) at a size (points), of about one length."""
    most = max(12, int(72 * (width - 0.2) / (LETTER * size)))
    return [line for part in text.split("\n") for line in balanced(part, most)]


def balanced(text: str, most: int) -> list[str]:
    """Return a text in as few lines of at most so many letters as there can be, of about one length."""
    lines = [textwrap.wrap(text, letters, break_long_words=False) for letters in range(most, 11, -1)]
    return [fitting for fitting in lines if len(fitting) == len(lines[0])][-1] or [""]


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], most: int = 3) -> None:
    """Draw a legend below the panels, in up to `most` columns, fewer where the figure is narrow.

    Beyond three rows the figure grows by them.
    """
    size = mpl.rcParams["legend.fontsize"]
    column = (max(map(len, labels), default=1) * LETTER + 5) * size / 72
    columns = max(1, min(most, int((figure.get_figwidth() - 0.2) / column)))
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 1.5 * size / 72 * max(0, rows - 3))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def scientific(value: float) -> str:
    """Write a number like 3.1·10⁻¹¹."""
    if value == 0 or not np.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    if -2 <= int(exponent) <= 2:
        return f"{value:.2g}"
    superscript = str(int(exponent)).translate(RAISED)
    return f"10{superscript}" if mantissa == "1.0" else f"{mantissa}·10{superscript}"


@contextmanager
def style() -> Iterator[None]:
    """Draw, or write, in the look of this package, whatever a matplotlibrc of the user's says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rc_file(STYLE_FILE, use_default_template=False)
        yield

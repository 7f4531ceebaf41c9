"""Sentences with mathematics in characters that every terminal and every pipe can take."""

from __future__ import annotations

import io
import re
import sys
import unicodedata

SIGNS = {
    "‖": "||", "·": "*", "×": "x", "≤": "<=", "≥": ">=", "⪰": ">=", "≠": "!=", "−": "-", "–": "-", "√": "sqrt ",
    "⟨": "<", "⟩": ">", "∗": "*", "∘": " o ", "∈": " in ", "∞": "inf", "±": "+-", "→": "->", "↦": "->", "∂": "d",
    "α": "alpha", "γ": "gamma", "Λ": "Lambda", "ε": "eps", "κ": "kappa", "λ": "lambda", "σ": "sigma", "Σ": "sum ",
}  # fmt: skip
RAISED = re.compile("[⁰¹²³⁴-ⁿᵀ]+")


def plain(text: str) -> str:
    """Return a text in ASCII, its mathematical signs in words or in signs that are there.

    >>> plain("‖W₁‖·‖W₂‖ ≤ 3·10⁻⁶ and A = W₁W₁ᵀ, λ = −1")
    '||W1||*||W2|| <= 3*10^-6 and A = W1W1^T, lambda = -1'
    """
    text = RAISED.sub(lambda found: "^" + found[0], text)
    text = "".join(SIGNS.get(sign, sign) for sign in unicodedata.normalize("NFKC", text))
    return text.encode("ascii", "backslashreplace").decode()


def take_any_character() -> None:
    """Let what is printed from now on show ? for what the terminal or the pipe cannot take, in place of dying of it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

"""The documentation's numbers and outputs: its pages are templates over the committed tables, and their code is run."""

from __future__ import annotations

import functools
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pandas as pd
import torch
from jinja2 import Environment, StrictUndefined, TemplateError

from replication.conditions import P_MATRIX_LIMIT
from replication.experiments.configuration import title_of
from replication.experiments.pipeline import usual_seconds
from replication.experiments.places import FIGURES, ROOT
from replication.experiments.plots.style import RAISED
from replication.experiments.studies.claims import judge_all, short_table, summary_table
from replication.experiments.studies.measures import (
    branch_excess,
    constant_ratio,
    deep_slope,
    deep_value,
    least_excess,
    sweep_percent,
    tap_disagreements,
)
from replication.experiments.studies.memory import slope
from replication.experiments.studies.papers import CLAIMS, PAPERS
from replication.maps.rectifier import MATRIX_LIMIT
from replication.operators import MATRIX_NUMBERS
from replication.relu_layers.spanning import EXACT_LIMIT, MILP_LIMIT
from replication.solvers.auto import LARGE_NORM

DOCS = ROOT / "docs"
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
FILES = {"table": "csv", "record": "json", "PDF": "pdf"}  # of a figure, beside its picture
LIMITS = {  # of the code, by the names that pages use
    "p_matrix": P_MATRIX_LIMIT, "matrix": MATRIX_LIMIT, "factorized": math.isqrt(MATRIX_NUMBERS),
    "large_norm": f"{LARGE_NORM:.0f}", "spanning": EXACT_LIMIT, "program": MILP_LIMIT,
}  # fmt: skip
MEASURES = (
    slope, constant_ratio, tap_disagreements, sweep_percent, least_excess, branch_excess, deep_slope, deep_value,
)  # fmt: skip


def form(value: float, spec: str) -> str:
    """Return a number as texts write it, with powers of ten raised.

    >>> form(4.3e-9, ".1e"), form(15.2, ".0f"), form(139130, ","), form(2619, ".3g")
    ('4.3·10⁻⁹', '15', '139,130', '2,620')
    """
    text = format(value, spec)
    if "e" not in text:
        return text
    if spec.endswith("g") and abs(value) >= 1:
        return f"{float(text):,.0f}"
    digits, exponent = text.split("e")
    return f"{digits}·10{str(int(exponent)).translate(RAISED)}"


def span(values: pd.Series, spec: str) -> str:
    """Return the smallest and the largest value.

    >>> span(pd.Series([3.0, 1.0, 2.0]), ".1f")
    '1.0 to 3.0'
    """
    return f"{form(values.min(), spec)} to {form(values.max(), spec)}"


def spread(values: pd.Series, spec: str) -> str:
    """Return the mean and the standard deviation.

    >>> spread(pd.Series([1.0, 2.0, 3.0]), ".1f")
    '2.0 ± 1.0'
    """
    return f"{form(values.mean(), spec)} ± {form(values.std(), spec)}"


def share(row: pd.DataFrame) -> str:
    """Return the percentage of a table's single row, with its interval.

    >>> share(pd.DataFrame({"percent": [15.2], "ci_low": [12.31], "ci_high": [18.6]}))
    '15.2 % [12.3, 18.6]'
    """
    return f"{row['percent'].item():.1f} % [{row['ci_low'].item():.1f}, {row['ci_high'].item():.1f}]"


def rows(name: str, query: str = "", folder: Path = FIGURES) -> pd.DataFrame:
    """Return the rows of a figure's table that meet a condition.

    Raises:
        ValueError: if there are none.
    """
    table = pd.read_csv(folder / f"{name}.csv")
    found = table.query(query) if query else table
    if found.empty:
        raise ValueError(f"no row of {name} meets {query!r}; correct the condition, or run: make {name}")
    return found


@functools.cache
def command(name: str, folder: Path) -> str:
    """Return the command that makes a figure, and how long it took by its record."""
    seconds = usual_seconds(folder / f"{name}.json")
    return f"`make {name}`, {seconds:.0f} s" if seconds < 100 else f"`make {name}`, {seconds / 60:.0f} min"


def figure(name: str, folder: Path = FIGURES) -> str:
    """Return a figure in Markdown: the picture, how it is and was made, and links to its files."""
    record = json.loads((folder / f"{name}.json").read_text())
    machine = record["hardware"]
    where = f"{record['made'][:10]} on {machine['processor']}, {machine['cores']} cores"
    files = " · ".join(f"[{what}](figures/{name}.{end})" for what, end in FILES.items())
    return f"![{title_of(name)}](figures/{name}.png)\n\n{command(name, folder)} · made {where} · {files}"


@functools.cache
def example(script: str, *words: str) -> str:
    """Run an example and return it in Markdown: its first sentence, its source, and what it prints.

    Raises:
        ValueError: if it fails, with its last words.
    """
    done = subprocess.run([sys.executable, script, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{script} failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    source = (ROOT / script).read_text()
    line = " ".join(["python", script, *words])
    return f'```text title="{line}"\n{done.stdout}```\n\n??? note "The source"\n\n' + "\n".join(
        f"    {line}".rstrip() for line in ["```python", *source.splitlines(), "```"]
    )


def filled(text: str, folder: Path = FIGURES) -> str:
    """Return a page with its expressions in double braces replaced by what they say of the tables.

    Args:
        text: of the page; `rows("fig5", "dtype == 'float32'")` and the functions above are at its hand.
        folder: holds the tables.

    Raises:
        ValueError: if an expression cannot be evaluated.
    """
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, comment_start_string="{##")
    environment.filters |= {"form": form, "span": span, "spread": spread, "share": share}
    judged = functools.cache(lambda: judge_all(CLAIMS, folder))
    of_folder: dict[str, Callable[..., object]] = {
        "rows": functools.partial(rows, folder=folder),
        "figure": functools.partial(figure, folder=folder),
        "verdicts": lambda paper: short_table(judged().query("paper == @paper")),
        "summary": lambda: summary_table(judged(), PAPERS),
    }
    environment.globals |= (
        of_folder | {"example": example, "limits": LIMITS} | {measure.__name__: measure for measure in MEASURES}
    )
    try:
        return environment.from_string(text).render()
    except (TemplateError, LookupError, AttributeError, OSError, pd.errors.UndefinedVariableError) as error:
        raise ValueError(f"a page cannot be filled in: {error}") from error


@functools.cache
def executed(text: str) -> str:
    """Return a page with what its Python blocks print put below them; later blocks go on from earlier ones."""
    shared: dict[str, object] = {"__name__": "page"}

    def run(block: re.Match[str]) -> str:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile(block[1], "the page's code", "exec"), shared)
        return block[0] + (f"\n```text\n{printed.getvalue()}```\n" if printed.getvalue() else "")

    dtype = torch.get_default_dtype()
    torch.manual_seed(0)
    try:
        return PYTHON_BLOCK.sub(run, text)
    finally:
        torch.set_default_dtype(dtype)


def words_on_figures(folder: Path = FIGURES) -> str:
    """Return the pages on the papers and on speed, filled in, one after the other."""
    pages = (path.read_text() for path in sorted(DOCS.glob("*.md")))
    return "\n".join(filled(text, folder) for text in pages if "{{ figure(" in text)

"""Pictures: drawn from table and record alone, whole, named by what was run, in one look whatever a user's settings."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from matplotlib.figure import Figure
from matplotlib.table import Cell
from matplotlib.text import Text
from PIL import Image

from replication.experiments.plots.style import SOLVERS, balanced
from replication.experiments.results import Result, pictures, read_record, redraw

FIGURES = ROOT / "figures"
NAMES = sorted(path.stem for path in FIGURES.glob("*.json"))
WITH_SOLVERS = {  # figure: where its configuration has the solvers, and the columns of its table that name them
    "fig2": ("sweep", "quantity"),
    "fig3": ("sweep", "quantity"),
    "fig4": (None, "method"),
    "fig5": (None, "method"),
    "fig6": ("sweep", "quantity"),
    "fig9": ("study", "quantity"),
    "figB1": ("sweep", "quantity"),
    "figB2": ("study", "method"),
    "figB3": (None, "method"),
    "bench_network": ("bench", "solver"),
    "bench_solvers": ("bench", "method"),
    "table1": (None, None),
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Figures do not heap up."""
    yield
    plt.close("all")


def committed(name: str) -> tuple[Result, dict[str, Any]]:
    record = json.loads((FIGURES / f"{name}.json").read_text(encoding="utf-8"))
    arrays = FIGURES / f"{name}.npz"
    return Result(pd.read_csv(FIGURES / f"{name}.csv"), dict(np.load(arrays)) if arrays.is_file() else {}), record


def draw(name: str, result: Result, record: dict[str, Any]) -> Figure:
    return import_module(f"replication.experiments.plots.{name}").draw(result, record)


def drawn(name: str, result: Result, record: dict[str, Any]) -> Figure:
    figure = draw(name, result, record)
    figure.draw_without_rendering()
    return figure


def words(figure: Figure) -> str:
    """Everything that is written in a picture, with single spaces."""
    texts = figure.findobj(Text) + [cell.get_text() for cell in figure.findobj(Cell)]
    return " ".join(" ".join(text.get_text() for text in texts).split())


def cut_off(figure: Figure) -> list[str]:
    """What reaches over the edge of a picture, by more than a pixel."""
    width, height = figure.get_size_inches() * figure.dpi
    parts = [axis for axis in figure.axes if axis.get_visible()] + figure.legends
    found = []
    for part in (*parts, *(text for text in figure.findobj(Text) if text.get_text() == figure.get_suptitle())):
        box = part.get_tightbbox(figure.canvas.get_renderer())
        if box is not None and (box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1):
            found.append(f"{part}: {box}, in {width} × {height}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_committed_pictures_are_whole(name: str) -> None:
    figure = drawn(name, *committed(name))
    assert not cut_off(figure)
    record = committed(name)[1]
    if record["dataset"] in ("MNIST", "CIFAR-10"):
        assert record["dataset"] in words(figure)


def first(name: str, column: str) -> tuple[Result, dict[str, Any]]:
    """A figure's result with the first value of a column alone."""
    result, record = committed(name)
    table = result.table
    return Result(table[table[column] == table[column].iloc[0]], result.arrays), record


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("fig2", "ensemble"), ("fig3", "ensemble"), ("fig6", "ensemble"), ("fig7", "unit"), ("figB1", "ensemble"),
        ("fig9", "branch"), ("fig9", "n"), ("fig9", "gamma"), ("fig10", "network"), ("fig10", "block"),
        ("figB1", "padding"), ("figB2", "scale"), ("figC1", "setting"), ("figC1", "network"), ("figC2", "batch"),
        ("figC3", "network"), ("figD1", "quantity"), ("figD2", "n"), ("figD4", "n"),
        ("bench_sweep", "cases"), ("fig2", "gamma"), ("fig8", "norm_cap"), ("figB3", "network"), ("table1", "family"),
    ],
)  # fmt: skip
def test_smaller_tables_make_whole_pictures_too(name: str, column: str) -> None:
    assert not cut_off(drawn(name, *first(name, column)))


@pytest.mark.parametrize("name", ["fig5", "fig8", "figB4", "figC3", "figD3", "bench_network"])
def test_pictures_with_long_names_of_their_data_are_whole(name: str) -> None:
    result, record = committed(name)
    record["dataset"] = "scikit-learn digits (8×8, stand-in for MNIST) (12.5 % of the training images)"
    assert not cut_off(drawn(name, result, record))


def solvers_of(record: dict[str, Any], part: str | None) -> dict[str, Any]:
    return (record["configuration"][part] if part else record["configuration"])["solvers"]


@pytest.mark.parametrize("name", WITH_SOLVERS)
def test_a_replaced_solver_loses_the_name_of_the_one_it_replaces(name: str) -> None:
    part, _ = WITH_SOLVERS[name]
    result, record = committed(name)
    key = next(key for key in solvers_of(record, part) if key in ("existing", "chebyshev"))
    solvers_of(record, part)[key]["_target_"] = "replication.solvers.Pivoting"
    after = words(draw(name, result, record))
    old = "by existing" if name == "table1" else "existing method (Banach)" if key == "existing" else "Chebyshev"
    assert old not in after or name == "bench_network"
    assert ("by Pivoting" if name == "table1" else "pivoting (Murty)") in after


@pytest.mark.parametrize("name", WITH_SOLVERS)
def test_an_added_solver_is_in_the_picture(name: str) -> None:
    part, column = WITH_SOLVERS[name]
    result, record = committed(name)
    solvers = solvers_of(record, part)
    key = next(key for key in solvers if key in ("existing", "chebyshev"))
    for other in ("Pivoting", "Mine"):
        solvers[other.lower()] = copy.deepcopy(solvers[key]) | {"_target_": f"somewhere.{other}"}
        table, arrays = result.table, result.arrays
        if column is None:
            table = table.assign(**{f"recovered_percent_{other.lower()}": 12.0})
        else:
            rows = table[table[column] == key].assign(**{column: other.lower()})
            table = pd.concat([table, rows], ignore_index=True)
        for array in [array for array in arrays if array.endswith(key)]:
            arrays = arrays | {array.replace(key, other.lower()): arrays[array]}
        result = Result(table, arrays)
    figure = drawn(name, result, record)
    for label in ("Pivoting", "Mine") if name == "table1" else ("pivoting (Murty)", "Mine"):
        assert label in words(figure)
    assert not cut_off(figure)
    if len(figure.legends):
        colours = [handle.get_color() for handle in figure.legends[0].legend_handles if handle.get_linestyle() == "-"]
        assert len(set(colours)) == len(colours)


@pytest.mark.parametrize(
    ("name", "place", "value", "expected"),
    [
        ("fig2", "sweep.d", 20, "dimension 20"),
        ("fig3", "sweep.d", 20, "dimension 20"),
        ("fig6", "sweep.d", 20, "dimension 20"),
        ("fig2", "sweep.kind", "residual", "W₂relu(W₁x + b₁)"),
        ("fig6", "sweep.kind", "residual", "W₂relu(W₁x + b₁)"),
        ("figB1", "sweep.kernel_size", 2, "2×2 convolutions"),
        ("figB2", "study.channels", 7, "7 channels"),
        ("figB2", "study.hidden", 9, "9 hidden"),
        ("figB3", "recovery", 1e-3, "at most 10⁻³"),
        ("figD4", "study.noise", 0.05, "under 5 % noise"),
        ("table1", "recovery", 1e-4, "at most 10⁻⁴"),
        ("table1", "cost.dtype", "float64", "layers in float64"),
        ("bench_network", "curve.contractive.contraction", 0.5, "contracts by 0.5"),
    ],
)
def test_titles_say_what_was_run(name: str, place: str, value: object, expected: str) -> None:
    result, record = committed(name)
    inner = record["configuration"]
    for key in place.split(".")[:-1]:
        inner = inner[key]
    inner[place.split(".")[-1]] = value
    assert expected in words(draw(name, result, record))


@pytest.mark.parametrize(
    ("name", "column", "value", "expected"),
    [
        ("figD1", "n", 8, "n = 8"), ("figD2", "n", 70, "n = 70"), ("figD4", "n", 7, "n = 7"),
        ("figC1", "network", "other", "other, float32"), ("figC2", "method", "other", "other, batch 32"),
        ("figC3", "network", "other", "other, 110,090 parameters"), ("bench_sweep", "cases", 77, "77 cases"),
    ],
)  # fmt: skip
def test_everything_in_the_table_is_in_the_picture(name: str, column: str, value: object, expected: str) -> None:
    result, record = committed(name)
    kept = result.table[result.table[column] == result.table[column].iloc[0]]
    more = [kept.assign(**{column: value}), *(kept.assign(**{column: value * place if isinstance(value, int) else f"more {place}"}) for place in range(2, 6))]  # fmt: skip  # noqa: E501
    figure = draw(name, Result(pd.concat([result.table, *more], ignore_index=True), result.arrays), record)
    assert expected in words(figure)


@pytest.mark.parametrize("kind", ["png", "pdf"])
@pytest.mark.parametrize("name", NAMES)
def test_committed_pictures_have_the_resolution_and_the_fonts_of_the_style(name: str, kind: str) -> None:
    content = (FIGURES / f"{name}.{kind}").read_bytes()
    if kind == "png":
        assert Image.open(io.BytesIO(content)).info["dpi"] == pytest.approx((200, 200), abs=0.1)
    else:
        assert b"/Type3" not in content
        assert b"/Type0" in content


HOSTILE = """
savefig.dpi: 31
savefig.facecolor: red
savefig.bbox: tight
pdf.fonttype: 3
text.usetex: True
font.size: 30
axes.prop_cycle: cycler('color', ['k'])
figure.constrained_layout.use: False
image.cmap: jet
"""


@pytest.mark.slow
def test_a_users_matplotlibrc_changes_nothing(tmp_path: Path) -> None:
    code = """
import sys, hashlib
from test_plots import committed, draw, pictures
for content in pictures(draw("fig7", *committed("fig7"))).values():
    print(hashlib.sha256(content).hexdigest())
"""
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    environment = os.environ | {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "PYTHONPATH": f"{ROOT}/tests:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    expected = [hashlib.sha256(content).hexdigest() for content in pictures(draw("fig7", *committed("fig7"))).values()]
    assert done.stdout.split() == expected


def test_drawing_anew_changes_the_pictures_and_their_checksums_alone(tmp_path: Path) -> None:
    for name in ("figD3", "fig7"):
        for path in FIGURES.glob(f"{name}.*"):
            shutil.copy(path, tmp_path)
        before = read_record(tmp_path, name)
        redraw(tmp_path, name, lambda result, record: draw("fig7", *committed("fig7")))
        after = read_record(tmp_path, name)
        assert {key: after[key] for key in after if key != "sha256"} == {
            key: before[key] for key in before if key != "sha256"
        }
        changed = {file for file in after["sha256"] if after["sha256"][file] != before["sha256"][file]}
        assert changed == ({"figD3.png", "figD3.pdf"} if name == "figD3" else set())
    (tmp_path / "fig7.csv").write_text("unit\n")
    with pytest.raises(ValueError, match="is not what its record"):
        redraw(tmp_path, "fig7", lambda result, record: Figure())


def test_every_solver_of_the_package_has_a_name_in_pictures() -> None:
    from replication import solvers

    peers = {"ResidualFlowPeer"}
    assert set(SOLVERS) == {kind.__name__ for kind in solvers.SOLVERS.values()} | peers


def test_titles_break_into_few_lines_of_about_one_length() -> None:
    text = "a few words that go on and on, until there is no room left for them in one line"
    for most in range(14, 90):
        lines = balanced(text, most)
        assert " ".join(lines) == text
        assert max(map(len, lines)) <= most
    assert balanced("short", 40) == ["short"]
    assert balanced("", 40) == [""]
    two = balanced(text, 70)
    assert len(two) == 2
    assert abs(len(two[0]) - len(two[1])) < 12

"""The documentation: public names say what they take, and CONTRIBUTING.md asks for what the repository really has."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from doctest import DocTestParser

import pytest
from conftest import ROOT

import replication
from replication.experiments.pipeline import figure_names
from replication.solvers import SOLVERS

CONTRIBUTING, MAKEFILE = ((ROOT / name).read_text() for name in ("CONTRIBUTING.md", "Makefile"))
PAGES = {path.stem: path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
EVERYWHERE = "\n".join((CONTRIBUTING, *PAGES.values()))
FIGURES = figure_names()


def public_members() -> Iterator[tuple[str, object]]:
    """Public names, and the methods and properties of public classes that are this package's own."""
    for name in replication.__all__:
        value = getattr(replication, name)
        yield name, value
        for member in dir(value) if inspect.isclass(value) else ():
            found = inspect.getattr_static(value, member)
            function = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
            if not member.startswith("_") and getattr(function, "__module__", "").startswith("replication"):
                yield f"{name}.{member}", function


def inherited_doc(name: str, value: object) -> str:
    """The docstring, a method's from the class that first declares it where it has none of its own."""
    owner, _, member = name.partition(".")
    bases = inspect.getmro(getattr(replication, owner)) if member else ()
    docs = [inspect.getdoc(value)] + [inspect.getdoc(vars(base)[member]) for base in bases if member in vars(base)]
    return next((doc for doc in docs if doc), "")


@pytest.mark.parametrize(("name", "value"), [pytest.param(*pair, id=pair[0]) for pair in public_members()])
def test_every_public_name_and_method_has_a_docstring(name: str, value: object) -> None:
    assert len(inherited_doc(name, value).split()) >= 3


@pytest.mark.parametrize("name", [name for name in replication.__all__ if name not in ("Status", "Verdict")])
def test_every_argument_of_a_public_name_is_explained(name: str) -> None:
    value = getattr(replication, name)
    doc = inspect.getdoc(value) or ""
    referred = re.search(r"(Args|Attributes)[^:\n]*: as ", doc)
    for parameter in inspect.signature(value).parameters:
        assert referred or re.search(rf"\b{parameter}\b", doc), f"{name}: {parameter}"


@pytest.mark.parametrize("name", replication.__all__)
def test_every_public_name_has_an_example_that_runs(name: str) -> None:
    value = getattr(replication, name)
    examples = DocTestParser().get_examples(inspect.getdoc(value) or "")
    assert any(example.want for example in examples)  # run with all other doctests


def test_texts_name_files_that_exist_and_targets_that_make_knows() -> None:
    for path in re.findall(r"`((?:replication|tests|conf|scripts|docs|weights|examples)/[\w./]+)`", EVERYWHERE):
        assert "NAME" in path or (ROOT / path).exists(), path
    for target in re.findall(r"`make ([a-z][\w-]*)", EVERYWHERE):
        assert target in FIGURES or re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_all_that_contributing_asks_for(name: str) -> None:
    for path in (f"scripts/{name}.py", f"replication/experiments/plots/{name}.py"):
        assert (ROOT / path).is_file(), path
    for kind in ("csv", "png", "pdf", "json"):
        assert (ROOT / "figures" / f"{name}.{kind}").is_file(), kind
    assert sum(f'## {name}\n\n{{{{ figure("{name}") }}}}\n' in page for page in PAGES.values()) == 1
    tests = "".join((ROOT / "tests" / f"test_{part}.py").read_text() for part in ("scripts", "config"))
    assert f'"{name}"' in tests


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_has_all_that_contributing_asks_for(name: str) -> None:
    assert (ROOT / "conf" / "solver" / f"{name}.yaml").is_file()
    assert f"\n| `{name}`" in PAGES["solvers"] or name == "auto"
    assert SOLVERS[name].__name__ in replication.__all__
    assert "Source:" in (inspect.getdoc(SOLVERS[name]) or "") or name == "auto"

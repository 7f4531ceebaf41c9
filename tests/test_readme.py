"""The README and the documentation: their code runs, their links lead somewhere, their numbers come from the tables."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

import replication
from replication.experiments.studies.claims import Verdict, judge_all
from replication.experiments.studies.papers import CLAIMS
from replication.experiments.texts import DOCS, FIGURES, example, executed, filled

README = ROOT / "README.md"
PAGES = sorted(DOCS.glob("*.md"))
BUILT = {"claims.md": FIGURES / "claims.md", "contributing.md": ROOT / "CONTRIBUTING.md", "report/index.html": README}
CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# what is measured carries one of these units, or is a power of ten with digits before it
MEASURED = re.compile(r"\d(?: %|\u00a0%|·10⁻| MB| GiB| forward passes| evaluations| μs)")
SETTINGS = ("95 %",)  # the level of all intervals


@cache
def text_of(page: Path) -> str:
    """A page as it is shown, its expressions filled in; examples are run by `make docs` and by their own tests."""
    return filled(re.sub(r"\{\{ example\(.*?\) \}\}", "", page.read_text()))


@cache
def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them, and the public names on the page of the API."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", text_of(page)), re.MULTILINE)
    ascii_only = (unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode() for heading in headings)
    named = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in ascii_only}
    return named | set(re.findall(r"^::: (\S+)$", text_of(page), re.MULTILINE))


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_its_code_runs(page: Path) -> None:
    executed(text_of(page))


def test_code_that_fails_and_numbers_that_are_not_there_are_noticed() -> None:
    with pytest.raises(ZeroDivisionError):
        executed("```python\n1 / 0\n```\n")
    for wrong in ('{{ rows("fig5", "digit == 10") }}', '{{ rows("fig99") }}', '{{ rows("fig5").colour }}', "{{ rowz }}",
                  '{{ rows("fig5", "colour == 1") }}'):  # fmt: skip
        with pytest.raises(ValueError, match=r"fig5|fig99|filled in"):
            filled(wrong)


def test_an_example_that_fails_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"examples/none.py failed: .*No such file"):
        example("examples/none.py")


def test_output_is_put_below_code_and_later_blocks_go_on_from_earlier_ones() -> None:
    page = executed("```python\na = 2\n```\n\nand\n\n```python\nprint(a + 1)\n```\n")
    assert page.endswith("print(a + 1)\n```\n\n```text\n3\n```\n")
    assert page.count("```text") == 1


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda page: page.name)
def test_its_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", CODE.sub("", text_of(page))):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if page.parent == DOCS and path.startswith("figures/"):  # the site has them beside its pages
            target = ROOT / path
        target = BUILT.get(path, target) if page.parent == DOCS else target
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) <= 8000


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.name)
def test_no_measured_number_is_written_by_hand(page: Path) -> None:
    text = CODE.sub("", EXPRESSION.sub("", page.read_text()))
    text = re.sub(r"<!-- verdicts -->.*<!-- /verdicts -->", "", text, flags=re.DOTALL)  # written by `make claims`
    text = re.sub(r"^The paper\n:.*$", "", text, flags=re.MULTILINE)  # the paper's words
    text = text.partition("| id | what |")[0] if page.name == "assumptions.md" else text  # settings, not results
    for setting in SETTINGS:
        text = text.replace(setting, "")
    assert MEASURED.search("it takes 5.6 MB")
    assert not MEASURED.search(text), text[MEASURED.search(text).start() - 60 :][:80]


def test_numbers_follow_the_tables(tmp_path: Path) -> None:
    pd.DataFrame({"digit": [0, 1], "error": [2.6e-9, 1e-10]}).to_csv(tmp_path / "fig5.csv")
    page = 'at most {{ rows("fig5", "digit < 5").error.max() | form(".1e") }}, {{ rows("fig5").error | span(".0e") }}'
    assert filled(page, tmp_path) == "at most 2.6·10⁻⁹, 1·10⁻¹⁰ to 3·10⁻⁹"


def test_every_claim_is_on_the_page_of_its_paper_with_its_verdict() -> None:
    verdicts = judge_all(CLAIMS, FIGURES).drop_duplicates("claim").set_index("claim")["verdict"]
    for claim in CLAIMS:
        row = f"| {claim.text} | **{verdicts[claim.name]}**"
        page = "any-map" if claim.paper == "ours" else f"paper-{claim.paper.lower()}"
        assert row in text_of(DOCS / f"{page}.md")
    counts = text_of(DOCS / "index.md")
    for paper in dict.fromkeys(claim.paper for claim in CLAIMS):
        of_paper = verdicts[[claim.name for claim in CLAIMS if claim.paper == paper]]
        row = next(line for line in counts.splitlines() if line.startswith(f"| **{paper}** "))
        assert row.split(" | ")[1:] == [str((of_paper == verdict.value).sum()) + " |" * (verdict is Verdict.NOT_TESTED)
                                        for verdict in Verdict]  # fmt: skip


def test_every_public_name_is_in_the_api() -> None:
    assert sorted(re.findall(r"^::: replication\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE)) == sorted(
        replication.__all__
    )

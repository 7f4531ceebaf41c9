"""Build the site's pages: expressions filled in from the tables, code run, names linked, files from elsewhere added."""

from __future__ import annotations

import re
import textwrap

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

import replication
from replication.experiments.pipeline import figure_names
from replication.experiments.places import FIGURES, ROOT
from replication.experiments.report import page as report
from replication.experiments.texts import executed, filled, words_on_figures

PAGES = {"claims.md": FIGURES / "claims.md", "contributing.md": ROOT / "CONTRIBUTING.md"}
SHOWN = (".png", ".pdf", ".csv", ".json")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the figures, the pages that lie elsewhere, and the report."""
    for path in sorted(path for path in FIGURES.iterdir() if path.suffix in SHOWN):
        files.append(File.generated(config, f"figures/{path.name}", abs_src_path=str(path)))
    for name, path in PAGES.items():
        files.append(File.generated(config, name, content=path.read_text()))
    names = figure_names()
    files.append(File.generated(config, "report/index.html", content=report(FIGURES, names, words_on_figures())))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill a page in, and run its code."""
    if page.file.src_uri in PAGES:
        return markdown
    try:
        return executed(filled(markdown))
    except Exception as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link public names, wherever they stand as code, to the API."""
    api = get_relative_url(files.src_uris["api.md"].url, page.url)
    link = rf'<a href="{api}#replication.\1">\g<0></a>'
    return re.sub(rf'(?<!">)<code>({"|".join(replication.__all__)})</code>', link, html)


class Doctests(griffe.Extension):
    """Show the doctests of docstrings as code: what follows from >>> to the next blank line is an example."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: object) -> None:
        if obj.docstring:
            examples = re.compile(r"^(>>> .*(?:\n(?!\n).+)*)", re.MULTILINE)
            obj.docstring.value = examples.sub(self.example, obj.docstring.value)

    @staticmethod
    def example(found: re.Match[str]) -> str:
        return "Examples:\n" + textwrap.indent(found[1], "    ")

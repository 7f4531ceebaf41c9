"""The page of all figures: complete, self-contained, and sound in a browser, on a desk and on a phone."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT

from replication.experiments.pipeline import figure_names
from replication.experiments.report import page, words
from replication.experiments.studies.papers import CLAIMS
from replication.experiments.texts import words_on_figures

TEXT = words_on_figures()
NAMES = figure_names()
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
DESK, PHONE = 1280, 390  # pixels

# The page in a frame as wide as a screen, since a window is at least 500 pixels wide; and what there is to see in it.
FRAME = """<!doctype html><body style="margin:0">
<iframe src="{page}" style="border:0;width:{width}px;height:1500px"></iframe><pre id="seen"></pre><script>
onload = () => {{
  const inside = document.querySelector("iframe").contentDocument, images = [...inside.images];
  for (const part of inside.querySelectorAll("details")) part.open = true;
  document.getElementById("seen").textContent = JSON.stringify({{
    images: images.length, broken: images.filter(image => !image.naturalWidth).length,
    widest: Math.max(...images.map(image => image.width)),
    width: inside.documentElement.scrollWidth, height: inside.documentElement.scrollHeight,
  }});
}};
</script></body>"""


@pytest.fixture(scope="module")
def content() -> str:
    return page(ROOT / "figures", NAMES, TEXT)


def test_it_has_every_figure_claim_and_command(content: str) -> None:
    for name in NAMES:
        assert f'<article class="card" id="{name}">' in content
        assert f'href="#{name}"' in content
        record = json.loads((ROOT / "figures" / f"{name}.json").read_text())
        assert html.escape(record["command"], quote=False) in content
    for claim in CLAIMS:
        assert f'id="claim-{claim.name}"' in content
    for target in re.findall(r'href="#([^"]+)"', content):
        assert f'id="{target}"' in content


def test_it_takes_what_is_found_from_the_documentation(content: str) -> None:
    for name in NAMES:
        assert words(TEXT, name) or name.startswith("bench"), name
    assert words(TEXT, "fig7")[0] == ""  # no paper says anything of it
    says, gets = words(TEXT, "fig4")
    assert says.startswith("digits: original")
    assert "13 to 20" in gets
    assert gets[1:] in content
    assert words(TEXT, "figX") == ()
    assert "13 to 20" not in page(ROOT / "figures", NAMES, "")


def test_it_needs_nothing_from_elsewhere(content: str) -> None:
    assert not re.search(r'src="(?!data:)|<link|@import|url\(', content)


def test_a_missing_picture_ends_in_a_sentence_that_names_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    shutil.copytree(ROOT / "figures", folder)
    (folder / "fig7.png").unlink()
    with pytest.raises(ValueError, match="run: make fig7"):
        page(folder, NAMES, TEXT)
    (folder / "fig7.json").unlink()  # not made at all: left out
    assert 'id="fig7"' not in page(folder, NAMES, TEXT)


def chromium(*words: str) -> str:
    assert CHROMIUM is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    done = subprocess.run(
        [CHROMIUM, *flags, "--virtual-time-budget=10000", *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        env={name: value for name, value in os.environ.items() if "proxy" not in name.lower()},  # it looks for updates
    )
    return done.stdout


def framed(content: str, width: int, folder: Path) -> str:
    """Write the page and a frame around it; return the frame's address."""
    (folder / "page.html").write_text(content)
    (folder / "frame.html").write_text(FRAME.format(page="page.html", width=width))
    return (folder / "frame.html").as_uri()


def seen(content: str, width: int, folder: Path) -> dict[str, int]:
    dumped = chromium(f"--window-size={max(width, 500)},1500", "--dump-dom", framed(content, width, folder))
    found = re.search(r'<pre id="seen">(.+?)</pre>', dumped)
    assert found, dumped[-500:]
    numbers: dict[str, int] = json.loads(html.unescape(found[1]))
    return numbers


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_a_browser_shows_every_picture_and_never_scrolls_sideways(content: str, width: int, tmp_path: Path) -> None:
    numbers = seen(content, width, tmp_path)
    assert numbers["images"] == len(NAMES)
    assert numbers["broken"] == 0
    assert numbers["width"] <= width
    assert numbers["widest"] < width
    assert numbers["height"] > 300 * len(NAMES)


@pytest.mark.slow
@needs_chromium
def test_the_browser_would_notice_a_broken_picture_and_a_wide_page(content: str, tmp_path: Path) -> None:
    broken = content.replace("data:image/png;base64,", "data:image/png;base64,x", 1)
    broken = broken.replace("</main>", '<div style="width:2000px">wide</div></main>')
    numbers = seen(broken, PHONE, tmp_path)
    assert numbers["broken"] == 1
    assert numbers["width"] > PHONE


@pytest.mark.slow
@needs_chromium
def test_screenshots_are_light_or_dark_as_the_reader_likes(content: str, tmp_path: Path) -> None:
    brightness = []
    for scheme in (1, 0):  # light, dark
        shot = tmp_path / f"{scheme}.png"
        address = framed(content, DESK, tmp_path)
        size = f"--window-size={DESK},1500"
        chromium(size, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}", address)
        pixels = plt.imread(shot)[..., :3]
        assert np.unique(pixels.reshape(-1, 3), axis=0).shape[0] > 50  # not a blank page
        brightness.append(float(pixels.mean()))
    assert brightness[0] > 0.8
    assert brightness[1] < 0.3

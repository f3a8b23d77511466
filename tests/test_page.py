"""Reports in a real browser, in dark mode and on a phone: no error in its console, pictures are there, tables sort."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from espalike.page import page, picture, table

CHROMIUM = shutil.which("chromium")
ASK = """<script>
const head = document.querySelectorAll("th")[1];
head.click(); const up = [...document.querySelectorAll("td:nth-child(2)")].map(cell => cell.innerText);
head.click(); const down = [...document.querySelectorAll("td:nth-child(2)")].map(cell => cell.innerText);
const paper = getComputedStyle(document.body).backgroundColor;
window.addEventListener("load", () => {
  const pictures = [...document.images].filter(image => image.naturalWidth > 0).length;
  const fits = document.documentElement.scrollWidth <= innerWidth && innerWidth < 600;
  document.body.dataset.found = JSON.stringify([up, down, pictures, document.images.length, paper, fits]);
});
</script>"""


def in_browser(path, *options):
    """The page's document after its scripts have run, and what they wrote to the console."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--enable-logging=stderr"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", *options]
    command += [f"--user-data-dir={path.parent / 'browser'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium; scripts/install_engines.sh installs it")


def opened(path, *options):
    """A report's document after it was opened on a phone and its first table sorted, and the number of its pictures.

    Nothing is written to the console, every picture is shown, and the page as a whole does not scroll to the side.
    """
    copy = path.with_name(f"{path.stem}-opened.html")
    copy.write_text(path.read_text(encoding="utf-8").replace("</body>", ASK + "</body>"), encoding="utf-8")
    document, console = in_browser(copy, "--window-size=390,800", *options)
    copy.unlink()
    assert console == []
    _, _, pictures, images, _, fits = json.loads(re.search(r'data-found="([^"]*)"', document)[1].replace("&quot;", '"'))
    assert pictures == images
    assert fits
    return document, images


@needs_browser
@pytest.mark.parametrize("dark", [False, True])
def test_tables_sort_and_pictures_are_there(tmp_path, dark):
    square = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='9' height='9'/></svg>"
    rows = [("b", 9, "x"), ("a", 10, "y"), ("c", "–", "z"), ("<&>", -1.5, "")]
    text = page("A <page>", [table(("name", "number", "text"), rows), picture(square, "a square")])
    path = tmp_path / "report.html"
    path.write_text(text.replace("</body>", ASK + "</body>"))
    document, console = in_browser(path, *(["--blink-settings=preferredColorScheme=0"] if dark else []))
    assert console == []
    found = re.search(r'data-found="([^"]*)"', document)[1].replace("&quot;", '"')
    assert found.startswith('[["-1.5","9","10","–"],["–","10","9","-1.5"],1,1,')
    assert ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)") in found
    assert "<h1>A &lt;page&gt;</h1>" in document
    assert "&lt;&amp;&gt;" in document


def test_pages_load_nothing():
    text = page("A page", [table(("a",), [(1,)])])
    assert not re.search(r"(src|href)=['\"](?!data:)", text)


@needs_browser
@pytest.mark.parametrize(
    "report", sorted((Path(__file__).parents[1] / "docs" / "reports").glob("*.html")), ids=lambda path: path.stem
)
def test_reports_of_the_site_open(tmp_path, report):
    copy = tmp_path / report.name
    copy.write_text(report.read_text(encoding="utf-8"), encoding="utf-8")
    opened(copy)

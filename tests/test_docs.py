"""Code blocks of README.md and docs/*.md run as pasted, each file from top to bottom in one folder; the site is built.

A `text` block right after a block that runs holds what it prints, if `<!-- printed -->` is above it.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$"
    r"(?:\n\n<!-- printed -->\n```text\n(?P<printed>.*?)^```$)?",
    re.M | re.S,
)
SHELL = {"bash", "sh"}
MARK = "-- end of a block --"


def blocks(path):
    """`(language, text, reason)` of each code block; the reason says why a block is not run, or is None."""
    return [(match["language"], match["text"], match["reason"]) for match in BLOCK.finditer(path.read_text())]


def runnable(path, *languages):
    return [text for language, text, reason in blocks(path) if language in languages and not reason]


def printed(path, *languages):
    """What the blocks that run print, as the page says; None where it does not."""
    matches = [match for match in BLOCK.finditer(path.read_text()) if match["language"] in languages]
    return [match["printed"] for match in matches if not match["reason"]]


def lines(text):
    return [line.rstrip() for line in text.strip().splitlines()]


def environment():
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "MPLBACKEND": "Agg"}


@pytest.fixture
def folder(tmp_path):
    """A folder that looks like a clone, for commands that name files of the repository; they write beside these."""
    for name in ("benchmarks", "configs", "data", "docs", "notebooks", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_block_is_read(path):
    text = path.read_text()
    assert text.count("\n```") == 2 * (len(blocks(path)) + text.count("\n<!-- printed -->\n"))
    assert all(language for language, _, _ in blocks(path)), "a block has no language: bash, python, yaml, text, …"


def with_blocks(*languages):
    """Files with such blocks that run."""
    return [pytest.param(path, id=path.stem) for path in FILES if runnable(path, *languages)]


EACH = f"""
import json, sys

for text in json.load(sys.stdin):
    exec(compile(text, "block", "exec"), {{"__name__": "__main__"}})
    print("{MARK}")
"""
"""Runs blocks one after the other, each with its own names: one process, so that modules are imported once."""


@pytest.mark.parametrize("path", with_blocks("python"))
def test_python_blocks_run(path, folder):
    texts = runnable(path, "python")
    command = [sys.executable, "-c", EACH]
    done = subprocess.run(command, input=json.dumps(texts), cwd=folder, capture_output=True, text=True)
    outputs = done.stdout.split(f"{MARK}\n")
    assert done.returncode == 0, f"{texts[len(outputs) - 1]}\n{done.stderr}"
    for text, output, expected in zip(texts, outputs, printed(path, "python"), strict=False):
        assert expected is None or lines(output) == lines(expected), text


def commands(text):
    """Commands of a shell block: lines, with those that end in a backslash joined."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_commands_exist(path):
    """Names of commands, scripts and experiments in every shell block, also of those that are not run."""
    for language, text, _ in blocks(path):
        for command in commands(text) if language in SHELL else ():
            for script in re.findall(r"\b(?:scripts|benchmarks)/\w+\.(?:sh|py)\b", command):
                assert (ROOT / script).is_file(), command
            for experiment in re.findall(r"\bexperiment=(\w+)", command):
                assert (ROOT / "configs" / "experiment" / f"{experiment}.yaml").is_file(), command


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_settings_are_quoted_as_the_program_needs(path):
    """Settings of every job, also in blocks that are not run, and of those that the text shows in backquotes."""
    parse = OverridesParser.create().parse_overrides
    jobs = [command for language, text, _ in blocks(path) if language in SHELL for command in commands(text)]
    jobs += re.findall(r"`(espalike [^`]+|[\w.'@/+~]+=[^`]*)`", BLOCK.sub("", path.read_text()))
    for command in jobs:
        try:
            words = shlex.split(command, comments=True)
        except ValueError:  # the text of a file
            continue
        if (len(words) > 1 and "espalike" not in words) or "…" in command:
            continue
        words = words[words.index("espalike") :] if "espalike" in words else words  # settings of the shell come before
        parse([word for word in words if re.match(r"[+~]*[\w./@]+=(?!=)", word) and "|" not in word])


@pytest.mark.slow
@pytest.mark.parametrize("path", with_blocks(*SHELL))
def test_shell_blocks_run(path, folder):
    texts = runnable(path, *SHELL)
    script = f"\necho '{MARK}'\n".join(["set -e", *texts])
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    outputs = done.stdout.split(f"{MARK}\n")[1:]
    for text, output, expected in zip(texts, outputs, printed(path, *SHELL), strict=True):
        assert expected is None or lines(output) == lines(expected), text


def test_tables_of_the_released_models_are_those_of_their_cards():
    command = [sys.executable, str(ROOT / "scripts" / "figures.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun: python scripts/figures.py"


def test_the_site_builds_strictly(tmp_path):
    """Every page is in the navigation, every link leads somewhere, and nothing is loaded from other servers."""
    for name in ("material", "mkdocstrings", "mkdocs_jupyter"):
        pytest.importorskip(name, reason="pip install 'espalike[docs]'")
    # -P: the installed espalike, not the folder
    command = [sys.executable, "-P", "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    variables = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not included in the" not in done.stdout + done.stderr, (
        "a page of docs/ is not in the navigation of mkdocs.yml"
    )
    pages = {
        str(page.relative_to(tmp_path / "site")): page.read_text() for page in (tmp_path / "site").rglob("index.html")
    }
    assert {"index.html", "questions/index.html", "notebooks/01_what_a_term_is/index.html"} <= set(pages)
    assert "usage: espalike train [key=value ...]" in pages["commands/index.html"]
    assert "½ k (r − r₀)²" in pages["terms/index.html"]
    assert "espalike.parametrize" in pages["python/index.html"]
    assert "tasks/gromacs/index.html" in pages
    for report in (ROOT / "docs" / "reports").glob("*.html"):
        assert f'href="reports/{report.name}"' in pages["index.html"]
        assert (tmp_path / "site" / "reports" / report.name).is_file()
    for name, page in pages.items():
        assert "!-- prints" not in page, name
        assert not re.findall(r"<(?:script|img|link)[^>]*(?:src|href)=\"https?://[^>]*>", page), name

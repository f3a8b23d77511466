"""Executes the lessons and stores their outputs; stops at the first error: python scripts/run_lessons.py [NUMBER...]

Prints time and size of each lesson. Numbers choose lessons: 03 08. What lessons write goes to runs/.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a new run in this folder, without warnings and times.

    Raises:
        CellExecutionError: when a cell fails; the message has the cell and its traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    # commands in a lesson are those of this environment; the user's settings of IPython do not count
    variables = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory() as settings:
        variables["IPYTHONDIR"] = settings
        client = NotebookClient(notebook, timeout=1200, record_timing=False, coalesce_streams=True)
        client.execute(cwd=str(folder), env=variables)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}
    return notebook


def processor_time() -> float:
    """Time of the processor that finished kernels and their commands took so far [s]."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(numbers: list[str]) -> int:
    """Run the lessons of these numbers, or all; the exit status."""
    if {"-h", "--help"} & set(numbers):
        print(__doc__)
        return 0
    paths = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if not numbers or path.name[:2] in numbers]
    if unknown := set(numbers) - {path.name[:2] for path in paths}:
        print(f"error: no lesson has the number {', '.join(sorted(unknown))}; a number has two digits", file=sys.stderr)
        return 2
    for path in paths:
        start, cpu = time.monotonic(), processor_time()
        try:
            notebook = executed(path, NOTEBOOKS)
        except CellExecutionError as error:
            print(f"error: {path.name} stopped; it is stored as it was\n{error}", file=sys.stderr)
            return 1
        unfinished = path.with_suffix(".tmp")
        nbformat.write(notebook, unfinished)
        unfinished.rename(path)
        print(
            f"{path.name:38}{time.monotonic() - start:6.0f} s, {processor_time() - cpu:4.0f} s of the processor"
            f"{path.stat().st_size / 1000:8.0f} kB",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

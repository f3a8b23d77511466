"""`espalike parametrize`: molecules to force-field files."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalike.bounds import check_number
from espalike.files import is_stream
from espalike.tables import counted

if TYPE_CHECKING:
    from rich.console import Console

    from espalike.cli.parametrize_report import Report
    from espalike.export.library import Finished
    from espalike.export.ligands import Result

HELP = """Write force-field files for molecules: one set of files per molecule, atoms in the input's order.

examples:
  espalike parametrize 'CC(=O)Nc1ccc(O)cc1' --out out
  espalike parametrize ligands.sdf --out out --format system,ffxml --report out/report.json
  espalike parametrize library.smi --out out --jobs 8 --report out/report.jsonl
  espalike parametrize ligand.sdf --out out --format gromacs,amber
  espalike parametrize ligand.sdf --model mine.espalike --format ffxml --mixed lj
  espalike parametrize ligand.pdb --smiles 'CC(=O)[O-]' --charges charges.txt
  espalike parametrize protein.pdb --out out

A PDB or mmCIF gives one molecule per chain, or per set of bonded chains; standard residues of proteins and nucleic
acids need all their hydrogens, and no --smiles. Water and ions are left out: a water model has their parameters.
A MOL2 may have atom types of SYBYL, GAFF or AMBER. For covalently bound ligands see docs/tasks/covalent.md.

Coordinates are those of the input, or of an embedded conformer if the input has none. NAME.sdf and NAME.pdb, beside the
other files, are the molecule as it was parametrized: coordinates, order and names of its atoms. Names of atoms and
residue are those of the input where they are unique. A file that espalike did not write is never replaced.
A molecule that cannot be used is reported with its reason; the others are written. A format that cannot express the
model's force field is reported once, with those that can; the other formats are written.
exit status: 0 all done, 1 some inputs failed (the rest is written), 2 nothing could be done"""

_ROWS_SHOWN = 30
_NOTES_SHOWN = 3
_COUNTED = {"done": "ok", "partial": "partial", "failed": "failed"}
"""Counts of a report, and the status that is counted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from espalike.cli.common import folder
    from espalike.export import FORMATS

    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="SDF, MOL, MOL2, PDB, mmCIF or .smi file, or a SMILES"
    )
    parser.add_argument("--model", metavar="NAME|PATH", help="a shipped model or a model file (default: espalike-1)")
    parser.add_argument(
        "--out", type=folder, default=".", metavar="DIR", help="where files are written (default: the current folder)"
    )
    files = "; ".join(f"{name}: NAME{', NAME'.join(format.endings)}" for name, format in FORMATS.items())
    parser.add_argument(
        "--format", default="system", metavar="FORMAT[,FORMAT]", help=f"what to write ({files}; default: system)"
    )
    parser.add_argument(
        "--mixed",
        choices=("lj",),
        help="for ffxml of a model whose van der Waals form is not Lennard-Jones: how its atoms interact with those of "
        "other force fields (lj: by Lennard-Jones with its sigma and epsilon); without it, mixed systems are refused",
    )
    parser.add_argument(
        "--torsions",
        choices=("native", "custom"),
        default="native",
        help="for system: torsions as rows of a PeriodicTorsionForce (native), or as polynomials in cos(phi) of a "
        "CustomTorsionForce, which is faster on a CPU (custom)",
    )
    parser.add_argument(
        "--charges",
        default="model",
        metavar="SOURCE",
        help="model (default), input (those of the SDF or MOL2), am1bcc (NAGL), or a file: numbers [e], one per atom",
    )
    parser.add_argument(
        "--residue", metavar="NAME", help="name of the residue in the files (default: the input's, or LIG)"
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse molecules with chemistry that was not in the model's training"
    )
    parser.add_argument(
        "--smiles",
        help="bond orders and charges of the residues in a PDB or mmCIF that are not standard; * is an atom of "
        "another residue to which it is bonded",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write a JSON report on every input; FILE.jsonl has one line per input. The same command with the same "
        "report continues a run that was stopped",
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of processes (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Parametrize the inputs; 0 all done, 1 some molecules or formats failed, 2 nothing was written.

    Raises:
        ValueError: for an unknown format or source of charges, or if no format can express the force field.
        FileNotFoundError: for an unknown model.
    """
    from rich.console import Console

    from espalike import export
    from espalike import model as models
    from espalike.cli.parametrize_report import Report
    from espalike.export import library, ligands

    formats = _formats(args.format, args.mixed, args.torsions)
    check_number("--jobs", args.jobs, 1)
    name = args.model or models.DEFAULT
    _check_report(args)
    model = models.load(name).double()
    refused = export.refusals(model.terms, formats)
    possible = tuple(format for format in formats if format not in refused)
    if not possible:
        raise ValueError(export.refusal(model.terms, formats))
    if refused:
        print(f"not written: {export.refusal(model.terms, formats)}", file=sys.stderr)
    entries = ligands.read(args.inputs, args.smiles)
    first = list(itertools.islice(entries, 2))
    read = ligands.existing(*args.inputs, args.charges, args.model)
    output = ligands.Output(Path(args.out), possible, args.mixed, args.torsions, args.residue, read)
    work = library.Work(str(name), args.charges, len(first), output, args.strict)
    ligands.charge_source(args.charges, model, len(first))  # wrong ones are errors before anything is written
    output.folder.mkdir(parents=True, exist_ok=True)
    spreads = ligands.units_of(model) if isinstance(model, models.Ensemble) else None
    head = _head(args, str(name), possible, refused, spreads)
    summary = Summary()
    identity = _identity(args, str(name), possible)
    with Report(Path(args.report) if args.report else None, head, identity) as report:
        for row in report.begin():
            summary.add(ligands.Result(**row))
        if summary.count:
            print(f"{report.lines}: {summary.count} inputs were finished by a run that was stopped; it is continued")
        groups = ligands.chunks(itertools.chain(first, entries), summary.count)
        ended = _collect(library.run(work, model, groups, args.jobs), summary, report, args.debug)
        summary.print(Console(markup=False), output.folder)
        if ended is None:
            report.end({key: summary.counts[status] for key, status in _COUNTED.items()})
        else:  # the same command goes on
            print(f"failed: stopped after {summary.count} inputs: {ended}", file=sys.stderr)
    if report.error is not None:  # the files of the molecules stay
        print(f"failed: the report {args.report} cannot be written: {report.error}", file=sys.stderr)
    elif args.report and ended is None:
        print(f"report: {args.report}")
    complete = ended is None and not refused and summary.counts["ok"] == summary.count and report.error is None
    return 2 if not summary.written else 0 if complete else 1


def _collect(work: Iterator[Finished], summary: Summary, report: Report, debug: bool) -> Exception | None:
    """Take the results into the summary and the report; returns why they have ended early, if so."""
    from espalike.workers import WorkerEndedError

    try:
        for finished in _shown(work, summary.count):
            report.add([vars(result) for result, _ in finished])
            for result, trace in finished:
                summary.add(result)
                if debug and trace:
                    print(trace, end="", file=sys.stderr)
    except WorkerEndedError as error:
        return error
    return None


def _formats(text: str, mixed: str | None, torsions: str) -> tuple[str, ...]:
    from espalike.export import check_options, formats_of

    try:
        formats = formats_of(text)
    except ValueError as error:
        raise ValueError(f"--format: {error}") from None
    try:
        check_options(formats, mixed=mixed, torsions=torsions)
    except ValueError as error:
        raise ValueError(f"--{error}") from None
    return formats


def _check_report(args: argparse.Namespace) -> None:
    """Refuse a report that would replace a file of the user or one that is read, or can be one of the written files."""
    from espalike.cli.parametrize_report import is_report

    if not args.report or is_stream(path := Path(args.report)):
        return
    if path.suffix.lower() not in {".json", ".jsonl"}:
        expected = "expected a name that ends with .json or .jsonl, or /dev/stdout"
        raise ValueError(f"--report {path}: a report is JSON; {expected}")
    for other in filter(None, (*args.inputs, args.charges, args.model)):
        if _state(other)[1] and path.exists() and path.samefile(other):
            raise ValueError(f"--report {path} would replace {other}, which is read; give the report another name")
    if path.is_file() and not is_report(path):
        raise ValueError(f"--report {path} would replace a file that is not a report; give the report another name")


def _shown(work: Iterator[Finished], finished: int) -> Iterator[Finished]:
    """The results; where there is a terminal, it shows how many molecules are finished and how many per second."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("parametrize {task.completed} molecules, {task.fields[rate]}"))
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("parametrize", total=None, completed=finished, rate="")
        start, new = time.perf_counter(), 0
        for group in work:
            yield group
            new += len(group)
            rate = f"{new / (time.perf_counter() - start):.1f} per second"
            progress.update(task, advance=len(group), rate=rate)


class Summary:
    """What is printed of the results: few molecules, all failures, counts.

    Attributes:
        count: number of inputs.
        written: number of those with files.
        counts: number of inputs by status.
    """

    def __init__(self) -> None:
        self.count = self.written = self._files = 0
        self.counts: Counter[str] = Counter()
        self._rows: list[Result] = []
        self._notes: list[Result] = []
        self._failures: list[str] = []

    def add(self, result: Result) -> None:
        """Take one result into account."""
        self.count += 1
        self.counts[result.status] += 1
        if result.status != "failed":
            self.written += 1
            self._files += len(result.files)
            if self.written <= _ROWS_SHOWN:
                self._rows.append(result)
            if result.warnings and len(self._notes) < _ROWS_SHOWN:
                self._notes.append(result)
        if result.status != "ok":
            self._failures.append(f"failed: {result.name}: {result.reason}")

    def print(self, console: Console, out: Path) -> None:
        """A table of the written files, notes and failures with their reasons on stderr, and a line with the counts."""
        from rich.table import Table

        if self.written:
            table = Table("molecule", "atoms", "charge", "domain", "files", box=None, pad_edge=False)
            for result in self._rows:
                files = ", ".join(Path(file).name for file in result.files)
                charge = f"{result.formal_charge or 0:+d}".replace("+0", "0")
                table.add_row(result.name, str(result.atoms), charge, result.domain, files)
            console.print(table)
            if self.written > _ROWS_SHOWN:
                console.print(f"… and {self.written - _ROWS_SHOWN} more")
        for result in self._notes:
            more = len(result.warnings) - _NOTES_SHOWN
            text = "; ".join(result.warnings[:_NOTES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
            print(f"note: {result.name}: {text}", file=sys.stderr)
        for failure in self._failures:
            print(failure, file=sys.stderr)
        failed = f", {self.counts['failed']} failed" if self.counts["failed"] else ""
        print(f"wrote {counted(self._files, 'file')} of {counted(self.written, 'molecule')} to {out}{failed}")


def _head(
    args: argparse.Namespace,
    model: str,
    formats: Sequence[str],
    refused: Mapping[str, str],
    spreads: dict[str, dict[str, str]] | None,
) -> dict[str, Any]:
    """What a report says of the run as a whole."""
    from importlib.metadata import version

    return {
        "espalike": version("espalike"),
        "model": model,
        "formats": list(formats),
        "refused": dict(refused),
        "charges": args.charges,
        "units": {"charge": "e", "seconds": "s"} | ({"spread": spreads} if spreads else {}),
    }


def _identity(args: argparse.Namespace, model: str, formats: Sequence[str]) -> str:
    """A hash of all that the results depend on: settings, and size and time of change of the files."""
    from importlib.metadata import version

    from espalike import model as models

    settings = (args.charges, args.smiles, args.mixed, args.torsions, args.residue, args.strict, args.out)
    files = [_state(text) for text in (*args.inputs, args.charges, str(models.find(model)))]
    return hashlib.sha256(repr((version("espalike"), formats, settings, files)).encode("utf-8", "replace")).hexdigest()


def _state(text: str) -> tuple[str, int, int]:
    """A name, and size and time of change of the file with this name, if there is one."""
    try:
        state = Path(text).stat()
    except (OSError, ValueError):  # a SMILES
        return text, 0, 0
    return text, state.st_size, state.st_mtime_ns

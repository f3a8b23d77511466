"""`espalike check`: does a force field misbehave?"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = """Try a force field on many molecules: parameters, symmetry, minima, dynamics. Prints a table, writes a report.

examples:
  espalike check espalike-small 'CC(=O)Nc1ccc(O)cc1' --picoseconds 1 --out runs/check
  espalike check espalike-small --jobs 2 --out runs/check
  espalike check openff-2.2.1 --jobs 2 --out runs/check-openff
  espalike check out/ligand.xml ligand.sdf

Without INPUT, the 200 molecules that come with the program: drug-like ones, weak spots of force fields, charged and
rare groups, strained rings. Three runs of dynamics take most of the time: some 2 s per molecule for class I, and about
six times that for class II. Findings are kept in DIR/findings.jsonl; the same command, given again, continues there.

MODEL is a shipped model or a model file; a force field of OpenFF (openff-2.2.1, or an .offxml file); or OpenMM's
ForceField XML, several joined by + (amber14-all.xml+ligand.xml).

DIR/report.html shows the molecules that failed; DIR/findings.json holds every finding.
exit status: 0 nothing failed, 1 some checks failed or inputs could not be read, 2 nothing could be done"""

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("model", metavar="MODEL", help="the force field")
    parser.add_argument(
        "inputs", nargs="*", metavar="INPUT", help="molecules: SDF, MOL, MOL2 or .smi file, or a SMILES"
    )
    parser.add_argument("--out", default="runs/check", metavar="DIR", help="where reports are written (runs/check)")
    parser.add_argument(
        "--picoseconds", type=float, default=5.0, metavar="PS", help="length of each run of dynamics (5)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of processes (1)")


def run(args: argparse.Namespace) -> int:
    """Check; 0 nothing failed, 1 something failed.

    Raises:
        ValueError: when no molecule can be read, or a setting cannot be meant.
        FileNotFoundError, ModelFileError, ImportError: see `espalike.check.fields.field_of`.
    """
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from espalike.check import report
    from espalike.check.run import Outcome, Settings, check, linear_cost, molecules_of

    if args.picoseconds <= 0 or args.jobs < 1:
        raise ValueError(f"--picoseconds {args.picoseconds:g} --jobs {args.jobs}: expected numbers above zero")
    molecules, unread = molecules_of(args.inputs)
    if not molecules:
        raise ValueError("; ".join(unread) or "no molecules")
    settings = Settings(args.model, args.picoseconds)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    cost = linear_cost(args.model)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("molecules", total=len(molecules))
        findings = check(settings, molecules, out / "findings.jsonl", args.jobs, lambda: progress.advance(task))
    outcome = Outcome([*findings, *([cost] if cost else [])], unread)
    shown = Table(report.HEADER[0], *report.HEADER[2:], title=f"check of {args.model}, {len(molecules)} molecules")
    for row in report.rows(outcome):
        shown.add_row(row[0], *map(str, row[2:]), style="red" if row[3] else None)
    console.print(shown)
    for finding in outcome.failed[:_SHOWN]:
        console.print(
            f"failed: {finding.molecule}: {finding.check}: {finding.message[:200]}", highlight=False, markup=False
        )
    if len(outcome.failed) > _SHOWN:
        print(f"... and {len(outcome.failed) - _SHOWN} more, in the report")
    if outside := sum(one.status == "outside" for one in outcome.findings):
        print(f"{outside} molecules are outside the model's domain and were not checked")
    for message in unread:
        print(f"not read: {message}")
    print(f"wrote {' and '.join(map(str, report.write(outcome, args.model, out)))}")
    return 1 if outcome.failed or unread else 0

"""`espalike check`: does a force field misbehave?"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from espalike.tables import counted

HELP = """Try a force field on many molecules: parameters, symmetry, minima, dynamics. Prints a table, writes a report.

examples:
  espalike check espalike-1 'CC(=O)Nc1ccc(O)cc1' --picoseconds 1 --out runs/check
  espalike check espalike-1 --jobs 2 --out runs/check
  espalike check openff-2.2.1 --jobs 2 --out runs/check-openff
  espalike check out/ligand.xml ligand.sdf
  espalike check espalike-1 ethanol benzene --liquids --jobs 2 --out runs/check

Without INPUT, the 200 molecules that come with the program: drug-like ones, weak spots of force fields, charged and
rare groups, strained rings. Three runs of dynamics take most of the time: some 1 s per molecule for class I, and some
4 s for class II. Findings are kept in DIR/findings.jsonl; the same command, given again, continues from there.

MODEL is a shipped model or a model file; a force field of OpenFF (openff-2.2.1, or an .offxml file); or OpenMM's
ForceField XML, several joined by + (amber14-all.xml+ligand.xml); or gaff2 or garnet.

--liquids: density and heat of vaporisation of ten pure liquids, or of those named, beside experiment and OpenFF 2.3.0:
ethanol, acetone, ethyl-acetate, dimethylformamide, acetonitrile, diethyl-ether, benzene, pyridine, cyclohexane,
chloroform. Each takes 5 to 20 minutes of one core per force field (100 ps of 125 molecules), less on a GPU; the
remaining time is shown. The state is saved after each of 15 blocks, and a run that was stopped continues from there. A
liquid fails when it deviates from experiment by 3 % (density) or 10 % (heat) more than OpenFF 2.3.0 does.

The columns median and largest of the table are of the energy drift [kcal/mol/ns per atom], the longest bond relative to
the minimum (300 K, 500 K), the highest barrier [kcal/mol], distances from the plane of a ring [Å], and twists [degree].

DIR/report.html shows the molecules that failed; DIR/findings.json holds every finding;
DIR/liquids.html and DIR/liquids.json are those of --liquids.
exit status: 0 nothing failed, 1 some checks failed or inputs could not be read, 2 nothing could be done"""

_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from espalike.cli.common import folder

    parser.add_argument("model", metavar="MODEL", help="the force field")
    parser.add_argument(
        "inputs",
        nargs="*",
        default=[],
        metavar="INPUT",
        help="molecules: SDF, MOL, MOL2 or .smi file, or a SMILES; names of liquids",
    )
    parser.add_argument("--liquids", action="store_true", help="measure pure liquids instead")
    parser.add_argument(
        "--out",
        type=folder,
        default="runs/check",
        metavar="DIR",
        help="where reports are written (default: runs/check)",
    )
    parser.add_argument(
        "--picoseconds", type=float, metavar="PS", help="length of each run of dynamics (default: 5; of a liquid 100)"
    )
    parser.add_argument(
        "--box", type=int, default=125, metavar="N", help="number of molecules of a liquid (default: 125)"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of processes (default: 1)")


def run(args: argparse.Namespace) -> int:
    """Check; 0 nothing failed, 1 something failed.

    Raises:
        ValueError: when no molecule can be read, or a setting is out of range.
        FileNotFoundError, ModelFileError, ImportError: see `espalike.check.fields.field_of`.
    """
    if args.picoseconds is None:
        args.picoseconds = 100.0 if args.liquids else 5.0
    if not (0 < args.picoseconds < math.inf) or args.jobs < 1 or args.box < 1:
        raise ValueError(
            f"--picoseconds {args.picoseconds:g} --jobs {args.jobs} --box {args.box}: expected numbers above zero"
        )
    Path(args.out).mkdir(parents=True, exist_ok=True)
    return _liquids(args) if args.liquids else _molecules(args)


def _molecules(args: argparse.Namespace) -> int:
    """Every check on every molecule."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from espalike.check import report
    from espalike.check.run import Outcome, Settings, check, linear_cost, molecules_of

    molecules, unread = molecules_of(args.inputs)
    if not molecules:
        raise ValueError("; ".join(unread) or "no molecules")
    settings = Settings(args.model, args.picoseconds)
    out = Path(args.out)
    console = Console(markup=False)
    cost = linear_cost(args.model)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("molecules", total=len(molecules))
        findings = check(settings, molecules, out / "findings.jsonl", args.jobs, lambda: progress.advance(task))
    outcome = Outcome([*findings, *([cost] if cost else [])], unread)
    shown = Table(
        report.HEADER[0], *report.HEADER[2:], title=f"check of {args.model}, {counted(len(molecules), 'molecule')}"
    )
    for row in report.rows(outcome):
        shown.add_row(row[0], *map(str, row[2:]), style="red" if row[3] else None)
    console.print(shown)
    for finding in outcome.failed[:_SHOWN]:
        console.print(f"failed: {finding.molecule}: {finding.check}: {finding.message[:200]}", highlight=False)
    if len(outcome.failed) > _SHOWN:
        print(f"... and {len(outcome.failed) - _SHOWN} more, in the report")
    if outside := sum(one.status == "outside" for one in outcome.findings):
        print(f"not checked, since they are outside the model's domain: {counted(outside, 'molecule')}")
    for message in unread:
        print(f"not read: {message}")
    print(f"wrote {' and '.join(map(str, report.write(outcome, args.model, out)))}")
    return 1 if outcome.failed or unread else 0


def _liquids(args: argparse.Namespace) -> int:
    """Density and heat of vaporisation of liquids."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from espalike.check import liquids, liquids_report

    if unknown := [name for name in args.inputs if name not in liquids.LIQUIDS]:
        raise ValueError(f"unknown liquids {', '.join(unknown)}; known: {', '.join(liquids.LIQUIDS)}")
    chosen = [liquids.LIQUIDS[name] for name in dict.fromkeys(args.inputs or liquids.LIQUIDS)]
    sources = list(dict.fromkeys([args.model, liquids.REFERENCE]))
    protocol = liquids.Protocol(args.box, args.picoseconds)
    out, console = Path(args.out), Console(markup=False)
    with Progress(console=console, transient=True) as progress:
        blocks = liquids.EQUILIBRATION + liquids.BLOCKS
        task = progress.add_task("blocks of dynamics", total=len(sources) * len(chosen) * blocks)
        results = liquids.measure(sources, chosen, protocol, out, args.jobs, lambda: progress.advance(task))
    own, references = results[: len(chosen)], results[len(chosen) :]
    rows = liquids_report.rows(own, references)
    shown = Table(*liquids_report.header(args.model), title=f"{args.box} molecules, {args.picoseconds:g} ps")
    for row in rows:
        shown.add_row(*row, style="red" if row[-1] == "failed" else None)
    console.print(shown)
    for result in results:
        if result.message:
            console.print(f"failed: {result.liquid.name}: {result.field}: {result.message}", highlight=False)
    if any(row[-1] == "undecided" for row in rows):
        print("undecided: the limit is within two standard errors; longer runs (--picoseconds) decide")
    print(f"wrote {' and '.join(map(str, liquids_report.write(own, references, args.model, protocol, out)))}")
    return 1 if any(row[-1] == "failed" for row in rows) or any(result.message for result in results) else 0

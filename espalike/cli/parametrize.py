"""`espalike parametrize`: molecules to force-field files."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from espalike.export.ligands import Done, Result

HELP = """Write force-field files for molecules: one set of files per molecule, atoms in the input's order.

examples:
  espalike parametrize 'CC(=O)Nc1ccc(O)cc1' --out out
  espalike parametrize ligands.sdf --out out --format system,ffxml --report out/report.json
  espalike parametrize ligand.sdf --out out --format gromacs,amber
  espalike parametrize ligand.sdf --model mine.espalike --format ffxml --mixed lj
  espalike parametrize ligand.pdb --smiles 'CC(=O)[O-]' --charges charges.txt
  espalike parametrize protein.pdb --out out

A PDB or mmCIF gives one molecule per chain, or per set of bonded chains; standard residues of proteins and nucleic
acids need no --smiles, but all their hydrogens. Water and ions are left out: they have parameters of a water model.
A MOL2 may have atom types of SYBYL, GAFF or AMBER. For ligands that are bound covalently see docs/exports.md.

Coordinates are those of the input, or of an embedded conformer if the input has none. NAME.sdf and NAME.pdb, beside the
other files, are the molecule as it was parametrized: coordinates, order and names of its atoms. Names of atoms and
residue are those of the input where they are unique. A file NAME.sdf or NAME.pdb of your own is kept.
A molecule that cannot be used is reported with its reason; the others are written. A format that cannot express the
model's force field is reported once, with those that can; the other formats are written.
exit status: 0 all done, 1 some inputs failed (the rest is written), 2 nothing could be done"""

_ROWS_SHOWN = 30
_NOTES_SHOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from espalike.export import FORMATS

    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="SDF, MOL, MOL2, PDB, mmCIF or .smi file, or a SMILES typed in place"
    )
    parser.add_argument(
        "--model", metavar="NAME|PATH", help="a shipped model or a model file (default: the shipped one)"
    )
    parser.add_argument("--out", default=".", metavar="DIR", help="where files are written (default: here)")
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
        help="model (default), input (read from the SDF or MOL2), am1bcc (NAGL), or a file of plain numbers",
    )
    parser.add_argument(
        "--residue", metavar="NAME", help="name of the residue in the files (default: the input's, or LIG)"
    )
    parser.add_argument(
        "--strict", action="store_true", help="refuse molecules with chemistry that was not in the model's training"
    )
    parser.add_argument(
        "--smiles",
        help="bond orders and charges of what is not a standard residue in a PDB or mmCIF; * is an atom of a standard "
        "residue to which it is bonded",
    )
    parser.add_argument("--report", metavar="FILE", help="write a JSON report on every input")


def run(args: argparse.Namespace) -> int:
    """Parametrize the inputs; 0 all done, 1 some molecules or formats failed, 2 nothing was written.

    Raises:
        ValueError: for an unknown format or source of charges, or if no format can express the force field.
        FileNotFoundError: for an unknown model.
    """
    from rich.console import Console

    from espalike import export
    from espalike import model as models
    from espalike.export import ligands

    formats = _formats(args.format, args.mixed)
    name = args.model or models.DEFAULT
    model = models.load(name).double()
    refused = export.refusals(model.terms, formats)
    possible = tuple(format for format in formats if format not in refused)
    if not possible:
        raise ValueError(export.refusal(model.terms, formats))
    if refused:
        print(f"not written: {export.refusal(model.terms, formats)}", file=sys.stderr)
    entries = list(ligands.read(args.inputs, args.smiles))
    charges = ligands.charge_source(args.charges, model, len(entries))
    output = ligands.Output(Path(args.out), possible, args.mixed, args.torsions, args.residue)
    output.folder.mkdir(parents=True, exist_ok=True)
    done = ligands.parametrize(entries, model, str(name), charges, output, args.strict)
    results = _collect(done, len(entries), args.debug)
    _print(Console(), results, output.folder)
    written = sum(result.status != "failed" for result in results)
    complete = not refused and all(result.status == "ok" for result in results)
    if args.report:
        spreads = ligands.units_of(model) if isinstance(model, models.Ensemble) else None
        try:
            print(f"report: {_write_report(Path(args.report), args, str(name), possible, refused, results, spreads)}")
        except OSError as error:  # the files of the molecules stay
            print(f"failed: the report {args.report} cannot be written: {error}", file=sys.stderr)
            complete = False
    return 2 if not written else 0 if complete else 1


def _formats(text: str, mixed: str | None) -> list[str]:
    from espalike.export import FORMATS

    formats = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"--format: unknown format {', '.join(unknown) or text!r}; formats: {', '.join(FORMATS)}")
    if mixed and "ffxml" not in formats:
        raise ValueError(f"--mixed {mixed}: belongs to --format ffxml, got {', '.join(formats)}")
    return formats


def _collect(done: Iterator[Done], number: int, debug: bool) -> list[Result]:
    """The results, under a progress bar where there is a terminal; with `debug`, tracebacks go to stderr."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    results = []
    for one in track(done, "parametrize", number, console=console, transient=True, disable=not console.is_terminal):
        if debug and one.error is not None:
            traceback.print_exception(one.error)
        results.append(one.result)
    return results


def _print(console: Console, results: Sequence[Result], out: Path) -> None:
    """A table of the written files, failures with their reasons on stderr, and a line with the counts."""
    from rich.table import Table

    done = [result for result in results if result.status != "failed"]
    if done:
        table = Table("molecule", "atoms", "charge", "domain", "files", box=None, pad_edge=False)
        for result in done[:_ROWS_SHOWN]:
            files = ", ".join(Path(file).name for file in result.files)
            table.add_row(
                result.name,
                str(result.atoms),
                f"{result.formal_charge or 0:+d}".replace("+0", "0"),
                result.domain,
                files,
            )
        console.print(table)
        if len(done) > _ROWS_SHOWN:
            console.print(f"… and {len(done) - _ROWS_SHOWN} more")
    for result in itertools.islice((r for r in done if r.warnings), _ROWS_SHOWN):
        more = len(result.warnings) - _NOTES_SHOWN
        text = "; ".join(result.warnings[:_NOTES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        print(f"note: {result.name}: {text}", file=sys.stderr)
    for result in results:
        if result.status != "ok":
            print(f"failed: {result.name}: {result.reason}", file=sys.stderr)
    failed = f", {len(results) - len(done)} failed" if len(done) < len(results) else ""
    print(f"wrote {sum(len(r.files) for r in done)} files of {len(done)} molecules to {out}{failed}")


def _write_report(
    path: Path,
    args: argparse.Namespace,
    model: str,
    formats: Sequence[str],
    refused: Mapping[str, str],
    results: Sequence[Result],
    spreads: dict[str, dict[str, str]] | None,
) -> Path:
    from importlib.metadata import version

    from espalike import files

    count = Counter(result.status for result in results)
    report: dict[str, Any] = {
        "espalike": version("espalike"),
        "model": model,
        "formats": list(formats),
        "refused": dict(refused),
        "charges": args.charges,
        "units": {"charge": "e", "seconds": "s"} | ({"spread": spreads} if spreads else {}),
        "done": count["ok"],
        "partial": count["partial"],
        "failed": count["failed"],
        "inputs": [asdict(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    files.write(path, text.encode("utf-8", "backslashreplace"))  # halves of pairs become JSON's own escapes
    return path

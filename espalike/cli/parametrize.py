"""`espalike parametrize`: molecules to force-field files."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from espalike.chem import Entry
    from espalike.chem.molecule import Molecule
    from espalike.model import ForceFieldModel
    from espalike.system import MMSystem

HELP = """Write force-field files for molecules: one set of files a molecule, atoms in the input's order.

examples:
  espalike parametrize 'CC(=O)Nc1ccc(O)cc1' --out out
  espalike parametrize ligands.sdf --out out --format system,ffxml --report out/report.json
  espalike parametrize ligand.sdf --out out --format gromacs,amber
  espalike parametrize ligand.sdf --model mine.espalike --format ffxml --mixed lj
  espalike parametrize ligand.pdb --smiles 'CC(=O)[O-]' --charges charges.txt

Coordinates, where a format holds them, are the input's, or an embedded conformer's if it has none.
A molecule that cannot be used is reported with its reason; the others are written.
exit status: 0 all done, 1 some inputs failed (the rest is written), 2 nothing could be done"""

CHARGE_SOURCES = ("model", "input", "am1bcc")
_ROWS_SHOWN = 30
_NOTES_SHOWN = 3

Charges = tuple["np.ndarray | None", str, tuple[str, ...]]
"""Partial charges to use (None: the model's), what they are, and notes on what was corrected."""


@dataclass
class Result:
    """What became of one input; a row of the report.

    Attributes:
        name: base name of its files.
        input: where it came from.
        status: `ok` or `failed`.
        reason: why it failed.
        warnings: remarks on the input, its charges and the model's domain.
        atoms: number of atoms.
        formal_charge: formal charge [e].
        summed_charge: sum of the partial charges [e] as written.
        charges: what the partial charges are.
        terms: number of terms of each functional form.
        domain: `inside`, `outside` or `unknown`: whether training held such chemistry.
        spread: of an ensemble, the standard deviation of each parameter over its members: root mean square and largest.
        files: files written.
        seconds: time it took.
    """

    name: str
    input: str
    status: str = "failed"
    reason: str | None = None
    warnings: list[str] = field(default_factory=list)
    atoms: int | None = None
    formal_charge: int | None = None
    summed_charge: float | None = None
    charges: str | None = None
    terms: dict[str, int] = field(default_factory=dict)
    domain: str | None = None
    spread: dict[str, dict[str, dict[str, float]]] | None = None
    files: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Output:
    """What is written, and where.

    Attributes:
        folder: where files are written.
        formats: file formats.
        mixed: how atoms of a van der Waals form of its own meet other force fields', for `ffxml`.
        torsions: how cosine series become OpenMM forces, for `system`.
    """

    folder: Path
    formats: tuple[str, ...]
    mixed: str | None
    torsions: str = "native"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    from espalike.export import FORMATS

    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="SDF, MOL, MOL2, PDB or .smi file, or a SMILES typed in place"
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
        help="for ffxml of a model whose van der Waals form is not Lennard-Jones: how its atoms meet those of other "
        "force fields (lj: by Lennard-Jones with its sigma and epsilon); without it, mixed systems are refused",
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
    parser.add_argument("--smiles", help="bond orders and charges of a PDB")
    parser.add_argument("--report", metavar="FILE", help="write a JSON report of every input")


def run(args: argparse.Namespace) -> int:
    """Parametrize the inputs; 0 all done, 1 some failed, 2 nothing was written.

    Raises:
        ValueError: for an unknown format or source of charges.
        FileNotFoundError: for an unknown model.
    """
    from rich.console import Console

    from espalike import model as models

    formats = _formats(args.format, args.mixed)
    name = args.model or models.DEFAULT
    model = models.load(name).double()
    entries = list(_read(args.inputs, args.smiles))
    charges = _charge_source(args.charges, model, len(entries))
    output = Output(Path(args.out), tuple(formats), args.mixed, args.torsions)
    output.folder.mkdir(parents=True, exist_ok=True)
    one = functools.partial(_one, model=model, model_name=str(name), charges=charges, output=output)
    results = _all(entries, one, args.debug)
    _print(Console(), results, output.folder)
    written = sum(result.status == "ok" for result in results)
    if args.report:
        spreads = _units(model) if isinstance(model, models.Ensemble) else None
        print(f"report: {_write_report(Path(args.report), args, str(name), formats, results, spreads)}")
    return 0 if written == len(results) else 1 if written else 2


def _formats(text: str, mixed: str | None) -> list[str]:
    from espalike.export import FORMATS

    formats = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"--format: unknown format {', '.join(unknown) or text!r}; formats: {', '.join(FORMATS)}")
    if mixed and "ffxml" not in formats:
        raise ValueError(f"--mixed {mixed}: belongs to --format ffxml, got {', '.join(formats)}")
    return formats


def _read(inputs: Sequence[str], smiles: str | None) -> Iterator[tuple[str, Entry]]:
    """Entries with the input they came from; an unreadable file is an entry with its error."""
    from espalike import chem

    for source in inputs:
        try:
            for entry in chem.read_molecules(source, smiles=smiles):
                yield source, entry
        except chem.ChemistryError as error:
            yield source, chem.Entry(Path(source).stem, error=str(error))


def _charge_source(source: str, model: ForceFieldModel, n_entries: int) -> Callable[[Entry], Charges]:
    """A function that gives an entry's charges; what it needs is loaded once, and missing needs are told at once."""
    has_charges = any(param.link == "charge" for term in model.terms for param in term.params)
    if source == "model":
        return lambda entry: (None, "model" if has_charges else "none: the model has no charge term", ())
    if not has_charges:
        raise ValueError(f"--charges {source}: the model's force field has no charge term")
    if source == "input":
        return _charges_of_input
    if source == "am1bcc":
        from espalike.assigners.openff import OpenFFAssigner

        assigner = OpenFFAssigner()
        label = f"AM1-BCC by {assigner.nagl}"
        return lambda entry: (assigner.reference(_molecule(entry))[0], label, ())
    if not Path(source).is_file():
        raise ValueError(f"--charges {source!r}: no such file, and none of {', '.join(CHARGE_SOURCES)}")
    if n_entries != 1:
        raise ValueError(
            f"--charges {source}: a charge file belongs to one molecule, got {n_entries}; for several, write "
            "the charges into the SDF as <atom.dprop.PartialCharge> and use --charges input"
        )
    from espalike.chem import read_charges

    values = read_charges(source)
    return lambda entry: _fitted(_molecule(entry), values, source)


def _charges_of_input(entry: Entry) -> Charges:
    if entry.charges is None:
        raise ValueError(
            "the input holds no partial charges; expected <atom.dprop.PartialCharge> in an SDF (one number an atom) "
            "or the charges of a MOL2"
        )
    return _fitted(_molecule(entry), entry.charges, "input")


def _fitted(molecule: Molecule, charges: np.ndarray, source: str) -> Charges:
    """Given charges that sum to the formal charge, with a note if that took a correction."""
    from espalike.model import fit_to_formal

    try:
        fitted = fit_to_formal(molecule, charges)
    except ValueError as error:
        raise ValueError(f"charges of {source}: {error}") from error
    excess = float(charges.sum()) - molecule.net_charge
    if abs(excess) <= 1e-9:
        return fitted, source, ()
    note = (
        f"charges of {source} summed to {charges.sum():+.6f} e, not {molecule.net_charge:+d}; "
        f"{-excess / len(charges):+.1e} e was added to each atom"
    )
    return fitted, f"{source}, corrected by {-excess / len(charges):+.1e} e an atom", (note,)


def _molecule(entry: Entry) -> Molecule:
    if entry.molecule is None:
        raise ValueError(entry.error)
    return entry.molecule


def _all(entries: Sequence[tuple[str, Entry]], one: Callable[[Entry, Result], None], debug: bool) -> list[Result]:
    """`one` for each entry, errors caught and kept as its reason, under a progress bar where there is a terminal.

    With `debug`, a failed molecule's traceback goes to stderr.
    """
    from rich.console import Console
    from rich.progress import track

    from espalike.chem import safe_names

    names = safe_names([entry.name for _, entry in entries])
    console = Console(stderr=True)
    results = []
    rows = zip(names, entries, strict=True)
    for name, (source, entry) in track(
        rows, "parametrize", len(entries), console=console, transient=True, disable=not console.is_terminal
    ):
        result = Result(name, source, warnings=list(entry.notes))
        start = time.perf_counter()
        try:
            one(entry, result)
            result.status = "ok"
        except Exception as error:  # whatever one molecule does, the others go on
            expected = isinstance(error, ValueError | ImportError)
            result.reason = str(error) if expected else f"{type(error).__name__}: {error}"
            if debug:
                traceback.print_exception(error)
        if result.status != "ok":
            for file in result.files:  # half a molecule is no output
                Path(file).unlink(missing_ok=True)
            result.files = []
        result.seconds = round(time.perf_counter() - start, 4)
        results.append(result)
    return results


def _one(
    entry: Entry,
    result: Result,
    model: ForceFieldModel,
    model_name: str,
    charges: Callable[[Entry], Charges],
    output: Output,
) -> None:
    """Parametrizes and writes one molecule, filling in its result as far as it gets."""
    from espalike import export

    molecule = _molecule(entry)
    result.atoms, result.formal_charge = molecule.n_atoms, molecule.net_charge
    result.domain = "unsupported"  # stays if the check raises
    if model.domain.elements:
        remarks = model.domain.check(molecule)
        result.domain = "outside" if remarks else "inside"
        result.warnings += remarks
    else:
        result.domain = "unknown"
        result.warnings.append("the model does not say what it was trained on")
    given, result.charges, notes = charges(entry)
    result.warnings += notes
    system = model.parametrize(molecule, given)
    result.terms = {bound.term.name: len(bound.tuples.idx) for bound in system.terms}
    result.summed_charge = _summed_charge(system)
    result.spread = _spread(model, molecule)
    info = {"Model": Path(model_name).name, "Charges": result.charges, "Domain": result.domain}
    for name in output.formats:
        format = export.FORMATS[name]
        path = output.folder / f"{result.name}{format.endings[0]}"
        mixed = output.mixed if name == "ffxml" else None
        torsions = output.torsions if name == "system" else "native"
        export.write(system, path, name, info=info, xyz=entry.xyz, mixed=mixed, torsions=torsions)
        result.files += [str(file) for file in format.paths(path)]


def _summed_charge(system: MMSystem) -> float | None:
    for bound in system.terms:
        if bound.term.params[0].link == "charge":
            return float(bound.values[:, 0].sum())
    return None


def _spread(model: ForceFieldModel, molecule: Molecule) -> dict[str, dict[str, dict[str, float]]] | None:
    """How far an ensemble's members lie apart, by term and parameter, in its unit; None for a single model."""
    from espalike.model import Ensemble

    if not isinstance(model, Ensemble):
        return None
    return {
        bound.term.name: {
            param.name: {"rms": round(float(column.square().mean().sqrt()), 6), "max": round(float(column.max()), 6)}
            for param, column in zip(bound.term.params, bound.values.unbind(-1), strict=True)
        }
        for bound in model.spread(molecule).terms
        if len(bound.values)
    }


def _units(model: ForceFieldModel) -> dict[str, dict[str, str]]:
    return {term.name: {param.name: param.unit for param in term.params} for term in model.terms}


def _print(console: Console, results: Sequence[Result], out: Path) -> None:
    """The table of what was written, failures with their reason on stderr, and one line that counts."""
    from rich.table import Table

    done = [result for result in results if result.status == "ok"]
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
    results: Sequence[Result],
    spreads: dict[str, dict[str, str]] | None,
) -> Path:
    from importlib.metadata import version

    done = sum(result.status == "ok" for result in results)
    report: dict[str, Any] = {
        "espalike": version("espalike"),
        "model": model,
        "formats": list(formats),
        "charges": args.charges,
        "units": {"charge": "e", "seconds": "s"} | ({"spread": spreads} if spreads else {}),
        "done": done,
        "failed": len(results) - done,
        "inputs": [asdict(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)
    return path

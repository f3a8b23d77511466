"""Molecules to force-field files: charges, parameters, files, and a result for each molecule."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espalike import export
from espalike.chem import ChemistryError, Entry, embed, read_charges, read_molecules, safe_names
from espalike.chem.molecule import Molecule
from espalike.chem.names import RESIDUE
from espalike.export import structure
from espalike.files import write
from espalike.model import Ensemble, ForceFieldModel, fit_to_formal

if TYPE_CHECKING:
    from espalike.system import MMSystem

CHARGE_SOURCES = ("model", "input", "am1bcc")

Charges = tuple[np.ndarray | None, str, tuple[str, ...]]
"""Partial charges [e] to use (None: the model's), where they come from, and notes on corrections."""


@dataclass
class Result:
    """The result for one molecule; a row of the report.

    Attributes:
        name: base name of its files.
        input: where it came from.
        status: `ok`, `partial` (some of its files could not be written) or `failed`.
        reason: why it failed, or what could not be written and why.
        warnings: remarks on the input, its charges and the model's domain.
        atoms: number of atoms.
        formal_charge: formal charge [e].
        summed_charge: sum of the partial charges [e] as written.
        charges: where the partial charges come from.
        terms: number of terms of each functional form.
        domain: `inside`, `outside` or `unknown`: whether such chemistry was in training.
        spread: for an ensemble, the standard deviation of each parameter over its members (root mean square, largest).
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
    """The files to write for each molecule.

    Attributes:
        folder: where files are written; it must exist if there are formats.
        formats: file formats; may be empty.
        mixed: for `ffxml`: how atoms of a van der Waals form other than Lennard-Jones interact with those of other
            force fields.
        torsions: for `system`: how cosine series become OpenMM forces.
        residue: name of the residue in the files; None: the input's, or `LIG`.
    """

    folder: Path = Path()
    formats: tuple[str, ...] = ()
    mixed: str | None = None
    torsions: str = "native"
    residue: str | None = None

    def __post_init__(self) -> None:
        if self.residue is not None and not RESIDUE.fullmatch(self.residue):
            raise ValueError(f"residue {self.residue!r}: expected one to four letters and digits")

    def options(self, format: export.Format) -> dict[str, Any]:
        """The arguments of `export.write` that only this format has."""
        options = {"mixed": self.mixed, "torsions": self.torsions}
        return {name: value for name, value in options.items() if name == format.option}


@dataclass(frozen=True)
class Done:
    """One molecule: its result, and its parameters or the error.

    Attributes:
        result: what the report says.
        system: the parametrized molecule; None if it failed.
        error: the error, or the first one if some files could not be written; None if there was none.
    """

    result: Result
    system: MMSystem | None = None
    error: Exception | None = None


def read(sources: Iterable[str | os.PathLike | Molecule], smiles: str | None = None) -> Iterator[tuple[str, Entry]]:
    """Molecules with the source they came from; an unreadable file is an entry with its error.

    Args:
        sources: SMILES, files and molecules.
        smiles: bond orders and charges of a PDB or mmCIF.
    """
    for source in sources:
        if isinstance(source, Molecule):
            yield source.name, Entry(source.name, source)
            continue
        try:
            for entry in read_molecules(source, smiles=smiles):
                yield str(source), entry
        except ChemistryError as error:
            yield str(source), Entry(Path(source).stem, error=str(error))


def parametrize(
    entries: Sequence[tuple[str, Entry]],
    model: ForceFieldModel,
    model_name: str,
    charges: Callable[[Entry], Charges],
    output: Output,
    strict: bool = False,
) -> Iterator[Done]:
    """Parametrize molecules and write their files; a molecule that fails has an error and no files.

    Args:
        entries: where each molecule came from, and the molecule.
        model: the model, in float64.
        model_name: name of the model for the files.
        charges: gives the partial charges of an entry; see `charge_source`.
        output: the files to write. Its formats must be able to express the force field; see `espalike.export.refusals`.
        strict: whether a molecule fails that is not inside the model's domain.
    """
    names = safe_names([entry.name for _, entry in entries])
    for name, (source, entry) in zip(names, entries, strict=True):
        result = Result(name, source, warnings=list(entry.notes))
        start = time.perf_counter()
        system, error = None, None
        try:
            if output.residue is not None and entry.molecule is not None:
                entry = dataclasses.replace(entry, molecule=dataclasses.replace(entry.molecule, residue=output.residue))
            system = _parametrize_one(entry, result, model, charges, strict)
            failures = _write(system, entry, result, model_name, output)
            result.status, error = ("partial", next(iter(failures.values()))) if failures else ("ok", None)
            result.reason = _not_written(failures)
        except Exception as caught:  # a molecule that fails does not stop the others
            error, system = caught, None
            result.reason = _text(error)
        result.seconds = round(time.perf_counter() - start, 4)
        yield Done(result, system, error)


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError | ImportError) else f"{type(error).__name__}: {error}"


def _not_written(failures: dict[str, Exception]) -> str | None:
    """What could not be written, by reason; None if all was."""
    reasons: dict[str, list[str]] = {}
    for what, error in failures.items():
        reasons.setdefault(_text(error), []).append(what)
    return "; ".join(f"{', '.join(names)} not written: {reason}" for reason, names in reasons.items()) or None


def charge_source(source: str | Path, model: ForceFieldModel, n_entries: int) -> Callable[[Entry], Charges]:
    """A function that gives the partial charges of an entry.

    Args:
        source: one of `CHARGE_SOURCES`, or a file of plain numbers [e], one per atom in input order.
        model: the model.
        n_entries: number of molecules.

    Raises:
        ValueError: for an unknown source, a force field without charges, or a file for several molecules.
        ImportError: when AM1-BCC charges need packages that are not installed.
    """
    has_charges = any(param.link == "charge" for term in model.terms for param in term.params)
    if source == "model":
        return lambda entry: (None, "model" if has_charges else "none: the model has no charge term", ())
    if not has_charges:
        raise ValueError(f"charges {source}: the model's force field has no charge term")
    if source == "input":
        return _charges_of_input
    if source == "am1bcc":
        from espalike.assigners.openff import OpenFFAssigner

        assigner = OpenFFAssigner()
        label = f"AM1-BCC by {assigner.nagl}"
        return lambda entry: (assigner.reference(_molecule(entry))[0], label, ())
    if not Path(source).is_file():
        raise ValueError(f"charges {str(source)!r}: no such file, and none of {', '.join(CHARGE_SOURCES)}")
    if n_entries != 1:
        raise ValueError(
            f"charges {source}: a charge file belongs to one molecule, got {n_entries}; for several, write "
            "the charges into the SDF as <atom.dprop.PartialCharge> and use the charges 'input'"
        )
    values = read_charges(source)
    return lambda entry: _fitted(_molecule(entry), values, str(source))


def units_of(model: ForceFieldModel) -> dict[str, dict[str, str]]:
    """Units of the parameters of each term."""
    return {term.name: {param.name: param.unit for param in term.params} for term in model.terms}


def _charges_of_input(entry: Entry) -> Charges:
    if entry.charges is None:
        raise ValueError(
            "the input holds no partial charges; expected <atom.dprop.PartialCharge> in an SDF (one number per atom) "
            "or the charges of a MOL2"
        )
    return _fitted(_molecule(entry), entry.charges, "input")


def _fitted(molecule: Molecule, charges: np.ndarray, source: str) -> Charges:
    """Given charges, corrected so that they sum to the formal charge, with a note on the correction."""
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
    return fitted, f"{source}, corrected by {-excess / len(charges):+.1e} e per atom", (note,)


def _molecule(entry: Entry) -> Molecule:
    if entry.molecule is None:
        raise ValueError(entry.error)
    return entry.molecule


def _parametrize_one(
    entry: Entry, result: Result, model: ForceFieldModel, charges: Callable[[Entry], Charges], strict: bool
) -> MMSystem:
    """Parameters of one molecule; fills in its result as far as it gets."""
    molecule = _molecule(entry)
    result.atoms, result.formal_charge = molecule.n_atoms, molecule.net_charge
    result.domain = "unsupported"  # stays if the check raises
    if model.domain.elements:
        remarks = model.domain.check(molecule)
        result.domain = "outside" if remarks else "inside"
        result.warnings += (*remarks, *model.domain.remarks(molecule))
    else:
        result.domain = "unknown"
        remarks = ("the model does not say what it was trained on",)
        result.warnings += remarks
    if strict and remarks:
        raise ValueError(f"{molecule.name}: outside the model's domain: {'; '.join(remarks)}")
    given, result.charges, notes = charges(entry)
    result.warnings += notes
    system = model.parametrize(molecule, given)
    result.terms = {bound.term.name: len(bound.tuples.idx) for bound in system.terms}
    values = _charges(system)
    result.summed_charge = None if values is None else float(values.sum())
    result.spread = _spread(model, molecule)
    return system


def _write(system: MMSystem, entry: Entry, result: Result, model_name: str, output: Output) -> dict[str, Exception]:
    """Write the files of one molecule; without coordinates in the input, all have those of the same conformer.

    Returns:
        What could not be written, and the errors.

    Raises:
        Exception: if no format could be written.
    """
    if not output.formats:
        return {}
    molecule, xyz, failures = system.molecules[0], entry.xyz, dict[str, Exception]()
    try:
        xyz = embed(molecule)[0] if xyz is None else xyz
    except ChemistryError as error:
        needing = [name for name in output.formats if export.FORMATS[name].coordinates]
        failures = dict.fromkeys([*needing, "sdf, pdb"], error)
    info = {"Model": Path(model_name).name, "Charges": str(result.charges), "Domain": str(result.domain)}
    if "offxml" in output.formats and system.molecules[0].isotopes.any():
        result.warnings.append("format offxml holds no masses: OpenFF gives isotopes the masses of their elements")
    for name in [name for name in output.formats if name not in failures]:
        known = export.FORMATS[name]
        path = output.folder / f"{result.name}{known.endings[0]}"
        try:
            export.write(system, path, name, info=info, xyz=xyz, **output.options(known))
            result.files += [str(file) for file in known.paths(path)]
        except Exception as error:  # the other formats are written
            failures[name] = error
    if not result.files:
        raise next(iter(failures.values()))
    if xyz is not None:
        _write_structure(system, xyz, result, output, failures)
    return failures


def _write_structure(
    system: MMSystem, xyz: np.ndarray, result: Result, output: Output, failures: dict[str, Exception]
) -> None:
    """Write the SDF and the PDB beside the other files; a file of the user by that name is kept."""
    for ending, text in structure.texts(system.molecules[0], xyz, _charges(system)).items():
        path = output.folder / f"{result.name}{ending}"
        try:
            if structure.is_foreign(path):
                result.warnings.append(f"{path} is kept: it is not a file that espalike wrote")
                continue
            write(path, text)
            result.files.append(str(path))
        except Exception as error:  # the other files stay
            failures[ending[1:]] = error


def _charges(system: MMSystem) -> np.ndarray | None:
    """Partial charges [e] of a system; None for a force field without them."""
    for bound in system.terms:
        if bound.term.params[0].link == "charge":
            return bound.values[:, 0].detach().numpy()
    return None


def _spread(model: ForceFieldModel, molecule: Molecule) -> dict[str, dict[str, dict[str, float]]] | None:
    """Standard deviation over an ensemble's members by term and parameter, in its unit; None for a single model."""
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

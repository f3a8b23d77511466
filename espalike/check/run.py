"""Every check on every molecule: in several processes, each result saved at once, so that a stopped run continues."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from espalike.check import dynamics, parameters, structure
from espalike.check.case import Case, Fault, NotApplicable
from espalike.check.fields import kept_field
from espalike.chem import ChemistryError
from espalike.chem.files import read_molecules
from espalike.chem.molecule import Molecule
from espalike.chem.records import exists
from espalike.files import sealed, unsealed
from espalike.workers import pool

PARAMETRIZED = "parametrized"
CHECKS: Mapping[str, Callable[[Case], float | None]] = {
    "charges": parameters.charges,
    "symmetry": parameters.symmetry,
    "renumbering": parameters.renumbering,
    "resonance": parameters.resonance,
    "ranges": parameters.ranges,
    "barriers": parameters.barriers,
    "bonds": structure.bonds,
    "stereochemistry": structure.stereochemistry,
    "aromatic rings": structure.aromatic_rings,
    "amides": structure.amides,
    "tetrahedral S, P": structure.tetrahedral,
    "compressed": dynamics.compressed,
    "energy kept": dynamics.energy_kept,
    "300 K": dynamics.stable_300,
    "500 K": dynamics.stable_500,
}
"""The checks of a molecule that has parameters, by the name in the report, in this order; some give a value."""
COST = "linear cost"
_LENGTHS, _LARGEST_RATIO = (20, 80), 8.0
"""Residues of the two peptides whose parametrization is timed; quadratic cost would give a ratio of 16."""


@dataclass(frozen=True)
class Finding:
    """The result of a check for a molecule.

    Attributes:
        check: its name, see `CHECKS`.
        molecule: name.
        smiles: mapped SMILES.
        status: `passed`, `failed`, `not applicable`, or `outside` (the model's domain).
        message: what is wrong, or why the check does not apply.
        atoms: to mark in a drawing, counted from 0.
        seconds: of the processor.
        value: what the check measured, where it gives a value and did not fail; its docstring says what, in which unit.
    """

    check: str
    molecule: str
    smiles: str
    status: str
    message: str = ""
    atoms: tuple[int, ...] = ()
    seconds: float = 0.0
    value: float | None = None


@dataclass(frozen=True)
class Settings:
    """Settings on which the findings depend.

    Attributes:
        source: the force field; see `espalike.check.fields.field_of`.
        picoseconds: length of each run of dynamics.
    """

    source: str
    picoseconds: float = 5.0


@dataclass
class Outcome:
    """All findings.

    Attributes:
        findings: in the order of molecules and checks.
        unread: messages on inputs that could not be read.
    """

    findings: list[Finding] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Finding]:
        """Those of status `failed`."""
        return [finding for finding in self.findings if finding.status == "failed"]


def molecules_of(inputs: Sequence[str]) -> tuple[list[Molecule], list[str]]:
    """The molecules of files and SMILES, or the 200 that come with the program; and messages on what is unreadable.

    The name of a SMILES that is typed in place is the SMILES.
    """
    molecules: list[Molecule] = []
    unread: list[str] = []
    for source in inputs or [str(files("espalike.check") / "molecules.smi")]:
        for entry in read_molecules(source):
            if entry.molecule is None:
                unread.append(str(entry.error))
            else:
                molecules.append(entry.molecule if exists(Path(source)) else replace(entry.molecule, name=source))
    return molecules, unread


def check(
    settings: Settings,
    molecules: Sequence[Molecule],
    record: Path | None = None,
    jobs: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> list[Finding]:
    """Check a force field on molecules.

    Args:
        settings: the force field, and the length of dynamics.
        molecules: the graphs.
        record: JSON lines of the findings; those that are there already are not computed again.
        jobs: number of processes.
        advance: called after each molecule.

    Raises:
        FileNotFoundError, ModelFileError, ImportError, ValueError: see `espalike.check.fields.field_of`.
    """
    identity = kept_field(settings.source).identity
    keys = [_key(identity, settings, molecule) for molecule in molecules]
    done = _recorded(record)
    findings: dict[str, list[Finding]] = {key: done[key] for key in keys if key in done}
    for _ in findings:
        advance()
    left = [(key, molecule) for key, molecule in zip(keys, molecules, strict=True) if key not in findings]
    for key, found in _computed(settings, left, jobs):
        findings[key] = found
        if record is not None:
            row = sealed({"key": key, "findings": [asdict(one) for one in found]})
            with record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        advance()
    return [one for key in keys for one in findings[key]]


def linear_cost(source: str) -> Finding | None:
    """Whether the time of a parametrization grows linearly with the molecule; None for a force field in XML."""
    parametrize = kept_field(source).parameters
    if parametrize is None:
        return None
    seconds = []
    peptides = [Molecule.from_smiles("CC(=O)" + "NCC(=O)" * n + "NC", f"peptide of {n} glycines") for n in _LENGTHS]
    for peptide in peptides:
        times = []
        for _ in range(3):
            start = time.process_time()
            parametrize(peptide)
            times.append(time.process_time() - start)
        seconds.append(min(times))
    ratio = seconds[1] / seconds[0]
    message = f"{peptides[1].n_atoms} atoms take {ratio:.1f} times as long as {peptides[0].n_atoms}"
    status = "passed" if ratio < _LARGEST_RATIO else "failed"
    return Finding(COST, peptides[1].name, peptides[1].smiles, status, message, (), sum(seconds))


def findings_of(settings: Settings, molecule: Molecule) -> list[Finding]:
    """All checks of one molecule; without parameters, the first finding is the only one."""
    from espalike.model import DomainError

    case = Case(molecule, kept_field(settings.source), settings.picoseconds)

    def parametrized(case: Case) -> None:
        try:
            _ = case.system
        except DomainError:
            raise
        except Exception as error:  # whatever a force field raises, this molecule has no parameters
            raise Fault(f"no parameters: {error}") from error

    try:
        first = _finding(PARAMETRIZED, parametrized, case)
    except DomainError as error:
        return [Finding(PARAMETRIZED, molecule.name, molecule.smiles, "outside", str(error))]
    if first.status == "failed":
        return [first]
    return [first, *(_finding(name, function, case) for name, function in CHECKS.items())]


def _finding(name: str, function: Callable[[Case], float | None], case: Case) -> Finding:
    from openmm import OpenMMException

    start = time.process_time()
    status, message = "passed", ""
    atoms: tuple[int, ...] = ()
    value = None
    try:
        value = function(case)
    except Fault as fault:
        status, message, atoms = "failed", str(fault), fault.atoms
    except NotApplicable as reason:
        status, message = "not applicable", str(reason)
    except (OpenMMException, ChemistryError) as error:  # "Particle coordinate is NaN", for instance
        status, message = "failed", str(error)
    seconds = round(time.process_time() - start, 3)
    return Finding(name, case.molecule.name, case.molecule.smiles, status, message, atoms, seconds, value)


def _key(identity: str, settings: Settings, molecule: Molecule) -> str:
    parts = (version("espalike"), identity, settings.picoseconds, sorted(CHECKS), molecule.smiles, molecule.name)
    text = repr(parts)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _recorded(record: Path | None) -> dict[str, list[Finding]]:
    """Findings of an earlier run; lines that are not what was written, or not finished, are left out."""
    found: dict[str, list[Finding]] = {}
    if record is None or not record.is_file():
        return found
    content = record.read_bytes()
    if content and not content.endswith(b"\n"):  # the next line begins after it
        with record.open("ab") as file:  # another run may be writing to it
            file.write(b"\n")
    for row in filter(None, map(unsealed, content.split(b"\n"))):
        found[row["key"]] = [Finding(**{**one, "atoms": tuple(one["atoms"])}) for one in row["findings"]]
    return found


def _computed(
    settings: Settings, left: Iterable[tuple[str, Molecule]], jobs: int
) -> Iterator[tuple[str, list[Finding]]]:
    if jobs == 1:
        yield from ((key, findings_of(settings, molecule)) for key, molecule in left)
        return
    with pool(jobs) as workers:
        futures = {workers.submit(findings_of, settings, molecule): key for key, molecule in left}
        yield from ((futures[future], future.result()) for future in as_completed(futures))

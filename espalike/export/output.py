"""The output for each molecule: files in the formats that are asked for, its structure, a row of the report."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espalike import export
from espalike.chem import ChemistryError, Entry, embed
from espalike.chem.names import RESIDUE
from espalike.export import structure
from espalike.export.pairs import MIXED
from espalike.export.text import is_foreign
from espalike.files import write
from espalike.system import MMSystem


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
        read: files that are read, resolved; none of them is replaced.
    """

    folder: Path = Path()
    formats: tuple[str, ...] = ()
    mixed: str | None = None
    torsions: str = "native"
    residue: str | None = None
    read: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if self.mixed not in MIXED:
            raise ValueError(f"mixed={self.mixed!r}: expected one of {', '.join(map(repr, MIXED))}")
        if self.residue is not None and not (isinstance(self.residue, str) and RESIDUE.fullmatch(self.residue)):
            raise ValueError(f"residue {self.residue!r}: expected one to four letters and digits")

    def kept(self, path: Path) -> str | None:
        """Why a file must not be replaced: it is read, or the user's own; None if it may."""
        if self.read and path.exists() and path.resolve() in self.read:
            return f"{path} is kept: it is read"
        return f"{path} is kept: it is not a file that espalike wrote" if is_foreign(path) else None

    def options(self, format: export.Format) -> dict[str, Any]:
        """The arguments of `export.write` that only this format has."""
        options = {"mixed": self.mixed, "torsions": self.torsions}
        return {name: value for name, value in options.items() if name == format.option}


def existing(*given: str | None) -> tuple[Path, ...]:
    """Those of the given texts that are names of files, resolved."""
    found = []
    for text in dict.fromkeys(filter(None, given)):
        with suppress(OSError, ValueError):  # a SMILES can be too long for a name
            if (path := Path(text)).is_file():
                found.append(path.resolve())
    return tuple(found)


def reason_of(error: Exception) -> str:
    """Why something failed; the message alone where it is written for the user."""
    return str(error) if isinstance(error, ValueError | ImportError) else f"{type(error).__name__}: {error}"


def not_written(failures: dict[str, Exception]) -> str | None:
    """What could not be written, by reason; None if all was."""
    reasons: dict[str, list[str]] = {}
    for what, error in failures.items():
        reasons.setdefault(reason_of(error), []).append(what)
    return "; ".join(f"{', '.join(names)} not written: {reason}" for reason, names in reasons.items()) or None


def write_files(
    system: MMSystem, entry: Entry, result: Result, model_name: str, output: Output
) -> dict[str, Exception]:
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
            if kept := list(filter(None, (output.kept(file) for file in known.paths(path)))):
                raise ValueError(f"{'; '.join(kept)}; rename it, or give another --out")
            export.write(system, path, name, info=info, xyz=xyz, **output.options(known))
            result.files += [str(file) for file in known.paths(path)]
        except Exception as error:  # the other formats are written
            failures[name] = error
    if not result.files:
        raise next(iter(failures.values()))
    if xyz is not None:
        _structure(system, xyz, result, output, failures)
    return failures


def earlier(result: Result, output: Output) -> list[str]:
    """A note on files of this molecule's name that an earlier run wrote, and this one did not; or none."""
    formats = [ending for name in output.formats for ending in export.FORMATS[name].endings]
    paths = [output.folder / f"{result.name}{ending}" for ending in (*formats, *structure.ENDINGS) if output.formats]
    old = [str(path) for path in paths if str(path) not in result.files and path.exists() and not output.kept(path)]
    return [f"of an earlier run: {', '.join(old)}"] if old else []


def _replaced(result: Result, output: Output) -> str:
    """The note that this molecule's files take the place of another one's, and which of those are left."""
    endings = [ending for format in export.FORMATS.values() for ending in format.endings]
    paths = [output.folder / f"{result.name}{ending}" for ending in endings]
    left = [str(path) for path in paths if str(path) not in result.files and path.exists() and not output.kept(path)]
    others = f"; others of that run are left: {', '.join(left)}" if left else ""
    return f"files of an earlier run for another molecule or geometry of this name were replaced{others}"


def _structure(
    system: MMSystem, xyz: np.ndarray, result: Result, output: Output, failures: dict[str, Exception]
) -> None:
    """Write the SDF and the PDB beside the other files; one that the user made or that is read is kept."""
    molecule, whole = system.molecules[0], "ffxml" in output.formats
    if molecule.labels and whole:
        result.warnings.append(
            f"{result.name}.pdb has one residue, as the template in {result.name}.xml; without ffxml it has those of "
            "the input"
        )
    charges = charges_of(system)
    for ending in structure.ENDINGS:
        path = output.folder / f"{result.name}{ending}"
        try:
            if kept := output.kept(path):
                result.warnings.append(kept)
                continue
            text = structure.text(ending, molecule, xyz, charges, whole)
            if ending == ".sdf" and path.exists() and not structure.is_same(path.read_text("utf-8", "replace"), text):
                result.warnings.append(_replaced(result, output))
            write(path, text)
            result.files.append(str(path))
        except Exception as error:  # the other files stay
            failures[ending[1:]] = error


def charges_of(system: MMSystem) -> np.ndarray | None:
    """Partial charges [e] of a system; None for a force field without them."""
    for bound in system.terms:
        if bound.term.params[0].link == "charge":
            return bound.values[:, 0].detach().numpy()
    return None

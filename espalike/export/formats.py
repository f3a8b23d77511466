"""The file formats: what they are called, which force fields they can express, and how their files are written."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from espalike.devices import on_cpu

if TYPE_CHECKING:
    import numpy as np
    import openmm
    import openmm.app

    from espalike.chem.molecule import Molecule
    from espalike.export.engine import Engine
    from espalike.export.parts import Single
    from espalike.system import MMSystem
    from espalike.terms.base import Term


@dataclass(frozen=True)
class Format:
    """A file format: one or several files per molecule.

    Attributes:
        endings: endings of its files.
        module: module with the table `ENGINE` and `texts(single, **options) -> dict[str, str]`, ending to text. Where a
            text names a sibling file, it holds `text.STEM`, and `text.NAME` for the molecule's name; `write` replaces
            both.
        option: name of the one argument of `write` that only this format has, if any.
        coordinates: whether its files hold coordinates.
    """

    endings: tuple[str, ...]
    module: str
    option: str = ""
    coordinates: bool = False

    def paths(self, path: str | Path) -> tuple[Path, ...]:
        """The files that `write(…, path)` makes, in the order of `endings`.

        Args:
            path: any one of them.

        Raises:
            ValueError: when the path has none of the endings.
        """
        path = Path(path)
        for ending in self.endings:
            if path.name.endswith(ending) and path.name != ending:
                stem = path.name.removesuffix(ending)
                return tuple(path.with_name(stem + other) for other in self.endings)
        raise ValueError(f"{path}: expected a file name with the ending {' or '.join(self.endings)}")


FORMATS: dict[str, Format] = {
    "system": Format((".system.xml",), "espalike.export.openmm", "torsions"),
    "ffxml": Format((".xml",), "espalike.export.ffxml", "mixed"),
    "offxml": Format((".offxml",), "espalike.export.offxml"),
    "lammps": Format((".lmp", ".in"), "espalike.export.lammps", coordinates=True),
    "gromacs": Format((".top", ".gro", ".itp"), "espalike.export.gromacs", coordinates=True),
    "amber": Format((".prmtop", ".inpcrd"), "espalike.export.amber", coordinates=True),
}
"""Known formats."""


def _engine(format: str) -> Engine:
    """The table of a format."""
    return importlib.import_module(FORMATS[format].module).ENGINE


@lru_cache(maxsize=64)
def _lacks(format: str, terms: tuple[Term, ...]) -> list[str]:
    """Names of the terms that a format cannot express."""
    return _engine(format).refused(terms)


def table() -> list[list[str]]:
    """Rows of the table primitives × formats, the head first; `python -m espalike.export` prints it."""
    from espalike.export.engine import table as rows

    return rows([_engine(name) for name in FORMATS])


@on_cpu()
def to_openmm(
    system: MMSystem, index: int | None = None, by_term: bool = False, torsions: str = "native"
) -> openmm.System:
    """An `openmm.System` of one molecule: particles in input order, no constraints, no cut-off.

    Harmonic bonds, harmonic angles and Fourier series are rows of one `HarmonicBondForce`, `HarmonicAngleForce` and
    `PeriodicTorsionForce`, 12-6 and Coulomb of one `NonbondedForce`; a class I force field has these four forces. What
    OpenMM has no force for becomes custom forces; couplings on the same tuples share one. Another pair term is two
    forces: all pairs beyond 1-4, and the 1-4 pairs (named after the term and `14`). Forces carry the names of their
    terms, joined by `+`, and the first term's position in `system.terms` as force group.

    Args:
        system: parametrized molecules.
        index: which molecule; may be left out if there is one.
        by_term: whether bonded terms must not share forces, for energies by term.
        torsions: `native`, or `custom`: cosine series as one polynomial in cos φ per torsion in a `CustomTorsionForce`.

    Raises:
        ExportError: when the system is not fit for export (see `parts.select`) or a pair term states no combining rule.
        ValueError: for another value of `torsions`.
    """
    from espalike.export.openmm import to_system

    return to_system(_single("system", system, index), by_term, torsions)


@on_cpu()
def to_topology(molecule: Molecule, residue: str | None = None) -> openmm.app.Topology:
    """An OpenMM topology of one residue, atoms in the molecule's order, as `ForceField.createSystem` needs it.

    Args:
        molecule: the molecule, whose atoms' names are the input's where it has them.
        residue: name of the residue; None: the input's, or `LIG`.

    Raises:
        TypeError: for what is not a molecule; `system.molecules` has those of a system.
    """
    import openmm.app

    from espalike.chem.molecule import check_molecule
    from espalike.export.text import atom_names, residue_name

    check_molecule(molecule)
    topology = openmm.app.Topology()
    home = topology.addResidue(residue or residue_name(molecule), topology.addChain())
    elements = [openmm.app.element.Element.getByAtomicNumber(z) for z in molecule.numbers.tolist()]
    atoms = [topology.addAtom(n, e, home) for n, e in zip(atom_names(molecule), elements, strict=True)]
    for (i, j), order in zip(molecule.bonds.tolist(), molecule.orders.tolist(), strict=True):
        topology.addBond(atoms[i], atoms[j], order=order)
    return topology


def formats_of(formats: str | Iterable[str]) -> tuple[str, ...]:
    """Names of formats, each once: from a text, separated by commas, or from several texts.

    Raises:
        ValueError: for an unknown format, listing the known ones, and for none.
    """
    texts = [formats] if isinstance(formats, str) else list(formats)
    names = tuple(dict.fromkeys(part.strip() for text in texts for part in text.split(",") if part.strip()))
    if not names:
        raise _unknown(formats)
    for name in names:
        if name not in FORMATS:
            raise _unknown(name)
    return names


def _unknown(format: object) -> ValueError:
    return ValueError(f"unknown format {format!r}; known formats: {', '.join(FORMATS)}")


def check_options(formats: Sequence[str], **options: str | None) -> None:
    """Check that options of one format (`mixed`, `torsions`) are given where files of this format are written.

    Raises:
        ValueError: for an option of another format.
    """
    for owner, format in FORMATS.items():
        value = options.get(format.option)
        if value not in (None, "native") and owner not in formats:
            raise ValueError(f"{format.option}={value}: belongs to format {owner}, got {', '.join(formats)}")


def format_of(path: str | Path, format: str | None = None) -> str:
    """The format that the suffix of a file name stands for: `lig.prmtop` is `amber`, `lig.system.xml` is `system`.

    Args:
        path: name of the file.
        format: the format that the caller asks for; it must agree with the suffix.

    Raises:
        TypeError: for a format that is not a name.
        ValueError: for an unknown format, an unknown suffix, or a suffix of another format; each lists the known ones.
    """
    if format is not None and not isinstance(format, str):
        raise TypeError(f"format: expected a name, got {type(format).__name__}; coordinates are given as xyz=...")
    if format is not None and format not in FORMATS:
        raise _unknown(format)
    endings = sorted(((e, name) for name, known in FORMATS.items() for e in known.endings), key=lambda e: -len(e[0]))
    inferred = next((name for ending, name in endings if Path(path).name.endswith(ending)), None)
    known = "; ".join(f"{name}: {', '.join(form.endings)}" for name, form in FORMATS.items())
    if inferred is None:
        raise ValueError(f"{path}: the suffix stands for no known format; known suffixes: {known}")
    if format is not None and format != inferred:
        raise ValueError(
            f"{path}: the suffix stands for format {inferred!r}, but format={format!r} was given; "
            f"known suffixes: {known}"
        )
    return inferred


def refusals(terms: Iterable[Term], formats: str | Sequence[str]) -> dict[str, str]:
    """Why formats cannot express a force field, from its terms alone, before any molecule is parametrized.

    Args:
        terms: terms of the force field, e.g. `model.terms`.
        formats: name of a format, or names of several, to ask about.

    Returns:
        One message for each format that cannot; it names the terms and the formats that can. Empty if all can.

    Raises:
        ValueError: for an unknown format.
    """
    refused, advice = _refused(terms, formats)
    return {name: f"{text}; {advice}" for name, text in refused.items()}


def refusal(terms: Iterable[Term], formats: str | Sequence[str]) -> str:
    """The `refusals` in one message, which names the formats that can once; empty if all can.

    Raises:
        ValueError: for an unknown format.
    """
    refused, advice = _refused(terms, formats)
    return "; ".join([*refused.values(), advice]) if refused else ""


def _refused(terms: Iterable[Term], formats: str | Sequence[str]) -> tuple[dict[str, str], str]:
    """What each of the formats lacks, for those that lack something; and the formats that lack nothing."""
    formats = formats_of(formats) if formats else ()
    terms = tuple(terms)
    lacks = {name: _lacks(name, terms) for name in FORMATS}
    able = [name for name, names in lacks.items() if not names]
    advice = f"formats that can express this force field: {', '.join(able)}" if able else "no format can"
    return {name: f"format {name!r} cannot express {', '.join(lacks[name])}" for name in formats if lacks[name]}, advice


@on_cpu()
def texts(
    system: MMSystem,
    format: str,
    *,
    index: int | None = None,
    info: Mapping[str, str] | None = None,
    xyz: np.ndarray | None = None,
    **options: str | None,
) -> dict[str, str]:
    """The texts of one molecule's files, by ending; see `write` for arguments and errors."""
    single = _single(format, system, index, info, xyz)
    for name in options.keys() - {FORMATS[format].option}:
        owner = next((other for other, known in FORMATS.items() if known.option == name), None)
        raise ValueError(f"{name}={options[name]!r} belongs to format {owner!r}; got format {format!r}")
    return importlib.import_module(FORMATS[format].module).texts(single, **options)


def _single(format: str, system: MMSystem, index: int | None, info=None, xyz=None) -> Single:
    """One molecule for a format; refuses terms that the format cannot express."""
    from espalike.export.expressions import check_expression
    from espalike.export.parts import ExportError, Single, select
    from espalike.system import check_system

    check_system(system)
    if format not in FORMATS:
        raise _unknown(format)
    terms = tuple(bound.term for bound in system.terms)
    if _lacks(format, terms):
        refused = refusals(terms, [format])
        molecules = system.molecules if index is None else system.molecules[index : index + 1]
        raise ExportError(f"{', '.join(m.name for m in molecules[:3])}: {refused[format]}")
    for term in terms:
        check_expression(term)
    return Single(select(system, index), format, info or {}, xyz)


@on_cpu()
def write(
    system: MMSystem,
    path: str | Path,
    format: str | None = None,
    *,
    index: int | None = None,
    info: Mapping[str, str] | None = None,
    xyz: np.ndarray | None = None,
    mixed: str | None = None,
    torsions: str = "native",
) -> Path:
    """Write one molecule's parameters to a file, or to several of the same stem: all of them whole, or none.

    Args:
        system: parametrized molecules.
        path: file to write; an existing one is replaced. Its suffix says the format (see `FORMATS`). A format of
            several files writes all of them, whichever of them is given.
        format: one of `FORMATS`, as a check; it must agree with the suffix.
        index: which molecule of the system; may be left out if there is one.
        info: provenance to write into the file, e.g. `{"model": …, "charges": …}`.
        xyz: coordinates [Å] `(A, 3)` for the formats that hold them; an embedded conformer if left out.
        mixed: for `ffxml` with a van der Waals form other than Lennard-Jones: how its atoms interact with those of
            other force fields, e.g. `lj`; see `espalike.export.ffxml.texts`.
        torsions: for `system`: `native`, or `custom`, see `to_openmm`.

    Returns:
        The path.

    Raises:
        ValueError: for an unknown format or suffix, or a suffix of another format, listing the known ones; or
            (`ExportError`) when the format cannot express a term, naming the term and the formats that can, or the
            system is not fit for export.

    Examples:
        >>> import espalike
        >>> system = espalike.load("espalike-1").parametrize(espalike.Molecule.from_smiles("CCO"))
        >>> espalike.export.write(system, "ethanol.prmtop")  # doctest: +SKIP
        PosixPath('ethanol.prmtop')
    """
    from espalike.chem import safe_names
    from espalike.export.text import NAME, STEM
    from espalike.files import replacing
    from espalike.system import check_system

    check_system(system)
    format = format_of(path, format)
    given = {"mixed": mixed} if mixed is not None else {}
    given |= {"torsions": torsions} if torsions != "native" else {}
    content = texts(system, format, index=index, info=info, xyz=xyz, **given)
    paths = FORMATS[format].paths(path)
    if len(paths) > 1:
        stem = paths[0].name.removesuffix(FORMATS[format].endings[0])
        (name,) = safe_names([stem])
        content = {ending: text.replace(STEM, stem).replace(NAME, name) for ending, text in content.items()}
    with contextlib.ExitStack() as stack:
        for target, ending in zip(paths, FORMATS[format].endings, strict=True):
            stack.enter_context(replacing(target)).write_bytes(content[ending].encode())
    return Path(path)

"""Export of parametrized molecules: `to_openmm` makes a system in memory, `write` writes files."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import openmm
    import openmm.app

    from espalike.chem.molecule import Molecule
    from espalike.export.engine import Engine
    from espalike.system import MMSystem
    from espalike.terms.base import Term


@dataclass(frozen=True)
class Format:
    """A file format: one or several files per molecule.

    Attributes:
        endings: endings of its files.
        module: module with `texts(system, index, info, xyz) -> dict[str, str]`, ending to text. Where a text names a
            sibling file, it holds `parts.STEM`, which `write` replaces.
    """

    endings: tuple[str, ...]
    module: str

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
    "system": Format((".system.xml",), "espalike.export.openmm"),
    "ffxml": Format((".xml",), "espalike.export.ffxml"),
    "offxml": Format((".offxml",), "espalike.export.offxml"),
    "lammps": Format((".lmp", ".in"), "espalike.export.lammps"),
    "gromacs": Format((".top", ".gro", ".itp"), "espalike.export.gromacs"),
    "amber": Format((".prmtop", ".inpcrd"), "espalike.export.amber"),
}
"""Known formats."""


def _engine(format: str) -> Engine:
    """The table of a format."""
    return importlib.import_module(FORMATS[format].module).ENGINE


def table() -> list[list[str]]:
    """Rows of the table primitives × formats, the head first; `python -m espalike.export` prints it."""
    from espalike.export.engine import table as rows

    return rows([_engine(name) for name in FORMATS])


def to_openmm(
    system: MMSystem, index: int | None = None, by_term: bool = False, torsions: str = "native"
) -> openmm.System:
    """An `openmm.System` of one molecule; see `espalike.export.openmm.to_openmm`."""
    from espalike.export.openmm import to_openmm as convert

    return convert(system, index, by_term, torsions)


def to_topology(molecule: Molecule, residue: str = "LIG") -> openmm.app.Topology:
    """An OpenMM topology of one molecule; see `espalike.export.ffxml.to_topology`."""
    from espalike.export.ffxml import to_topology as convert

    return convert(molecule, residue)


def format_of(path: str | Path, format: str | None = None) -> str:
    """The format that the suffix of a file name stands for: `lig.prmtop` is `amber`, `lig.system.xml` is `system`.

    Args:
        path: name of the file.
        format: the format that the caller asks for; it must agree with the suffix.

    Raises:
        ValueError: for an unknown format, an unknown suffix, or a suffix of another format; each lists the known ones.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known formats: {', '.join(FORMATS)}")
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


def refusals(terms: Iterable[Term], formats: Sequence[str]) -> dict[str, str]:
    """Why formats cannot express a force field, from its terms alone, before any molecule is parametrized.

    Args:
        terms: terms of the force field, e.g. `model.terms`.
        formats: names of formats to ask about.

    Returns:
        One message for each format that cannot; it names the terms and the formats that can. Empty if all can.

    Raises:
        ValueError: for an unknown format.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"unknown format {unknown[0]!r}; known formats: {', '.join(FORMATS)}")
    terms = list(terms)
    refused = {name: _engine(name).refused(terms) for name in FORMATS}
    able = [name for name, names in refused.items() if not names]
    advice = f"formats that can express this force field: {', '.join(able)}" if able else "no format can"
    return {
        name: f"format {name!r} cannot express {', '.join(refused[name])}; {advice}"
        for name in formats
        if refused[name]
    }


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
            several files writes all of them, whichever is named.
        format: one of `FORMATS`, to make sure of it; it must agree with the suffix.
        index: which molecule of the system; may be left out if there is one.
        info: provenance to write into the file, e.g. `{"model": …, "charges": …}`.
        xyz: coordinates [Å] `(A, 3)` for the formats that hold them; an embedded conformer if left out.
        mixed: for `ffxml` with a van der Waals form other than Lennard-Jones: how its atoms interact with those of
            other force fields, e.g. `lj`.
        torsions: for `system`: `native`, or `custom`, see `espalike.export.openmm.to_openmm`.

    Returns:
        The path.

    Raises:
        ValueError: for an unknown format or suffix, or a suffix of another format, listing the known ones; or
            (`ExportError`) when the format cannot express a term, naming the term and the formats that can, or the
            system is not fit for export.

    Example:
        >>> import espalike
        >>> system = espalike.load("espalike-small").parametrize(espalike.Molecule.from_smiles("CCO"))
        >>> espalike.export.write(system, "ethanol.prmtop")  # doctest: +SKIP
        PosixPath('ethanol.prmtop')
    """
    format = format_of(path, format)
    if mixed is not None and format != "ffxml":
        raise ValueError(f"mixed={mixed!r} belongs to format 'ffxml'; format {format!r} holds one molecule alone")
    if torsions != "native" and format != "system":
        raise ValueError(f"torsions={torsions!r} belongs to format 'system'; format {format!r} has native torsions")
    from espalike.export.parts import STEM, ExportError
    from espalike.files import replacing

    if refused := refusals([bound.term for bound in system.terms], [format]):
        molecules = system.molecules if index is None else system.molecules[index : index + 1]
        raise ExportError(f"{', '.join(m.name for m in molecules[:3])}: {refused[format]}")
    texts = _texts(format, system, index, info, xyz, mixed, torsions)
    paths = FORMATS[format].paths(path)
    stem = paths[0].name.removesuffix(FORMATS[format].endings[0])
    with contextlib.ExitStack() as stack:
        for target, ending in zip(paths, FORMATS[format].endings, strict=True):
            temporary = stack.enter_context(replacing(target))
            temporary.write_text(texts[ending].replace(STEM, stem), encoding="utf-8")
    return Path(path)


def _texts(format: str, system: MMSystem, index, info, xyz, mixed, torsions) -> dict[str, str]:
    module = importlib.import_module(FORMATS[format].module)
    if format == "system":
        return {".system.xml": module.to_system_xml(system, index, info, torsions)}
    if format == "ffxml":
        return {".xml": module.to_ffxml(system, index, info, mixed)}
    return module.texts(system, index, info, xyz)


def __getattr__(name: str):
    """`EspalikeTemplateGenerator`, imported when it is asked for: it needs torch and RDKit."""
    if name == "EspalikeTemplateGenerator":
        from espalike.export.template import EspalikeTemplateGenerator

        return EspalikeTemplateGenerator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

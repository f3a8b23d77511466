"""Parametrized molecules out of the house: `to_openmm` for a system in memory, `write` for files."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import openmm
    import openmm.app

    from espalike.chem.molecule import Molecule
    from espalike.system import MMSystem


@dataclass(frozen=True)
class Format:
    """A file format: one or several files a molecule.

    Attributes:
        endings: endings of its files; the first names the file that `write` is given.
        module: module with `texts(system, index, info, xyz) -> dict[str, str]`, ending to text. Where a text names a
            sibling file, it says `STEM`, which `write` replaces.
    """

    endings: tuple[str, ...]
    module: str

    def paths(self, path: str | Path) -> tuple[Path, ...]:
        """The files that `write(…, path)` makes: the path itself, then its siblings of the same stem."""
        path = Path(path)
        stem = path.name.removesuffix(self.endings[0])
        stem = path.stem if stem == path.name else stem
        return (path, *(path.with_name(stem + ending) for ending in self.endings[1:]))


FORMATS: dict[str, Format] = {
    "system": Format((".system.xml",), "espalike.export.openmm"),
    "ffxml": Format((".xml",), "espalike.export.ffxml"),
    "offxml": Format((".offxml",), "espalike.export.offxml"),
    "lammps": Format((".lmp", ".in"), "espalike.export.lammps"),
    "gromacs": Format((".top", ".gro", ".itp"), "espalike.export.gromacs"),
    "amber": Format((".prmtop", ".inpcrd"), "espalike.export.amber"),
}
"""Known formats."""

STEM = "@STEM@"
"""Stands for the stem of the written files in the texts of a format of several files."""


def to_openmm(system: MMSystem, index: int | None = None, by_term: bool = False) -> openmm.System:
    """An `openmm.System` of one molecule; see `espalike.export.openmm.to_openmm`."""
    from espalike.export.openmm import to_openmm as convert

    return convert(system, index, by_term)


def to_topology(molecule: Molecule, residue: str = "LIG") -> openmm.app.Topology:
    """An OpenMM topology of one molecule; see `espalike.export.ffxml.to_topology`."""
    from espalike.export.ffxml import to_topology as convert

    return convert(molecule, residue)


def write(
    system: MMSystem,
    path: str | Path,
    format: str = "system",
    *,
    index: int | None = None,
    info: Mapping[str, str] | None = None,
    xyz: np.ndarray | None = None,
    mixed: str | None = None,
) -> Path:
    """Write one molecule's parameters to a file, or to several of the same stem: all of them whole, or none.

    Args:
        system: parametrized molecules.
        path: file to write; an existing one is replaced. Its siblings (`Format.paths`) lie beside it.
        format: one of `FORMATS`: `system`, a serialized `openmm.System`; `ffxml`, an OpenMM `ForceField` XML; …
        index: which molecule of the system; may be left out if there is one.
        info: provenance to write into the file, e.g. `{"model": …, "charges": …}`.
        xyz: coordinates [Å] `(A, 3)` for the formats that hold them; an embedded conformer if left out.
        mixed: for `ffxml` with a van der Waals form of its own, how it meets other force fields' atoms, e.g. `lj`.

    Returns:
        The path.

    Raises:
        ValueError: for an unknown format, naming the known ones; or (`ExportError`) when the format cannot express a
            term, naming the term and the formats that can, or the system is not fit for export.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known formats: {', '.join(FORMATS)}")
    if mixed is not None and format != "ffxml":
        raise ValueError(f"mixed={mixed!r} belongs to format 'ffxml'; format {format!r} holds one molecule alone")
    texts = _texts_or_advice(format, system, index, info, xyz, mixed)
    paths = FORMATS[format].paths(path)
    stem = paths[-1].name.removesuffix(FORMATS[format].endings[-1])
    temporary = [file.with_name(f".{file.name}.{os.getpid()}.tmp") for file in paths]
    try:
        for file, ending in zip(temporary, FORMATS[format].endings, strict=True):
            file.write_text(texts[ending].replace(STEM, stem), encoding="utf-8")
        for source, target in zip(temporary, paths, strict=True):
            os.replace(source, target)
    finally:
        for file in temporary:
            file.unlink(missing_ok=True)
    return paths[0]


def _texts_or_advice(format: str, system: MMSystem, index, info, xyz, mixed) -> dict[str, str]:
    """The texts; if the format cannot express the molecule, the error says which formats take all of it."""
    from espalike.export.single import ExportError

    try:
        return _texts(format, system, index, info, xyz, mixed)
    except ExportError as error:
        able = []
        for other in FORMATS:
            with contextlib.suppress(ExportError):
                _texts(other, system, index, info, xyz, None)
                able.append(other)
        if not able:
            raise
        raise ExportError(f"{error}; this molecule as a whole can be written as {', '.join(able)}") from error


def _texts(format: str, system: MMSystem, index, info, xyz, mixed) -> dict[str, str]:
    module = importlib.import_module(FORMATS[format].module)
    if format == "system":
        return {".system.xml": module.to_system_xml(system, index, info)}
    if format == "ffxml":
        return {".xml": module.to_ffxml(system, index, info, mixed)}
    return module.texts(system, index, info, xyz)


def __getattr__(name: str):
    """`EspalikeTemplateGenerator`, imported when it is asked for: it needs torch and RDKit."""
    if name == "EspalikeTemplateGenerator":
        from espalike.export.template import EspalikeTemplateGenerator

        return EspalikeTemplateGenerator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Parametrized molecules out of the house: `to_openmm` for a system in memory, `write` for files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openmm
    import openmm.app

    from espalike.types import MMSystem, Molecule

FORMATS: dict[str, str] = {"system": ".system.xml", "ffxml": ".xml"}
"""Known formats and the endings of their files."""


def to_openmm(system: MMSystem, index: int | None = None) -> openmm.System:
    """An `openmm.System` of one molecule; see `espalike.export.openmm.to_openmm`."""
    from espalike.export.openmm import to_openmm as convert

    return convert(system, index)


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
) -> Path:
    """Write one molecule's parameters to a file, whole or not at all.

    Args:
        system: parametrized molecules.
        path: file to write; an existing one is replaced.
        format: `system`, a serialized `openmm.System`; or `ffxml`, an OpenMM `ForceField` XML.
        index: which molecule of the system; may be left out if there is one.
        info: provenance to write into the file, e.g. `{"model": …, "charges": …}`.

    Returns:
        The path.

    Raises:
        ValueError: for an unknown format, naming the known ones; or (`ExportError`) when the format cannot express a
            term, naming the term and the formats that can, or the system is not fit for export.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; known formats: {', '.join(FORMATS)}")
    from espalike.export.ffxml import to_ffxml
    from espalike.export.openmm import to_system_xml

    text = to_ffxml(system, index, info) if format == "ffxml" else to_system_xml(system, index, info)
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path

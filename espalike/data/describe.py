"""Contents of a store, computed from its columns: sizes, elements, energies and forces, optional columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from espalike.data.reading import check_file
from espalike.data.schema import LATER
from espalike.data.store import Store
from espalike.data.work import Rejected, from_lines

_OPTIONAL = ("forces", "ref_charge", "ref_sigma", "ref_epsilon", *LATER)


def _atoms(store: Store) -> dict[str, float]:
    sizes = store.lengths("numbers")
    return {"min": int(sizes.min()), "median": float(np.median(sizes)), "max": int(sizes.max())}


def _elements(store: Store) -> list[str]:
    from rdkit.Chem import GetPeriodicTable

    symbol = GetPeriodicTable().GetElementSymbol
    numbers = {int(z) for chunk in store.table.column("numbers").chunks for z in np.unique(chunk.flatten().to_numpy())}
    return [symbol(z) for z in sorted(numbers)]


def _spread(store: Store) -> dict[str, dict[str, float | None]]:
    """By source: standard deviation of energies about entry means [kcal/mol], RMS force component [kcal/mol/Å]."""
    squares: dict[str, list[float]] = {}
    for i, source in enumerate(store.column("source")):
        sums = squares.setdefault(source, [0.0, 0, 0.0, 0])
        energy = store.flat(i, "energy")
        assert energy is not None  # the schema forbids it
        if len(energy) > 1 and not np.isnan(energy).any():
            sums[0] += float(((energy - energy.mean()) ** 2).sum())
            sums[1] += len(energy)
        forces = store.flat(i, "forces")
        if forces is not None:
            sums[2] += float(np.dot(forces, forces))
            sums[3] += len(forces)
    return {
        source: {"energy_std": _root(energy, n), "force_rms": _root(force, m)}
        for source, (energy, n, force, m) in sorted(squares.items())
    }


def _root(total: float, n: float) -> float | None:
    return round(float(np.sqrt(total / n)), 4) if n else None


def _complexes(store: Store) -> dict[str, dict[str, float]]:
    """By kind of interaction: numbers of complexes and points, and the lowest interaction energy [kcal/mol]."""
    groups: dict[str, dict[str, float]] = {}
    if "interaction" not in store.table.column_names:
        return {}
    for i, group in enumerate(store.column("group")):
        interaction = store.flat(i, "interaction")
        if interaction is not None:
            row = groups.setdefault(group or "not stated", {"complexes": 0, "points": 0, "lowest": np.inf})
            row["complexes"] += 1
            row["points"] += len(interaction)
            row["lowest"] = min(row["lowest"], round(float(interaction.min()), 2))
    return dict(sorted(groups.items()))


def _kinds(store: Store) -> dict[str, dict[str, int]]:
    """Numbers of entries and conformers by kind of geometries; empty where no entry says its kind."""
    if "kind" not in store.table.column_names:
        return {}
    kinds: dict[str, dict[str, int]] = {}
    for kind, count in zip(store.column("kind"), store.lengths("energy").tolist(), strict=True):
        row = kinds.setdefault(kind or "not stated", {"entries": 0, "conformers": 0})
        row["entries"] += 1
        row["conformers"] += count
    return dict(sorted(kinds.items()))


def describe(store: Store) -> dict[str, Any]:
    """Atoms per molecule, elements, energies and forces by source, kinds, complexes by group, entries by column."""
    columns = {}
    for name in _OPTIONAL:
        if name in store.table.column_names:
            column = store.table.column(name)
            columns[name] = len(column) - column.null_count
    return {
        "atoms": _atoms(store),
        "elements": _elements(store),
        "spread": _spread(store),
        "kinds": _kinds(store),
        "complexes": _complexes(store),
        "columns": {name: n for name, n in columns.items() if n},
    }


def rejections(store: Store, name: str | None = None) -> Iterator[Rejected]:
    """The rejections of a store, or of its entry `name`; none where the store keeps no list."""
    file = store.manifest.get("rejections")
    if file is not None:
        if checksums := store.manifest.get("checksums"):
            check_file(store.path / file, checksums.get(file))
        yield from (line for line in from_lines(store.path / file) if name is None or line.id == name)


def as_json(lines: list[Rejected]) -> str:
    """Rejections as a JSON list."""
    return json.dumps([asdict(line) for line in lines], indent=1, ensure_ascii=False)

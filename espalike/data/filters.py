"""Filters: which conformers of a record are kept, and why the others are not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from espalike.data.schema import Record, RecordError

LONGEST_BOND, SHORTEST_BOND, SHORTEST_CONTACT = 1.45, 0.6, 0.9
"""Limits on distances over the sum of covalent radii: bonded atoms nearer and farther, other atoms at least apart."""


def _radii(numbers: np.ndarray) -> np.ndarray:
    """Covalent radii [Å]."""
    from rdkit.Chem import GetPeriodicTable

    table = GetPeriodicTable()
    return np.array([table.GetRcovalent(int(z)) for z in numbers])


def within_energy_window(record: Record, window: float) -> np.ndarray:
    """Conformers at most `window` [kcal/mol] above the record's lowest, or without energy, shape `(K,)`."""
    energy = record.conformers.energy
    return np.isnan(energy) | (energy - np.fmin.reduce(energy) <= window)


def below_force_ceiling(record: Record, ceiling: float) -> np.ndarray:
    """Conformers without a force component above `ceiling` [kcal/mol/Å], shape `(K,)`."""
    forces = record.conformers.forces
    if forces is None:
        return np.ones(len(record.conformers.xyz), dtype=bool)
    return np.abs(forces).max(axis=(1, 2)) <= ceiling


def connected_as_drawn(record: Record) -> np.ndarray:
    """Conformers whose bonds have the length of bonds and whose other atoms do not sit on each other, shape `(K,)`.

    Lengths are judged against the sum of covalent radii, wide enough for hot dynamics (see the module's limits).
    """
    mol, xyz = record.molecule, record.conformers.xyz
    radii = _radii(mol.numbers)
    bonded = np.zeros((mol.n_atoms, mol.n_atoms), dtype=bool)
    bonded[mol.bonds[:, 0], mol.bonds[:, 1]] = True
    others = np.triu(~bonded, k=1)
    reach = radii[:, None] + radii
    keep = np.ones(len(xyz), dtype=bool)
    for k, frame in enumerate(xyz):
        ratio = np.linalg.norm(frame[:, None] - frame, axis=-1) / reach
        bonds = ratio[bonded]
        keep[k] = (
            (bonds < LONGEST_BOND).all() and (bonds > SHORTEST_BOND).all() and (ratio[others] > SHORTEST_CONTACT).all()
        )
    return keep


def first_of_each(record: Record, tolerance: float) -> np.ndarray:
    """Conformers that repeat no earlier one (coordinates equal when rounded to `tolerance` [Å]), shape `(K,)`."""
    xyz = record.conformers.xyz
    rounded = np.round(xyz.reshape(len(xyz), -1) / tolerance)
    keep = np.zeros(len(xyz), dtype=bool)
    keep[np.unique(rounded, axis=0, return_index=True)[1]] = True
    return keep


def useful(record: Record) -> bool:
    """Whether the record can teach anything: two energies to compare, forces, or reference parameters."""
    conf = record.conformers
    energies = int(np.isfinite(conf.energy).sum())
    return energies > 1 or conf.forces is not None or record.ref_charge is not None or record.ref_lj is not None


def select(record: Record, keep: np.ndarray) -> Record:
    """The record with only the conformers that `keep` `(K,)` marks."""
    return replace(record, conformers=record.conformers.take(keep))


@dataclass(frozen=True)
class Filters:
    """Filters of an ingest, applied in this order; None switches one off.

    Attributes:
        connectivity: bond lengths and contacts must fit the graph.
        force_ceiling: largest force component [kcal/mol/Å].
        energy_window: largest energy above the record's lowest [kcal/mol].
        duplicates: coordinates that agree to this [Å] are one conformer.
    """

    connectivity: bool = True
    force_ceiling: float | None = 500.0
    energy_window: float | None = None
    duplicates: float | None = 1e-3

    def __call__(self, record: Record) -> tuple[Record, Counter[str]]:
        """The record with the conformers that pass, and how many did not, by reason.

        Raises:
            RecordError: when none is left.
        """
        dropped: Counter[str] = Counter()
        steps = [
            ("conformer: bonds differ from the graph", self.connectivity or None, lambda r, _: connected_as_drawn(r)),
            (f"conformer: force above {self.force_ceiling} kcal/mol/Å", self.force_ceiling, below_force_ceiling),
            (f"conformer: energy above {self.energy_window} kcal/mol", self.energy_window, within_energy_window),
            ("conformer: repeated", self.duplicates, first_of_each),
        ]
        for reason, setting, judge in steps:
            if setting is None:
                continue
            keep = judge(record, setting)
            if not keep.all():
                dropped[reason] += int((~keep).sum())
                if not keep.any():
                    why = reason.removeprefix("conformer: ")
                    raise RecordError(
                        f"no conformer left, {why}",
                        f"{record.id}: no conformer is left; the last {len(keep)}: {why}",
                    )
                record = select(record, keep)
        return record, dropped

"""Filters of records and of their conformers, each with the reason for a rejection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from espalike.chem.bonds import FAULTS, OVERLAPPING, bond_faults, describe_fault
from espalike.data.schema import Record, RecordError, complete
from espalike.data.similar import cluster_heads, first_of_each


def useful(record: Record) -> bool:
    """Whether a model can learn from the record: energies to compare, forces, interaction energies, parameters."""
    conf = record.conformers
    if conf.interaction is not None:
        return True
    energies = int(np.isfinite(conf.energy).sum())
    return energies > 1 or conf.forces is not None or record.ref_charge is not None or record.ref_lj is not None


Bad = list[tuple[str, np.ndarray]]
"""Reasons, and the conformers `(K,)` that each reason rejects."""


@dataclass(frozen=True)
class Filters:
    """Filters of an ingest, applied in this order; None or false switches one off.

    Before all of them, conformers with numbers that are not finite are dropped. Those that the reader left out are
    counted, too.

    Attributes:
        elements: symbols of the elements a molecule may have; None = all supported elements.
        net_charges: net charges [e] a molecule may have; None = all.
        closed_shell: the number of electrons must be even.
        connectivity: bond lengths and contacts must fit the graph.
        force_ceiling: largest force component [kcal/mol/Å].
        outliers: energies must lie near the median of the record's; see `far_energies`.
        energy_window: largest energy, of complexes interaction energy, above the record's lowest [kcal/mol].
        duplicates: coordinates that agree to this [Å] are one conformer of a record. Unless None, an ingest also leaves
            out what an earlier record has, up to rounding (`espalike.data.similar.Seen`).
        rmsd: of conformers whose RMSD (all atoms, best superposition) is at most this [Å], the first is kept. Off by
            default: thermal frames of rigid molecules are that close and still differ in energy.
    """

    elements: Sequence[str] | None = None
    net_charges: Sequence[int] | None = None
    closed_shell: bool = True
    connectivity: bool = True
    force_ceiling: float | None = 500.0
    outliers: bool = True
    energy_window: float | None = None
    duplicates: float | None = 1e-3
    rmsd: float | None = None

    def __post_init__(self) -> None:
        from rdkit import rdBase
        from rdkit.Chem import GetPeriodicTable

        for symbol in self.elements or ():
            try:
                with rdBase.BlockLogs():
                    GetPeriodicTable().GetAtomicNumber(str(symbol))
            except RuntimeError as error:
                raise ValueError(f"filters.elements: {symbol!r} is not an element symbol") from error

    def __call__(self, record: Record) -> tuple[Record, Counter[str]]:
        """The record with the conformers that pass, and how many did not, by reason.

        Raises:
            RecordError: when none is left, or the molecule as a whole does not pass.
        """
        self._check_molecule(record)
        dropped = Counter(f"conformer: {fault.reason}" for fault in record.left_out)
        steps: list[tuple[float | None, Callable[[Record, float], Bad]]] = [
            (1.0, _not_finite),
            (1.0 if self.connectivity else None, _bonds),
            (self.force_ceiling, _forces),
            (1.0 if self.outliers else None, _outliers),
            (self.energy_window, _energies),
            (self.duplicates, _repeated),
            (self.rmsd, _similar),
        ]
        for setting, judge in steps:
            if setting is None:
                continue
            bad = judge(record, setting)
            record, counts = drop(record, bad)
            dropped.update(counts)
        return replace(record, left_out=()) if record.left_out else record, dropped

    def _check_molecule(self, record: Record) -> None:
        mol, name = record.molecule, record.id
        if self.elements is not None:
            outside = sorted({_symbol(z) for z in mol.numbers} - set(self.elements))
            if outside:
                raise RecordError(
                    "element outside the domain",
                    f"{name}: has {', '.join(outside)}; filters.elements allows {', '.join(self.elements)}",
                )
        if self.net_charges is not None and mol.net_charge not in self.net_charges:
            raise RecordError(
                "net charge outside the domain",
                f"{name}: net charge {mol.net_charge:+d}; filters.net_charges allows {list(self.net_charges)}",
            )
        electrons = int(mol.numbers.sum()) - mol.net_charge
        if self.closed_shell and electrons % 2:
            raise RecordError(
                "open shell",
                f"{name}: {electrons} electrons with charge {mol.net_charge:+d}, so its multiplicity is not 1; check "
                "the formal charges of its SMILES",
            )


def drop(record: Record, bad: Bad) -> tuple[Record, Counter[str]]:
    """The record without the bad conformers, and their number by reason.

    Raises:
        RecordError: when none is left, with the reason that most of them have.
    """
    counts = Counter({reason: int(mask.sum()) for reason, mask in bad if mask.any()})
    if not counts:
        return record, counts
    keep = ~np.any([mask for _, mask in bad], axis=0)
    if not keep.any():
        reason = counts.most_common(1)[0][0]
        why = reason.removeprefix("conformer: ")
        detail = ""
        if why.startswith((_BONDS, OVERLAPPING)):
            first = int(next(mask for name, mask in bad if name == reason).argmax())
            detail = (
                f"; in conformer {first + 1} of them {describe_fault(record.molecule, record.conformers.xyz[first])}"
            )
        raise RecordError(
            f"no conformer left, {why}", f"{record.id}: no conformer is left; the last {len(keep)}: {why}{detail}"
        )
    return replace(record, conformers=record.conformers.take(keep)), counts


def describe(record: Record, counts: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    """Reason, message and number of the conformers of a record that were dropped, by filters or by the reader."""
    n = len(record.conformers.xyz) + len(record.left_out)
    faults = {f"conformer: {fault.reason}": str(fault) for fault in reversed(record.left_out)}
    for reason, count in counts.items():
        message = f"{record.id}: {count} of {n} conformers, {reason.removeprefix('conformer: ')}"
        if reason in faults:
            message += f"; the first: {faults[reason].removeprefix(f'{record.id}: ')}"
        yield reason, message, count


def _not_finite(record: Record, _: float) -> Bad:
    return [(f"conformer: {name} not finite", ~known) for name, known in complete(record).items() if not known.all()]


_BONDS = "bonds differ from the graph"


def _bonds(record: Record, _: float) -> Bad:
    faults = bond_faults(record.molecule, record.conformers.xyz)
    if not faults.any():
        return []
    return [
        (f"conformer: {fault if fault == OVERLAPPING else f'{_BONDS} ({fault})'}", faults == 1 + i)
        for i, fault in enumerate(FAULTS)
    ]


def _forces(record: Record, ceiling: float) -> Bad:
    forces = record.conformers.forces
    if forces is None:
        return []
    return [(f"conformer: force above {ceiling} kcal/mol/Å", ~(np.abs(forces).max(axis=(1, 2)) <= ceiling))]


def farthest_energy(n_atoms: int) -> float:
    """Largest plausible distance of an energy from the median of its entry [kcal/mol].

    At 5,000 K each atom has 15 kcal/mol; data for force fields of bonded molecules stay far below.
    """
    return 300.0 + 20.0 * n_atoms


def _outliers(record: Record, _: float) -> Bad:
    return [("conformer: energy far from the others", far_energies(record))]


def far_energies(record: Record) -> np.ndarray:
    """Which geometries `(K,)` have energies implausibly far from the record's median, or much farther than the others.

    Of five or more energies, 30 times the median distance is far, from 50 kcal/mol and 3 kcal/mol per atom on.
    """
    conf, n = record.conformers, record.molecule.n_atoms
    energy = conf.energy if conf.interaction is None else conf.interaction
    if np.isnan(energy).all() or len(energy) < 2:
        return np.zeros(len(energy), dtype=bool)
    distance = np.abs(energy - np.nanmedian(energy))
    far = distance > farthest_energy(n)
    if len(energy) >= 5:
        far |= distance > max(30.0 * np.nanmedian(distance), 50.0 + 3.0 * n)
    return far


def _energies(record: Record, window: float) -> Bad:
    conf = record.conformers
    energy = conf.energy if conf.interaction is None else conf.interaction  # NaN, if unknown, is not above the window
    return [(f"conformer: energy above {window} kcal/mol", energy - np.fmin.reduce(energy) > window)]


def _repeated(record: Record, tolerance: float) -> Bad:
    return [("conformer: repeated", ~first_of_each(record, tolerance))]


def _similar(record: Record, radius: float) -> Bad:
    return [(f"conformer: RMSD of at most {radius} Å from an earlier one", ~cluster_heads(record, radius))]


def _symbol(number: int) -> str:
    from rdkit.Chem import GetPeriodicTable

    return GetPeriodicTable().GetElementSymbol(int(number))

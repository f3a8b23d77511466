"""A search for implausible labels before a training."""

from __future__ import annotations

import numpy as np

from espalike.data.dataset import PAGES, StoreDataset
from espalike.data.filters import farthest_energy
from espalike.tables import counted

LARGEST_FORCE = 10_000.0
"""Largest plausible force component [kcal/mol/Å]."""
_LISTED = 5


def check_labels(data: StoreDataset) -> None:
    """Refuse energies that are farther from their entry's median than `filters.farthest_energy`, and huge forces.

    Raises:
        ValueError: naming the worst entries, and what to do.
    """
    found = []
    for entry in range(len(data)):
        factor, text = _fault(data, entry)
        if not factor <= 1.0:
            found.append((factor, f"{data.name_of(entry)}: {text}"))
    if not found:
        return
    listed = "; ".join(text for _, text in sorted(found, reverse=True)[:_LISTED])
    more = f"; and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    raise ValueError(
        f"implausible labels in {counted(len(found), 'entry', 'entries')}, whose loss would exceed that of all others: "
        f"{listed}{more}. "
        "Ingest the data again with filters.outliers=true and filters.force_ceiling=500, and check reader.units"
    )


def _fault(data: StoreDataset, entry: int) -> tuple[float, str]:
    """How far an entry's labels are beyond plausible values, as a factor, and a description."""
    number, row = data.refs[entry].tolist()
    energy, forces = (data.stores[number].flat(row, column) for column in ("energy", "forces"))
    assert energy is not None  # the schema forbids it
    data.account(energy.nbytes + (0 if forces is None else forces.nbytes) + PAGES)
    bound = farthest_energy(int(data.atoms[entry]))
    farthest = float(np.abs(energy - np.median(energy)).max()) if not np.isnan(energy).all() else 0.0
    if not farthest <= bound:
        return farthest / bound, f"an energy is {farthest:.4g} kcal/mol from the median, the bound is {bound:.4g}"
    largest = max(float(forces.max()), -float(forces.min())) if forces is not None and forces.size else 0.0
    return largest / LARGEST_FORCE, f"a force is {largest:.4g} kcal/mol/Å, the bound is {LARGEST_FORCE:.4g}"

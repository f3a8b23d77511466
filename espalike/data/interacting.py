"""Are interaction energies of complexes the size and the sign of interaction energies?

*Size.* They are far below the energies that distorted molecules have; total energies of complexes are far above them,
and values in hartree that were read as kcal/mol are nearly zero.

*Sign.* Along a change of distance, the energy has a minimum: molecules repel each other when they are near, and do not
interact when they are far apart. Binding energies, of the opposite sign, have a maximum there.
"""

from __future__ import annotations

import numpy as np

from espalike.chem.complexes import monomers
from espalike.data.filters import farthest_energy
from espalike.data.schema import Record

_POINTS, _ENTRIES = 5, 3
"""Fewest geometries of a complex that show a minimum, and fewest complexes for a verdict on sign or on small values."""
_CLEAR, _SMALL, _FAR = 0.2, 0.02, 1.0 / 3.0
"""Depth of a minimum [kcal/mol]; the largest energy of most complexes is above the second; the share of complexes with
energies beyond what is plausible that is a fault."""

_CHECK = "check their source and unit (reader.interaction, reader.units)"


def summary(record: Record) -> list[float]:
    """Lowest and highest energy of a complex, 1 if one is implausible, and 1 for a minimum, −1 for a maximum."""
    energy, xyz = record.conformers.interaction, record.conformers.xyz
    assert energy is not None  # of complexes alone
    far = float(np.abs(energy).max() > farthest_energy(record.molecule.n_atoms))
    return [float(energy.min()), float(energy.max()), far, _shape(energy, _distances(record, xyz))]


def _distances(record: Record, xyz: np.ndarray) -> np.ndarray:
    """Smallest distance between the first molecule and the others in each geometry [Å], shape `(K,)`."""
    (_, first), *_ = monomers(record.molecule)
    others = np.setdiff1d(np.arange(record.molecule.n_atoms), first)
    return np.linalg.norm(xyz[:, first, None] - xyz[:, None, others], axis=-1).min(axis=(1, 2))


def _shape(energy: np.ndarray, distance: np.ndarray) -> float:
    """1 where the energy has a minimum between the nearest and the farthest geometry, −1 for a maximum, else 0."""
    if len(energy) < _POINTS:
        return 0.0
    near, *inner, far = energy[np.argsort(distance)].tolist()
    has_minimum = min(inner) < min(near, far) - _CLEAR
    has_maximum = max(inner) > max(near, far) + _CLEAR
    return float(has_minimum) - float(has_maximum)


def judge(complexes: list[list[float]]) -> tuple[str, str]:
    """Outcome and message on the complexes of one source and level, each as `summary` gives it."""
    low, high, far, shape = np.array(complexes).T
    n, largest = len(complexes), float(np.median(np.maximum(-low, high)))
    minima, maxima = int((shape > 0).sum()), int((shape < 0).sum())
    figures = f"interaction energies from {low.min():.4g} to {high.max():.4g} kcal/mol"
    if far.mean() >= _FAR:
        return "failed", f"{figures}, in {int(far.sum())} of {n} complexes too large: total energies? {_CHECK}"
    if n >= _ENTRIES and largest < _SMALL:
        return "failed", f"{figures}, less than {_SMALL} kcal/mol in most of {n} complexes: hartree? {_CHECK}"
    if maxima >= _ENTRIES and maxima > 3 * minima:
        return "failed", (
            f"{figures}; {maxima} of {n} complexes have a maximum along the distance, and {minima} a minimum: these "
            "are binding energies, of the opposite sign"
        )
    if maxima + minima < _ENTRIES:
        return "skipped", f"{figures}; too few complexes at several distances to tell their sign"
    return "passed", f"{figures}; {minima} of {n} complexes have a minimum along the distance"

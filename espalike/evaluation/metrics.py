"""Errors of energies and forces, pooled over conformers, with bootstrap intervals over molecules.

Energies are compared relative to their mean over an entry's conformers (one molecule, one source, one level of
theory), in float64. Errors are pooled over all conformers, or all force components, of all entries. Intervals
resample whole molecules, since the conformers of one molecule are not independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

METRICS = ("energy_rmse", "energy_mae", "force_rmse")
"""Names of the pooled errors, in the order of `pooled` [kcal/mol, kcal/mol, kcal/mol/Å]."""

Panel = tuple[np.ndarray, np.ndarray]
"""Reference and predicted values, flat."""


def centred(energy: np.ndarray) -> np.ndarray:
    """Energies [kcal/mol] `(K,)` relative to their mean, in float64."""
    energy = np.asarray(energy, dtype=np.float64)
    return energy - energy.mean()


def energy_errors(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Errors of centred energies [kcal/mol], shape `(K,)`; empty without a reference or with a single conformer."""
    if len(reference) < 2 or not np.isfinite(reference).all():
        return np.empty(0)
    return centred(predicted) - centred(reference)


def force_errors(predicted: np.ndarray, reference: np.ndarray | None) -> np.ndarray:
    """Errors of force components [kcal/mol/Å], flat; empty without a reference."""
    if reference is None:
        return np.empty(0)
    errors = (np.asarray(predicted, np.float64) - np.asarray(reference, np.float64)).ravel()
    return errors[np.isfinite(errors)]


def sums(energy: np.ndarray, force: np.ndarray) -> np.ndarray:
    """Sums over an entry, from which errors are pooled: n, Σe², Σ|e| of energy errors; n and Σf² of force errors."""
    return np.array([len(energy), np.sum(energy**2), np.sum(np.abs(energy)), len(force), np.sum(force**2)])


def pooled(total: np.ndarray) -> np.ndarray:
    """`METRICS` `(..., 3)` of summed `sums` `(..., 5)`; NaN if there is nothing to compare."""
    n_energy, e2, e1, n_force, f2 = np.moveaxis(np.asarray(total, np.float64), -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([np.sqrt(e2 / n_energy), e1 / n_energy, np.sqrt(f2 / n_force)], axis=-1)


@dataclass(frozen=True)
class Estimate:
    """A pooled error and its 95 % interval; NaN if there is nothing to compare."""

    value: float
    low: float
    high: float


def estimates(per_entry: np.ndarray, molecules: Sequence[str], resamples: int = 2000, seed: int = 0) -> list[Estimate]:
    """`METRICS` with 95 % percentile-bootstrap intervals over molecules (B. Efron, Ann. Statist. 7 (1979) 1).

    Args:
        per_entry: `sums` of each entry, shape `(entries, 5)`.
        molecules: the molecule of each entry; entries of one molecule are resampled together.
        resamples: number of bootstrap samples; 0 gives no intervals, and one molecule has none.
        seed: of the resampling.
    """
    _, group = np.unique(np.asarray(molecules), return_inverse=True)
    per_molecule = np.zeros((group.max() + 1, per_entry.shape[1]))
    np.add.at(per_molecule, group, per_entry)
    values = pooled(per_molecule.sum(0))
    bounds = np.full((2, len(METRICS)), np.nan)
    if resamples > 0:
        count = len(per_molecule)
        draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=resamples)
        resampled = pooled(draws @ per_molecule)
        labelled = (per_molecule[:, [0, 0, 3]] > 0).sum(axis=0)  # molecules that each metric is of
        for column in np.flatnonzero(labelled > 1).tolist():
            usable = resampled[np.isfinite(resampled[:, column]), column]
            if len(usable):
                bounds[:, column] = np.percentile(usable, [2.5, 97.5])
    return [Estimate(float(v), float(low), float(high)) for v, low, high in zip(values, *bounds, strict=True)]

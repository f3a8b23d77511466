"""Geometries that repeat: within a record, across records and stores, and by RMSD."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree

from espalike.data.schema import Record

_FEATURES = 8
_WAVE = 1.5
"""Length of the wave vectors [1/Å] of `fingerprints`."""


@lru_cache(maxsize=1)
def _waves() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wave vectors `(3, F)`, phases `(F,)`, and weights by atomic number `(Z, F)`: fixed."""
    rng = np.random.default_rng(2026)
    vectors = rng.normal(size=(3, _FEATURES))
    vectors *= _WAVE / np.linalg.norm(vectors, axis=0)
    phases = rng.uniform(0, 2 * np.pi, _FEATURES)
    weights = rng.uniform(0.5, 1.0, (128, _FEATURES))
    return vectors.astype(np.float32), phases.astype(np.float32), weights.astype(np.float32)


def fingerprints(numbers: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """Eight numbers per geometry that do not change when atoms of one element swap places, shape `(K, 8)`, float32.

    They are Σ w(Z) cos(k·x + φ) with fixed wave vectors of length 1.5 Å⁻¹.
    """
    vectors, phases, weights = _waves()
    waves = vectors.T @ np.asarray(xyz, np.float32).reshape(-1, 3).T
    waves += phases[:, None]
    np.cos(waves, out=waves)
    return (waves.reshape(_FEATURES, *xyz.shape[:2]) @ weights[numbers].T[:, :, None])[:, :, 0].T


def reach(n_atoms: int, noise: float) -> float:
    """Largest change of a fingerprint when all coordinates change at random by `noise` [Å] (standard deviation).

    Four standard deviations: √A w k·noise with w ≤ 1 and |k| = 1.5 Å⁻¹, plus the rounding of single precision.
    """
    return float(4.0 * np.sqrt(n_atoms) * (_WAVE * noise + 2e-6))


def first_of_each(record: Record, tolerance: float) -> np.ndarray:
    """Conformers that repeat no earlier one (no coordinate differs by more than `tolerance` [Å]), shape `(K,)`."""
    xyz = record.conformers.xyz
    keep = np.ones(len(xyz), dtype=bool)
    if len(xyz) < 2:
        return keep
    flat = xyz.reshape(len(xyz), -1)
    widest = np.argsort(np.ptp(flat, axis=0))[-3:]  # few geometries agree in the coordinates that vary most
    near = tolerance * (1.0 + 1e-6)
    pairs = cKDTree(flat[:, widest]).query_pairs(near, p=np.inf, output_type="ndarray")
    for i, j in pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]:  # each conformer after all earlier ones are decided
        if keep[i] and keep[j] and np.abs(xyz[i] - xyz[j]).max() <= tolerance:
            keep[j] = False
    return keep


def rmsd_to(xyz: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """RMSD [Å] of geometries `(K, A, 3)` from one `(A, 3)` after the best superposition, shape `(K,)`.

    All atoms, hydrogens included, have the same weight, and atoms are not exchanged: rotated methyl groups count as
    different geometries.
    W. Kabsch, Acta Cryst. A 32, 922 (1976): the smallest sum of squares is Ga + Gb − 2 (s₁ + s₂ ± s₃) with the
    singular values of the covariance, the sign that of its determinant.
    """
    a, b = xyz - xyz.mean(axis=1, keepdims=True), reference - reference.mean(axis=0)
    covariance = np.einsum("kai,aj->kij", a, b)
    values = np.linalg.svd(covariance, compute_uv=False)
    values[:, 2] *= np.where(np.linalg.det(covariance) < 0, -1.0, 1.0)
    squares = np.einsum("kai,kai->k", a, a) + (b * b).sum() - 2.0 * values.sum(axis=1)
    return np.sqrt(np.maximum(squares, 0.0) / xyz.shape[1])


def cluster_heads(record: Record, radius: float) -> np.ndarray:
    """Conformers that are farther than `radius` [Å] (`rmsd_to`) from every earlier one kept, shape `(K,)`."""
    xyz = record.conformers.xyz
    centred = xyz - xyz.mean(axis=1, keepdims=True)
    size = np.sqrt(np.einsum("kai,kai->k", centred, centred) / xyz.shape[1])
    keep = np.ones(len(xyz), dtype=bool)
    for k in range(len(xyz)):
        if not keep[k]:
            continue
        # geometries whose radii of gyration differ by more than the radius are farther apart than it
        later = np.flatnonzero(keep & (np.arange(len(xyz)) > k) & (np.abs(size - size[k]) <= radius))
        keep[later[rmsd_to(xyz[later], xyz[k]) <= radius]] = False
    return keep


class _Index:
    """A growing set of fingerprints and a search for near ones: a few arrays, each sorted by its first column."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def add(self, points: np.ndarray) -> None:
        self._parts.append(points[np.argsort(points[:, 0])])
        # parts of similar size are merged, so that there are few parts and each point is sorted a few times only
        while len(self._parts) > 1 and len(self._parts[-2]) <= 2 * len(self._parts[-1]):
            both = np.concatenate([self._parts.pop(), self._parts.pop()])
            self._parts.append(both[np.argsort(both[:, 0])])

    def near(self, points: np.ndarray, radius: float) -> np.ndarray:
        """Which points have a neighbour whose numbers all differ by at most `radius`."""
        near = np.zeros(len(points), dtype=bool)
        for part in self._parts:
            start = np.searchsorted(part[:, 0], points[:, 0] - radius, "left")
            stop = np.searchsorted(part[:, 0], points[:, 0] + radius, "right")
            for step in range((stop - start).max(initial=0)):  # one position in the windows of all points
                k = np.flatnonzero((start + step < stop) & ~near)
                near[k] = (np.abs(part[start[k] + step] - points[k]) <= radius).all(axis=1)
        return near


class Seen:
    """The geometries of earlier records, as fingerprints (32 bytes each): same molecule, level and coordinates.

    Atoms of one element may be exchanged; a molecule that was rotated or translated is not recognised. Coordinates are
    not kept: two geometries count as equal if all eight numbers agree up to rounding. Geometries that differ by 0.003 Å
    or more in one coordinate of one atom are taken for equal once in a million times or less.

    Args:
        noise: error of coordinates that went through another unit or file format [Å].
    """

    def __init__(self, noise: float = 1e-5):
        self.noise = noise
        self._known: dict[tuple, _Index] = {}
        self._last = (np.empty(0),) * 3  # atomic numbers, geometries and their fingerprints

    def repeated(self, record: Record) -> np.ndarray:
        """Whether an earlier record has each conformer, shape `(K,)`."""
        numbers, xyz = record.molecule.numbers, record.conformers.xyz
        index = self._known.get(_identity(numbers, record.key, record.conformers.level))
        if index is None:
            return np.zeros(len(xyz), dtype=bool)
        points = fingerprints(numbers, xyz)
        self._last = numbers, xyz, points
        return index.near(points, reach(len(numbers), self.noise))

    def add(self, record: Record) -> None:
        """Remember a record's conformers."""
        numbers, xyz = record.molecule.numbers, record.conformers.xyz
        if self._last[0] is not numbers or self._last[1] is not xyz:  # not the record of the last call of `repeated`
            self._last = numbers, xyz, fingerprints(numbers, xyz)
        self._add(numbers, record.key, record.conformers.level, self._last[2])

    def add_table(self, table: pa.Table) -> None:
        """Remember the conformers of a store's rows."""
        for batch in table.to_batches():
            keys, levels = (batch.column(name).to_pylist() for name in ("key", "level"))
            columns = [batch.column(name) for name in ("numbers", "xyz")]
            (atoms, numbers), (starts, xyz) = ((c.offsets.to_numpy(), c.values.to_numpy()) for c in columns)
            for i in range(batch.num_rows):
                z = numbers[atoms[i] : atoms[i + 1]].astype(np.int64)
                geometries = xyz[starts[i] : starts[i + 1]].reshape(-1, len(z), 3)
                self._add(z, keys[i], levels[i], fingerprints(z, geometries))

    def _add(self, numbers: np.ndarray, key: str, level: str, points: np.ndarray) -> None:
        self._known.setdefault(_identity(numbers, key, level), _Index()).add(points)


def _identity(numbers: np.ndarray, key: str, level: str) -> tuple:
    """Key that two records share if their geometries can be the same calculation, in any order of atoms."""
    return key, np.sort(numbers).astype(np.uint8).tobytes(), level

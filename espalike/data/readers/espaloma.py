"""Reader of espaloma's data sets: folders with a DGL graph (`heterograph.bin`) and an OpenFF molecule (`mol.json`).

The graph has `xyz (A, K, 3)` [bohr] and gradients `u_…_prime (A, K, 3)` [hartree/bohr] on its nodes `n1`, energies
`u_… (1, K)` [hartree] on `g`. `u_qm` and `u_qm_prime` are the QM numbers, `u_ref` and `u_ref_prime` what espaloma was
fitted to: in prepared sets a force field's nonbonded energy has been subtracted from them; sets as first written have
only these, and there they are the QM numbers. `…_prime` is the derivative, not the force
(github.com/choderalab/espaloma/issues/139). Nothing in a file says a unit.

`mol.json` is read as JSON; the OpenFF toolkit is not needed. DGL's reader unpickles nothing, but it is C++ that trusts
lengths in the file: a damaged file may end the process. So it runs in another process, whose death costs one entry.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from espalike.chem import ChemistryError, connectivity_key, from_rdkit
from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule
from espalike.data.readers.base import Reader, ReaderError, Units, first_finite, parse_units, some_finite
from espalike.data.readers.structure import in_space
from espalike.data.schema import Record, RecordError

CONVENTION = {"coords": "bohr", "energies": "hartree", "forces": "hartree/bohr"}
"""Units of espaloma's data sets."""
_MAGIC = bytes.fromhex("3fa1b446f04f2edd")
"""First bytes of a file of DGL graphs."""
_CHARGE_TOLERANCE = 0.1
"""e; partial charges of a molecule sum to its net charge within this."""


class EspalomaReader(Reader):
    """Each molecule's folder is an entry, named by its path below `path`.

    Args:
        path: folder with the molecules' folders, at any depth.
        source: name of the data source in tables; None = the folder's name.
        level: level of theory of all entries; the files do not say it.
        energy: data of the node `g` to take energies from. `u_ref` has had nonbonded energies subtracted in sets that
            were prepared for training, and is the QM energy in sets that were not.
        gradient: data of the nodes `n1` with its derivative; None = there is none.
        units: where the set is not in bohr and hartree.
        isolated: read graphs in another process; false is faster, for files that are known to be whole.

    Raises:
        ReaderError: when there is no such folder in it, DGL is not installed, or a unit does not fit.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = None,
        energy: str = "u_qm",
        gradient: str | None = "u_qm_prime",
        units: str | None = None,
        isolated: bool = True,
    ):
        super().__init__(path, source)
        self.level = level or ""
        self.energy, self.gradient, self.isolated = energy, gradient, isolated
        given = parse_units(units or "")
        self._units = Units(self.path, {k: unit for k, unit in CONVENTION.items() if k not in given}, units)
        self.folders = sorted(p.parent for p in self.path.rglob("heterograph.bin"))
        if not self.folders:
            raise ReaderError(f"{self.path}: no molecule in it; expected folders with heterograph.bin and mol.json")

    def __len__(self) -> int:
        return len(self.folders)

    def _raw(self) -> Iterator[tuple[str, Any]]:
        with ExitStack() as stack:
            loader = stack.enter_context(Loader()) if self.isolated else None
            for folder in self.folders:
                inside = folder.relative_to(self.path).as_posix()
                yield self.path.name if inside == "." else inside, (folder, loader or load)

    def _record(self, name: str, raw: Any) -> Record:
        folder, loader = raw
        path = folder / "heterograph.bin"
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise RecordError("no DGL graph", f"{name}: {path.name} is not a file of DGL graphs")
        data = loader(path)
        if "error" in data:
            raise RecordError("graph damaged", f"{name}: DGL cannot read {path.name} ({data['error']}); get it again")
        xyz = self._array(name, data, "coords", "n1/xyz").swapaxes(0, 1)
        some_finite(name, "coordinates", xyz)
        energy = some_finite(name, "energies", self._array(name, data, "energies", f"g/{self.energy}").reshape(-1))
        forces = None
        if self.gradient:
            forces = -self._array(name, data, "forces", f"n1/{self.gradient}").swapaxes(0, 1)
        molecule = from_json(name, folder / "mol.json", xyz[first_finite(xyz)])
        _agree(name, molecule, data, xyz.shape[1])
        conformers = Conformers(xyz, energy, forces, self.level, self.source)
        return Record(name, molecule, conformers, key=connectivity_key(molecule))

    def _array(self, name: str, data: dict[str, np.ndarray], what: str, key: str) -> np.ndarray:
        if key not in data:
            node = key.partition("/")[0]
            names = ", ".join(sorted(k.partition("/")[2] for k in data if k.startswith(f"{node}/"))) or "none"
            raise RecordError(
                f"no {key}",
                f"{name}: node {node} has no data {key.partition('/')[2]!r}; there are: {names}. "
                "Give the options energy and gradient; is u_ref the QM energy in this set?",
            )
        values = data[key]
        if what != "energies" and (values.ndim != 3 or values.shape[2] != 3):
            raise RecordError(
                "shapes disagree", f"{name}: {key} has shape {values.shape}, expected (atoms, conformers, 3)"
            )
        return self._units.internal(name, what, values)


def load(path: Path) -> dict[str, Any]:
    """Data of a graph's nodes `n1`, `n2` and `g` by `node/name`; `error` in place of them where DGL finds a fault.

    Raises:
        ReaderError: when DGL is not installed.
    """
    try:
        import dgl
    except ImportError as error:
        raise ReaderError(
            "espaloma's graphs are read by DGL; install it with: pip install 'espalike[dgl]' (Python 3.11)"
        ) from error
    try:
        graphs, _ = dgl.load_graphs(str(path))
    except (dgl.DGLError, ValueError, RuntimeError, UnicodeDecodeError) as error:
        lines = str(error).strip().splitlines()
        return {"error": lines[0] if lines else type(error).__name__}
    if len(graphs) != 1:
        return {"error": f"{len(graphs)} graphs in it, expected one"}
    (graph,) = graphs
    return {
        f"{node}/{key}": values.detach().cpu().numpy()
        for node in ("n1", "n2", "g")
        if node in graph.ntypes
        for key, values in graph.nodes[node].data.items()
    }


class Loader:
    """`load` in another process; when that dies, the file is reported and the next one gets a new process."""

    def __enter__(self) -> Loader:
        self._pool = self._start()
        return self

    def __exit__(self, *_) -> None:
        self._pool.shutdown(cancel_futures=True)

    @staticmethod
    def _start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def __call__(self, path: Path) -> dict[str, Any]:
        """Data as `load` gives them, or `error`."""
        try:
            return self._pool.submit(load, path).result()
        except BrokenProcessPool:
            self._pool = self._start()
            return {"error": "it ended the process that read it"}


def from_json(name: str, path: Path, xyz: np.ndarray) -> Molecule:
    """The molecule of an OpenFF `Molecule.to_json`, in its atom order; stereo is that of the geometry `(A, 3)` [Å].

    Raises:
        RecordError: when it is not such a JSON text.
        ChemistryError: for molecules that are not supported.
    """
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, str):  # espaloma writes the JSON of a JSON text
            content = json.loads(content)
        atoms = [(int(a["atomic_number"]), int(a["formal_charge"])) for a in content["atoms"]]
        bonds = [(int(b["atom1"]), int(b["atom2"]), int(b["bond_order"])) for b in content["bonds"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            "molecule unreadable", f"{name}: {path.name} is not an OpenFF molecule ({type(error).__name__}: {error})"
        ) from error
    if len(atoms) != len(xyz):
        raise RecordError("shapes disagree", f"{name}: {len(atoms)} atoms in {path.name}, {len(xyz)} in the graph")
    numbers, charges = np.array(atoms).T
    ends, orders = np.array(bonds, dtype=np.int64).reshape(-1, 3)[:, :2], [order for *_, order in bonds]
    try:
        mol = in_space(numbers, xyz, ends, np.array(orders), charges)
    except (RuntimeError, OverflowError, KeyError) as error:
        raise RecordError(
            "molecule unreadable", f"{name}: a bond of {path.name} names no atom or has no order"
        ) from error
    except ValueError as error:
        raise ChemistryError(f"not a valid structure ({str(error).strip()})") from error
    return from_rdkit(mol, name)


def _agree(name: str, molecule: Molecule, data: dict[str, np.ndarray], n: int) -> None:
    """Check that graph and molecule number the atoms alike and have the same charge, where the graph holds them."""
    if "n2/idxs" in data:
        pairs = {tuple(sorted(pair)) for pair in data["n2/idxs"].tolist()}
        if pairs != {tuple(pair) for pair in molecule.bonds.tolist()}:
            raise RecordError(
                "bonds differ from graph",
                f"{name}: bonds of mol.json and of the graph (n2) differ; atoms are numbered "
                "differently or the files belong to different molecules",
            )
    charges = data.get("n1/q_ref")
    if charges is not None and np.size(charges) == n:
        total = float(np.sum(charges, dtype=np.float64))
        if not abs(total - molecule.net_charge) < _CHARGE_TOLERANCE:
            raise RecordError(
                "charge differs from structure",
                f"{name}: partial charges sum to {total:.2f}, formal charges to {molecule.net_charge}",
            )

"""Reader of SPICE, versions 1 and 2 (https://github.com/openmm/spice-dataset, its downloader's README and script).

One group a molecule or cluster. Data sets: `smiles` (mapped, explicit hydrogens, an array of one string),
`atomic_numbers (A,)` in map order, `conformations (K, A, 3)` [bohr], `subset` (an array of one string),
`formation_energy (K,)` and `dft_total_energy (K,)` [hartree], `dft_total_gradient (K, A, 3)` [hartree/bohr], which is
+dE/dx, and where they were asked for `scf_dipole (K, 3)` [e bohr], `mbis_charges (K, A, 1)` [e] and more. Each has an
attribute `units`. A value that QCArchive lacks is missing in its group. Dimers, clusters and ion pairs, more than half
of the groups, are several fragments and rejected as such.

The data sets of espaloma-0.3 (doi 10.5281/zenodo.8148817) have this layout, at another level. Theirs hold
`total_energy` and `total_gradient`, or the dispersion apart, in `dispersion_correction_energy` and
`dispersion_correction_gradient` beside what is called total: `reader=espaloma03` adds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from espalike.chem.conformers import Conformers
from espalike.data.readers.base import Reader, ReaderError, Units
from espalike.data.readers.files import open_hdf5, text
from espalike.data.readers.values import finite, mapped
from espalike.data.schema import Record, RecordError

LEVEL = "wB97M-D3BJ/def2-TZVPPD"
UNITS = {
    "conformations": "bohr",
    "formation_energy": "hartree",
    "dft_total_energy": "hartree",
    "dft_total_gradient": "hartree/bohr",
    "total_energy": "hartree",
    "total_gradient": "hartree/bohr",
    "dispersion_correction_energy": "hartree",
    "dispersion_correction_gradient": "hartree/bohr",
    "scf_dipole": "e*bohr",
    "mbis_charges": "e",
}
"""What the format says of its arrays; their attributes must say the same."""
_SPREAD = 0.1
"""Largest disagreement between total and formation energies of one molecule [kcal/mol]: rounding to float32."""
_OPTION = {"conformations": "coords", "dft_total_energy": "energies", "dft_total_gradient": "forces"}


class SpiceReader(Reader):
    """One group an entry, one entry in memory at a time.

    Args:
        path: the file, `SPICE-….hdf5`.
        source: name of the data source in tables; None = the file's name.
        level: level of theory of all entries.
        subset: subsets to read, whole names or words of them, `PubChem`, `Dipeptides`; None = all.
        dispersion: whether `dispersion_correction_energy` and `…_gradient` must be added to the totals; needed where a
            group has them.
        charges: read the MBIS charges: their mean over conformers becomes the entry's reference charges.
        units: what the file's units are, as a check: the format gives them, and they may not contradict it.

    Raises:
        ReaderError: when the file is missing, no HDF5, cut short, empty, or the units contradict the format.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = LEVEL,
        subset: str | Sequence[str] | None = None,
        dispersion: bool | None = None,
        charges: bool = False,
        units: str | None = None,
    ):
        super().__init__(path, source)
        self.level = level or LEVEL
        self.subset = [subset] if isinstance(subset, str) else list(subset or [])
        self.dispersion = dispersion
        self.charges = charges
        self._units = Units(self.path, {_OPTION.get(key, key): unit for key, unit in UNITS.items()}, units)
        with open_hdf5(self.path) as file:
            self._all = list(file.keys())
        if not self._all:
            raise ReaderError(f"{self.path}: nothing in it; expected one group a molecule")

    @cached_property
    def names(self) -> list[str]:
        """The groups to read, in the file's order.

        Raises:
            ReaderError: when no group is of a subset that is asked for.
        """
        if not self.subset:
            return self._all
        found = set()
        chosen = []
        with open_hdf5(self.path) as file:
            for name in self._all:
                group = file[name]
                subset = text(group["subset"][()]) if isinstance(group, h5py.Group) and "subset" in group else ""
                found.add(subset)
                if any(word.lower() in subset.lower() for word in self.subset):
                    chosen.append(name)
        if not chosen:
            raise ReaderError(
                f"{self.path}: no group of subset {self.subset}; subsets found: {', '.join(sorted(found))}"
            )
        return chosen

    def __len__(self) -> int:
        return len(self.names)

    @property
    def manifest(self) -> dict:
        """File, level, and at SPICE's own level what its repository says of all its releases."""
        about = {"origin": "https://github.com/openmm/spice-dataset", "licence": "CC0-1.0"}
        return {"file": self.path.name, "level": self.level, **(about if self.level == LEVEL else {})}

    def _raw(self) -> Iterator[tuple[str, Any]]:
        with open_hdf5(self.path) as file:
            yield from ((name, file) for name in self.names)

    def _array(self, name: str, group: h5py.Group, key: str, quantity: str | None) -> np.ndarray | None:
        """A data set in internal units, float64, or None where there is none."""
        if key not in group:
            return None
        data = group[key]
        if not isinstance(data, h5py.Dataset):
            raise RecordError("unreadable", f"{name}: {key} is no data set")
        own = text(data.attrs.get("units", "")).replace("elementary_charge", "e").replace("^", "**")
        if quantity is None:
            if own not in ("", UNITS[key]):
                raise RecordError("units contradict", f"{name}: {key} are in {own!r}, the format says {UNITS[key]!r}")
            return np.asarray(data[()], dtype=np.float64)
        return self._units.internal(name, key, data[()], own, quantity)

    @staticmethod
    def _charge(group: h5py.Group) -> int | None:
        """The total charge [e] that the MBIS charges of the first conformer add up to, where they are there."""
        if "mbis_charges" not in group or not group["mbis_charges"].size:  # MBIS does not always converge
            return None
        first = group["mbis_charges"][0]
        if not np.isfinite(first).all():
            return None
        return round(float(np.sum(first, dtype=np.float64)))

    def _totals(self, name: str, group: h5py.Group) -> tuple[np.ndarray, np.ndarray | None]:
        """Total energies, and their gradient where there is one."""
        total = "total" if "total_energy" in group else "dft_total"
        energy = self._array(name, group, f"{total}_energy", "energies")
        gradient = self._array(name, group, f"{total}_gradient", "forces")
        if energy is None:
            raise RecordError("no dft_total_energy", f"{name}: data set 'dft_total_energy' is missing")
        self._check_formation(name, group, finite(name, "energies", energy))
        correction = self._array(name, group, "dispersion_correction_energy", "energies")
        if total == "total" or correction is None:
            return energy, gradient
        if self.dispersion is None:
            raise RecordError(
                "dispersion in or not",
                f"{name}: has dispersion_correction_energy beside dft_total_energy; say whether it must be added, "
                "reader.dispersion=true, or is in it, false",
            )
        if not self.dispersion:
            return energy, gradient
        of_gradient = self._array(name, group, "dispersion_correction_gradient", "forces")
        wrong = RecordError("shapes disagree", f"{name}: dispersion corrections are not of the shape of the totals")
        if energy.shape != correction.shape:
            raise wrong
        if gradient is None:
            return energy + correction, None
        if of_gradient is None or of_gradient.shape != gradient.shape:
            raise wrong
        return energy + correction, gradient + of_gradient

    def _check_formation(self, name: str, group: h5py.Group, energy: np.ndarray) -> None:
        """The energy of the separated atoms, total less formation energy, is the same for all conformers."""
        formation = self._array(name, group, "formation_energy", "energies")
        if formation is None or formation.shape != energy.shape:
            return
        spread = float(np.ptp(energy - formation))
        if spread > _SPREAD:
            raise RecordError(
                "energies contradict",
                f"{name}: total and formation energies differ by amounts that spread over {spread:.3g} kcal/mol; "
                "expected the same amount, the energy of the separated atoms",
            )

    def _record(self, name: str, raw: Any) -> Record:
        group = raw[name]
        if not isinstance(group, h5py.Group):
            raise RecordError("no group", f"{name}: not a group; expected one group a molecule")
        for wanted in ("smiles", "atomic_numbers", "conformations"):
            if wanted not in group:
                raise RecordError(f"no {wanted}", f"{name}: data set {wanted!r} is missing")
        smiles = text(group["smiles"][()])
        if not group["conformations"].size:
            raise RecordError("empty", f"{name}: no conformations")
        molecule, key = mapped(name, smiles, group["atomic_numbers"][()].astype(np.int64), self._charge(group))
        xyz = self._array(name, group, "conformations", "coords")
        energy, gradient = self._totals(name, group)
        charges = self._array(name, group, "mbis_charges", None) if self.charges else None
        assert xyz is not None
        conformers = Conformers(
            xyz,
            energy,
            None if gradient is None else -gradient,
            self.level,
            self.source,
            dipole=self._array(name, group, "scf_dipole", "dipoles"),
        )
        return Record(
            id=name,
            molecule=molecule,
            conformers=conformers,
            key=key,
            ref_charge=None if charges is None or not charges.size else charges.reshape(len(xyz), -1).mean(0),
        )

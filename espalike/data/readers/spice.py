"""The layout of SPICE, versions 1 and 2 (https://github.com/openmm/spice-dataset, its downloader's README and script).

One group per molecule or cluster. Data sets: `smiles` (mapped, explicit hydrogens, an array of one string),
`atomic_numbers (A,)` in map order, `conformations (K, A, 3)` [bohr], `subset` (an array of one string),
`formation_energy (K,)` and `dft_total_energy (K,)` [hartree], `dft_total_gradient (K, A, 3)` [hartree/bohr], which is
+dE/dx, and where they were asked for `scf_dipole (K, 3)` [e bohr], `mbis_charges (K, A, 1)` [e] and more. Each has an
attribute `units`. A value that QCArchive lacks is missing in its group. Dimers, clusters and ion pairs, more than half
of the groups, are several fragments and rejected as such.

The data sets of espaloma-0.3 (doi 10.5281/zenodo.8148817) have this layout, at another level. Theirs hold
`total_energy` and `total_gradient`, or the dispersion apart, in `dispersion_correction_energy` and
`dispersion_correction_gradient` beside the totals: `reader=espaloma03` adds it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from espalike.data.readers.arrays import Layout, LayoutReader
from espalike.data.readers.base import ReaderError, some_finite
from espalike.data.readers.containers import Container, open_hdf5, text
from espalike.data.schema import RecordError

LEVEL = "wB97M-D3BJ/def2-TZVPPD"
LAYOUT = Layout(
    container="hdf5",
    names={
        "smiles": "smiles",
        "numbers": "atomic_numbers",
        "coords": "conformations",
        "energy": "dft_total_energy",
        "gradient": "dft_total_gradient",
        "dipole": "scf_dipole",
        "charges": "mbis_charges",
    },
    optional=("gradient",),
    units={"coords": "bohr", "energies": "hartree", "forces": "hartree/bohr", "dipoles": "e*bohr"},
    level=LEVEL,
    about={"origin": "https://github.com/openmm/spice-dataset", "licence": "CC0-1.0"},
)
_SPREAD = 0.1
"""Largest disagreement between total and formation energies of one molecule [kcal/mol]: rounding to float32."""


class SpiceReader(LayoutReader):
    """One group per entry, one entry in memory at a time.

    Args:
        path: the file, `SPICE-….hdf5`.
        source: name of the data source in tables; None = the file's name.
        level: level of theory of all entries.
        subset: subsets to read, whole names or whole words of them, `PubChem Set 1`, `Dipeptides`; None = all.
        dispersion: whether `dispersion_correction_energy` and `…_gradient` must be added to the totals; needed where a
            group has them.
        charges: read the MBIS charges: their mean over conformers becomes the entry's reference charges.
        units: what the file's units are, as a check: the format gives them, and they may not contradict it.

    Raises:
        ReaderError: as `LayoutReader`.
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
        super().__init__(path, LAYOUT, source, level, charges=charges, units=units)
        self.subset = [subset] if isinstance(subset, str) else list(subset or [])
        self.dispersion = dispersion

    @cached_property
    def names(self) -> list[str]:
        """The groups to read, in the file's order.

        Raises:
            ReaderError: when no group is of a subset that is asked for.
        """
        if not self.subset:
            return self._all
        with open_hdf5(self.path) as file:
            subsets = {
                name: text(file[name]["subset"][()])
                if isinstance(file[name], h5py.Group) and "subset" in file[name]
                else ""
                for name in self._all
            }
        of_words = {word: re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE) for word in self.subset}
        known = sorted(set(subsets.values()))
        if unknown := [word for word, pattern in of_words.items() if not any(map(pattern.search, known))]:
            raise ReaderError(f"{self.path}: no group of subset {unknown}; subsets found: {', '.join(known)}")
        return [name for name, of in subsets.items() if any(pattern.search(of) for pattern in of_words.values())]

    def _labels(self, name: str, entry: Container) -> tuple[np.ndarray | None, np.ndarray | None]:
        energy = self._read(name, entry, "total_energy", "energies")
        if energy is not None:  # of espaloma-0.3, dispersion included
            self._check_formation(name, entry, energy)
            return energy, self._read(name, entry, "total_gradient", "forces")
        energy, gradient = super()._labels(name, entry)
        assert energy is not None  # it is not optional
        self._check_formation(name, entry, energy)
        correction = self._read(name, entry, "dispersion_correction_energy", "energies")
        if correction is None or self.dispersion is False:
            return energy, gradient
        if self.dispersion is None:
            raise RecordError(
                "dispersion in or not",
                f"{name}: has dispersion_correction_energy beside dft_total_energy; say whether it must be added, "
                "reader.dispersion=true, or is in it, false",
            )
        slope = self._read(name, entry, "dispersion_correction_gradient", "forces")
        pairs = [(energy, correction), *([] if gradient is None else [(gradient, slope)])]
        if any(added is None or added.shape != total.shape for total, added in pairs):
            raise RecordError("shapes disagree", f"{name}: dispersion corrections do not have the shape of the totals")
        return energy + correction, None if gradient is None or slope is None else gradient + slope

    def _check_formation(self, name: str, entry: Container, energy: np.ndarray) -> None:
        """The energy of the separated atoms, total less formation energy, is the same for all conformers."""
        formation = self._read(name, entry, "formation_energy", "energies")
        if formation is None or formation.shape != some_finite(name, "energies", energy).shape:
            return
        spread = float(np.ptp((energy - formation)[np.isfinite(energy - formation)]))
        if spread > _SPREAD:
            raise RecordError(
                "energies contradict",
                f"{name}: total and formation energies differ by amounts that spread over {spread:.3g} kcal/mol; "
                "expected the same amount, the energy of the separated atoms",
            )

"""Reader of rMD17 (Christensen & von Lilienfeld, doi 10.6084/m9.figshare.12672038): one `.npz` a molecule.

Arrays: `nuclear_charges (A,)`, `coords (K, A, 3)` [Å], `energies (K,)` [kcal/mol], `forces (K, A, 3)` [kcal/mol/Å],
and `old_indices`, `old_energies`, `old_forces` of MD17, which are not read. The frames are 100,000 steps of a
trajectory, so they are not independent; its authors ask not to train on more than 1,000 of a molecule and give their
choices as `splits/index_train_01.csv` and so on, one frame number a line.

There is no graph: the SMILES of the ten molecules is known here by their file's name, others are given, and it is laid
on the bonds that the distances show in most of the first frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from espalike.chem import connectivity_key
from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule
from espalike.data.readers.base import ReaderError, Units
from espalike.data.readers.distances import frames_by_bonds
from espalike.data.readers.npz import NpzReader, array_of, open_npz
from espalike.data.readers.structure import SmilesOption, molecule_of
from espalike.data.readers.values import finite
from espalike.data.schema import Record, RecordError

LEVEL = "PBE/def2-SVP"
UNITS = {"coords": "angstrom", "energies": "kcal/mol", "forces": "kcal/mol/angstrom"}
"""The format's."""
SMILES = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "azobenzene": "c1ccc(N=Nc2ccccc2)cc1",
    "benzene": "c1ccccc1",
    "ethanol": "CCO",
    "malonaldehyde": "O=CCC=O",
    "naphthalene": "c1ccc2ccccc2c1",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "salicylic": "O=C(O)c1ccccc1O",
    "toluene": "Cc1ccccc1",
    "uracil": "O=c1cc[nH]c(=O)[nH]1",
}
"""Of the ten molecules, by the name of their file without `rmd17_`."""
_LOOKED_AT = 100
"""Frames in which bonds are looked for."""


class Rmd17Reader(NpzReader):
    """A file, or a folder of them, one molecule an entry.

    A molecule is read whole: 100,000 frames of 21 atoms take some 100 MB.

    Args:
        path: `rmd17_NAME.npz`, or a folder of such files.
        source: name of the data source in tables; None = the file's or folder's name.
        level: level of theory of all entries.
        smiles: SMILES of the molecule, mapped or not; a mapping or a CSV file of file names and SMILES; None = the
            ten molecules of rMD17.
        frames: a file of frame numbers, from 0, one a line, such as `index_train_01.csv`; None = all frames.
        units: what the file's units are, as a check: the format gives them, and they may not contradict it.

    Raises:
        ReaderError: when there is no file, a frame number is none, or the units contradict the format.
    """

    def __init__(
        self,
        path: str | Path,
        source: str | None = None,
        level: str | None = LEVEL,
        smiles: str | Mapping[str, str] | None = None,
        frames: str | Path | None = None,
        units: str | None = None,
    ):
        super().__init__(path, source)
        self.level = level or LEVEL
        self._smiles = SmilesOption(smiles)
        self._units = Units(self.path, UNITS, units)
        self._chosen = Path(frames) if frames else None
        self.frames = None if self._chosen is None else _frame_numbers(self._chosen)

    @property
    def manifest(self) -> dict:
        """File, level, and what is published of the data set."""
        about = {"file": self.path.name, "origin": "doi 10.6084/m9.figshare.12672038", "level": self.level}
        return about | ({"frames": self._chosen.name} if self._chosen else {})

    def files(self) -> list[Path]:
        """The archives, and the file of frame numbers."""
        return super().files() + ([self._chosen] if self._chosen else [])

    def _molecule(self, name: str, numbers: np.ndarray, xyz: np.ndarray) -> Molecule:
        known = SMILES.get(Path(name).name.removeprefix("rmd17_"))
        smiles = self._smiles.of(name) or known
        if smiles is None:
            raise RecordError(
                "no SMILES",
                f"{name}: not one of the molecules of rMD17 by its name; give reader.smiles, the SMILES or a CSV file "
                "with columns name and smiles",
            )
        most = max(frames_by_bonds(numbers, xyz[:_LOOKED_AT]), key=lambda group: len(group[1]))[1]
        return molecule_of(name, numbers, xyz[most[0]], smiles)

    def _record(self, name: str, raw: Any) -> Record:
        with open_npz(raw) as archive:
            numbers = array_of(archive, "nuclear_charges", name).astype(np.int64)
            xyz, energy, forces = (
                self._units.internal(name, key, self._take(name, key, array_of(archive, key, name)))
                for key in ("coords", "energies", "forces")
            )
        if xyz.shape[1:] != (len(numbers), 3) or not len(xyz):
            raise RecordError(
                "shapes disagree", f"{name}: coords have shape {xyz.shape}, nuclear_charges {numbers.shape}"
            )
        molecule = self._molecule(name, numbers, finite(name, "coordinates", xyz))
        conformers = Conformers(xyz, finite(name, "energies", energy), forces, self.level, self.source)
        return Record(name, molecule, conformers, key=connectivity_key(molecule))

    def _take(self, name: str, key: str, values: np.ndarray) -> np.ndarray:
        """The rows of the frames that were asked for."""
        if self.frames is None:
            return values
        if self.frames.max() >= len(values):
            raise RecordError(
                "no such frame",
                f"{name}: {key} has {len(values)} frames, {self._chosen} names frame {self.frames.max()}",
            )
        return values[self.frames]


def _frame_numbers(path: Path) -> np.ndarray:
    try:
        numbers = np.loadtxt(path, dtype=np.int64, ndmin=1)
    except (OSError, ValueError) as error:
        raise ReaderError(f"{path}: expected frame numbers, one a line ({error})") from error
    if not len(numbers) or numbers.min() < 0 or len(np.unique(numbers)) < len(numbers):
        raise ReaderError(f"{path}: expected frame numbers from 0, each once, one a line")
    return numbers

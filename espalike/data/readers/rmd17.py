"""The layout of rMD17 (Christensen & von Lilienfeld, doi 10.6084/m9.figshare.12672038): one `.npz` per molecule.

Arrays: `nuclear_charges (A,)`, `coords (K, A, 3)` [Å], `energies (K,)` [kcal/mol], `forces (K, A, 3)` [kcal/mol/Å],
and `old_indices`, `old_energies`, `old_forces` of MD17, which are not read. The frames are 100,000 steps of a
trajectory, so they are not independent; its authors ask not to train on more than 1,000 of a molecule and give their
choices as `splits/index_train_01.csv` and so on, one frame number per line.

There is no graph: the SMILES of the ten molecules is known here by their file's name, others are given, and it is laid
on the bonds that the distances show in most of the first frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from espalike.data.readers.arrays import Layout, LayoutReader
from espalike.data.readers.base import ReaderError
from espalike.data.readers.containers import Container
from espalike.data.schema import RecordError

LEVEL = "PBE/def2-SVP"
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
"""SMILES of the ten molecules, by the name of their file without `rmd17_`."""
LAYOUT = Layout(
    container="npz",
    names={"numbers": "nuclear_charges", "coords": "coords", "energy": "energies", "forces": "forces"},
    units={"coords": "angstrom", "energies": "kcal/mol", "forces": "kcal/mol/angstrom"},
    level=LEVEL,
    about={"origin": "doi 10.6084/m9.figshare.12672038"},
)


class Rmd17Reader(LayoutReader):
    """A file, or a folder of them, one molecule per entry.

    A molecule is read whole: 100,000 frames of 21 atoms take some 100 MB.

    Args:
        path: `rmd17_NAME.npz`, or a folder of such files.
        source: name of the data source in tables; None = the file's or folder's name.
        level: level of theory of all entries.
        smiles: SMILES of the molecule, mapped or not; a mapping or a CSV file of file names and SMILES; None = the
            ten molecules of rMD17.
        frames: a file of frame numbers, from 0, one per line, such as `index_train_01.csv`; None = all frames.
        units: what the file's units are, as a check: the format gives them, and they may not contradict it.

    Raises:
        ReaderError: as `LayoutReader`; for a file without frame numbers.
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
        super().__init__(path, LAYOUT, source, level, smiles, units=units)
        self._frame_file = Path(frames) if frames else None
        self.frames = None if self._frame_file is None else _frame_numbers(self._frame_file)

    @property
    def manifest(self) -> dict:
        """As `LayoutReader.manifest`, with the file of frame numbers."""
        return super().manifest | ({"frames": self._frame_file.name} if self._frame_file else {})

    def files(self) -> list[Path]:
        """The archives, and the file of frame numbers."""
        return super().files() + ([self._frame_file] if self._frame_file else [])

    def _smiles_of(self, name: str, entry: Container) -> str:
        smiles = self._smiles.of(name) or SMILES.get(Path(name).name.removeprefix("rmd17_"))
        if not smiles:
            raise RecordError(
                "no SMILES",
                f"{name}: not one of the molecules of rMD17 by its name; give reader.smiles, the SMILES or a CSV file "
                "with columns name and smiles",
            )
        return smiles

    def _chosen(self, name: str, what: str, values: np.ndarray) -> np.ndarray:
        if self.frames is None:
            return values
        if self.frames.max() >= len(values):
            raise RecordError(
                "no such frame",
                f"{name}: {what} has {len(values)} frames, {self._frame_file} names frame {self.frames.max()}",
            )
        return values[self.frames]


def _frame_numbers(path: Path) -> np.ndarray:
    try:
        numbers = np.loadtxt(path, dtype=np.int64, ndmin=1)
    except (OSError, ValueError) as error:
        raise ReaderError(f"{path}: expected frame numbers, one per line ({error})") from error
    if not len(numbers) or numbers.min() < 0 or len(np.unique(numbers)) < len(numbers):
        raise ReaderError(f"{path}: expected frame numbers from 0, each once, one per line")
    return numbers

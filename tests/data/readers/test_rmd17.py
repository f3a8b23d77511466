"""rMD17: archives as NumPy writes them, and the shared excerpt of the real ones."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from espalike.data.readers.base import ReaderError
from espalike.data.readers.rmd17 import SMILES, Rmd17Reader
from espalike.data.schema import Record, Rejection
from tests.data.readers.suite import (
    Caught,
    Impossible,
    ReaderSuite,
    Sample,
    cut,
    empty,
    foreign,
    graph_of,
    sample,
    samples,
)

SHARED = Path(__file__).parents[4] / "shared" / "data" / "rmd17_2k.h5"


def write(path, s, **changes):
    arrays = {
        "nuclear_charges": s.numbers.astype(np.uint8),
        "coords": s.xyz,
        "energies": s.energy,
        "forces": s.forces,
        "old_indices": np.arange(len(s.xyz)),
        **changes,
    }
    np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})


def edit(name, change=None):
    """Replaces an array of the first molecule by what `change` makes of it; None removes it."""

    def spoil(path):
        with np.load(path / "mol-0.npz") as archive:
            arrays = dict(archive)
        old = arrays.pop(name)
        if change:
            arrays[name] = change(old)
        np.savez_compressed(path / "mol-0.npz", **arrays)

    return spoil


def nan_at(index):
    def change(array):
        array[index] = np.nan
        return array

    return change


class TestRmd17(ReaderSuite):
    reader = Rmd17Reader
    config = "rmd17"
    filename = "npz_data"
    level = "PBE/def2-SVP"
    options = {"smiles": {s.name: graph_of(s.smiles)[3] for s in samples()}}  # noqa: RUF012

    def write(self, path, samples):
        path.mkdir()
        for s in samples:
            write(path / f"{s.name}.npz", s)

    def read(self, path):
        found = []
        for file, meant in zip(sorted(path.iterdir()), self.samples(), strict=True):
            with np.load(file) as archive:
                numbers, *arrays = (archive[key] for key in ("nuclear_charges", "coords", "energies", "forces"))
            found.append(Sample(file.stem, meant.smiles, numbers, meant.charge, *arrays, id=file.stem))
        return found

    def corruptions(self):
        def first(change):
            return lambda path: change(path / "mol-0.npz")

        def swap(numbers):
            i, j = self.samples()[0].swapped()
            numbers[[i, j]] = numbers[[j, i]]
            return numbers

        no_units = "the archive says no units; the format has them, and an option that contradicts is refused"
        return {
            "truncated": Caught(first(cut), r"mol-0\.npz: it is cut short or damaged; get the file again"),
            "empty": Caught(first(empty), r"mol-0\.npz: it is empty"),
            "foreign": Caught(first(foreign), r"mol-0\.npz: it is no NumPy archive"),
            "unit unknown": Impossible(no_units),
            "unit contradicts": Impossible(no_units),
            "permuted atoms": Caught(edit("nuclear_charges", swap), "mol-0: the bonds that its distances show are not"),
            "permuted equal atoms": Impossible("atoms are found in the SMILES by their bonds, whatever their order"),
            "wrong charge": Impossible("the format says no charge"),
            "nan energy": Caught(edit("energies", nan_at(1)), "mol-0: energies hold NaN"),
            "nan forces": Caught(edit("forces", nan_at((1, 2, 0))), "mol-0: forces hold NaN"),
            "nan coordinates": Caught(edit("coords", nan_at((0, 0, 0))), "mol-0: coordinates hold NaN"),
            "duplicated ids": Impossible("names of files are unique"),
            "missing array": Caught(edit("forces"), "mol-0: array 'forces' is missing; arrays found: nuclear_charges"),
            "wrong shape": Caught(edit("energies", lambda e: e[1:]), r"energies have shape \(2,\), expected \(3,\)"),
        }


def test_one_file_by_the_name_of_its_molecule(tmp_path):
    ethanol = sample("CCO", 5)
    write(tmp_path / "rmd17_ethanol.npz", ethanol)
    (record,) = Rmd17Reader(tmp_path / "rmd17_ethanol.npz")
    assert (record.id, record.conformers.source) == ("rmd17_ethanol", "rmd17_ethanol")
    assert graph_of(record.molecule.smiles) == graph_of(ethanol.smiles)
    shutil.copy(tmp_path / "rmd17_ethanol.npz", tmp_path / "rmd17_benzene.npz")
    (found,) = Rmd17Reader(tmp_path / "rmd17_benzene.npz")
    assert found.reason == "elements differ from SMILES"
    shutil.copy(tmp_path / "rmd17_ethanol.npz", tmp_path / "other.npz")
    (found,) = Rmd17Reader(tmp_path / "other.npz")
    assert (found.reason, "give reader.smiles" in found.message) == ("no SMILES", True)


def test_frames_of_a_split(tmp_path):
    ethanol = sample("CCO", 6)
    write(tmp_path / "rmd17_ethanol.npz", ethanol)
    index = tmp_path / "index_train_01.csv"
    index.write_text("4\n0\n3\n")
    reader = Rmd17Reader(tmp_path / "rmd17_ethanol.npz", frames=index)
    (record,) = reader
    np.testing.assert_array_equal(record.conformers.xyz, ethanol.xyz[[4, 0, 3]])
    np.testing.assert_array_equal(record.conformers.energy, ethanol.energy[[4, 0, 3]])
    assert reader.manifest["frames"] == "index_train_01.csv"
    before = reader.fingerprint()
    index.write_text("4\n0\n6\n")
    assert reader.fingerprint() != before
    (found,) = Rmd17Reader(tmp_path / "rmd17_ethanol.npz", frames=index)
    assert (found.reason, "6 frames" in found.message) == ("no such frame", True)
    for text in ("1\n1\n", "-1\n", "one\n"):
        index.write_text(text)
        with pytest.raises(ReaderError, match=r"index_train_01\.csv: expected frame numbers"):
            Rmd17Reader(tmp_path / "rmd17_ethanol.npz", frames=index)


def test_nothing_is_unpickled(tmp_path):
    write(tmp_path / "rmd17_ethanol.npz", sample("CCO"), energies=np.array([None, "x", 1], dtype=object))
    (found,) = Rmd17Reader(tmp_path / "rmd17_ethanol.npz")
    assert (found.reason, "not unpickled" in found.message) == ("pickled array", True)


def test_a_folder_without_archives(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(ReaderError, match=r"a: nothing in it; expected files NAME\.npz"):
        Rmd17Reader(tmp_path / "a")


def test_the_ten_molecules_of_the_shared_data(tmp_path):
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    with h5py.File(SHARED) as file:
        assert set(file) == set(SMILES)
        for name, group in file.items():
            arrays = {key: group[key][:200] for key in ("coords", "energies", "forces")}
            np.savez(tmp_path / f"rmd17_{name}.npz", nuclear_charges=group["atomic_numbers"][:], **arrays)
        found = list(Rmd17Reader(tmp_path))
        assert not [r for r in found if isinstance(r, Rejection)]
        for record, (name, group) in zip(found, file.items(), strict=True):
            assert isinstance(record, Record)
            assert record.id == f"rmd17_{name}"
            assert graph_of(record.molecule.smiles) == graph_of(group.attrs["smiles"])
            assert record.key == group.attrs["connectivity_key"]
            np.testing.assert_array_equal(record.conformers.energy, group["energies"][:200])

"""rMD17: archives as NumPy writes them, and the shared excerpt of the real ones."""

import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from espalike.data.readers.base import ReaderError
from espalike.data.readers.rmd17 import SMILES, Rmd17Reader
from espalike.data.schema import Record
from tests.data.readers.arrays_suite import ArraysSuite
from tests.data.readers.samples import graph_of, sample, samples

SHARED = Path(__file__).parents[4] / "shared" / "data" / "rmd17_2k.h5"


NO_UNITS = "the archive says no units; the format has them, and an option that contradicts is refused"


class TestRmd17(ArraysSuite):
    reader = Rmd17Reader
    config = "rmd17"
    filename = "npz_data"
    first_file = "mol-0.npz"
    level = "PBE/def2-SVP"
    options = {"smiles": {s.name: graph_of(s.smiles)[3] for s in samples()}}  # noqa: RUF012
    names = {"numbers": "nuclear_charges", "coords": "coords", "energy": "energies", "forces": "forces"}  # noqa: RUF012
    refused = ()
    says = {  # noqa: RUF012
        "truncated": r"mol-0\.npz: it is cut short or damaged; get the file again",
        "empty": r"mol-0\.npz: it is empty",
        "foreign": r"mol-0\.npz: it is not a NumPy archive",
        "permuted atoms": "mol-0: the bonds that its distances show are not",
        "missing array": "mol-0: array 'energies' is missing; arrays found: nuclear_charges",
    }
    impossible = {  # noqa: RUF012
        "unit unknown": NO_UNITS,
        "unit contradicts": NO_UNITS,
        "permuted equal atoms": "atoms are found in the SMILES by their bonds, whatever their order",
        "wrong charge": "the format says no charge",
        "duplicated ids": "names of files are unique",
    }

    def arrays(self, s):
        return {**super().arrays(s), "old_indices": np.arange(len(s.xyz))}

    def spoil(self, path, name):
        if name != "permuted atoms":
            return super().spoil(path, name)
        first, *others = self.samples()  # the SMILES is not in the file, so elements alone change places
        self.rewrite(path, [replace(first, numbers=first.permuted().numbers), *others])


def write(path, s, **changes):
    np.savez_compressed(path, **{**TestRmd17().arrays(s), **changes})


def test_one_file_by_the_name_of_its_molecule(tmp_path):
    ethanol = sample("CCO", 5)
    write(tmp_path / "rmd17_ethanol.npz", ethanol)
    (record,) = Rmd17Reader(tmp_path / "rmd17_ethanol.npz")
    assert (record.id, record.conformers.source) == ("rmd17_ethanol", "rmd17_ethanol")
    assert graph_of(record.molecule.smiles) == graph_of(ethanol.smiles)
    shutil.copy(tmp_path / "rmd17_ethanol.npz", tmp_path / "rmd17_benzene.npz")
    (rejection,) = Rmd17Reader(tmp_path / "rmd17_benzene.npz")
    assert rejection.reason == "elements differ from SMILES"
    shutil.copy(tmp_path / "rmd17_ethanol.npz", tmp_path / "other.npz")
    (rejection,) = Rmd17Reader(tmp_path / "other.npz")
    assert (rejection.reason, "give reader.smiles" in rejection.message) == ("no SMILES", True)


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
    (rejection,) = Rmd17Reader(tmp_path / "rmd17_ethanol.npz", frames=index)
    assert (rejection.reason, "6 frames" in rejection.message) == ("no such frame", True)
    for text in ("1\n1\n", "-1\n", "one\n"):
        index.write_text(text)
        with pytest.raises(ReaderError, match=r"index_train_01\.csv: expected frame numbers"):
            Rmd17Reader(tmp_path / "rmd17_ethanol.npz", frames=index)


def test_nothing_is_unpickled(tmp_path):
    write(tmp_path / "rmd17_ethanol.npz", sample("CCO"), energies=np.array([None, "x", 1], dtype=object))
    (rejection,) = Rmd17Reader(tmp_path / "rmd17_ethanol.npz")
    assert (rejection.reason, "not unpickled" in rejection.message) == ("pickled array", True)


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_is_no_array_is_named(tmp_path, encrypted):
    path = tmp_path / "rmd17_ethanol.npz"
    write(path, sample("CCO"))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content if encrypted else b"no array" + content)
    if encrypted:
        path.write_bytes(
            path.read_bytes().replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
        )
    (rejection,) = Rmd17Reader(path)
    assert rejection.reason == "file is cut short or damaged"
    assert ("encrypted" if encrypted else "not in NumPy's format") in rejection.message


def test_a_folder_without_archives(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(ReaderError, match=r"a: nothing in it; expected files NAME\.npz"):
        Rmd17Reader(tmp_path / "a")


def test_another_file_of_the_same_name_is_not_read_instead(tmp_path):
    np.savez(tmp_path / "rmd17_ethanol.npz", z=1)
    (tmp_path / "rmd17_ethanol.txt").write_text("notes")
    with pytest.raises(ReaderError, match=r"rmd17_ethanol\.txt: not files NAME\.npz"):
        Rmd17Reader(tmp_path / "rmd17_ethanol.txt")


def test_the_ten_molecules_of_the_shared_data(tmp_path):
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    with h5py.File(SHARED) as file:
        assert set(file) == set(SMILES)
        for name, group in file.items():
            arrays = {key: group[key][:200] for key in ("coords", "energies", "forces")}
            np.savez(tmp_path / f"rmd17_{name}.npz", nuclear_charges=group["atomic_numbers"][:], **arrays)
        records = list(Rmd17Reader(tmp_path))
        for record, (name, group) in zip(records, file.items(), strict=True):
            assert isinstance(record, Record)
            assert record.id == f"rmd17_{name}"
            assert graph_of(record.molecule.smiles) == graph_of(group.attrs["smiles"])
            assert record.key == group.attrs["connectivity_key"]
            np.testing.assert_array_equal(record.conformers.energy, group["energies"][:200])

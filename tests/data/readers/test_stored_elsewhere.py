"""Arrays that lie in another file, were never written, or only claim to be large, are refused before they are read."""

import h5py
import numpy as np
import pytest

from espalike.data.readers.ani import AniReader
from espalike.data.readers.arrays import ArraysReader
from espalike.data.readers.base import ReaderError
from espalike.data.readers.hdf5 import Hdf5Reader
from espalike.data.schema import Record, Rejection
from tests.data.conftest import build_record


@pytest.fixture
def path(tmp_path):
    record = build_record("CO", 3)
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        file.attrs["units"] = "coords angstrom; energies kcal/mol; forces kcal/mol/angstrom"
        file.attrs["level_of_theory"] = "HF"
        for name in ("a", "b"):
            group = file.create_group(name)
            group.attrs["smiles"] = record.molecule.smiles
            group["atomic_numbers"] = record.molecule.numbers
            group["coords"], group["energies"] = record.conformers.xyz, record.conformers.energy
            group["forces"] = record.conformers.forces
    return path


def external_link(file, folder):
    with h5py.File(folder / "other.h5", "w") as other:
        file["a"].copy("energies", other, "energies")
    del file["a/energies"]
    file["a/energies"] = h5py.ExternalLink("other.h5", "/energies")


def external_storage(file, folder):
    values = file["a/energies"][()]
    values.tofile(folder / "raw.bin")
    del file["a/energies"]
    file["a"].create_dataset("energies", (3,), "f8", external=[(str(folder / "raw.bin"), 0, 24)])


def virtual(file, folder):
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "energies", (3,))
    del file["a/energies"]
    file["a"].create_virtual_dataset("energies", layout)


def claims(file, folder):
    del file["a/energies"]
    file["a"].create_dataset("energies", (10**9,), "f8", chunks=(10**6,), compression="gzip")


def nothing_stored(file, folder):
    del file["a/coords"]
    file["a"].create_dataset("coords", (10**9, 6, 3), "f8")


def never_written(file, folder):
    del file["a/energies"]
    file["a"].create_dataset("energies", (3,), "f8")  # reads as zeros


def chunks_never_written(file, folder):
    del file["a/coords"]
    file["a"].create_dataset("coords", (3, 6, 3), "f8", chunks=True, fillvalue=1.5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (never_written, "a/energies: its numbers were never written"),
        (chunks_never_written, "a/coords: its numbers were never written"),
        (external_storage, "a/energies: its numbers lie in another file"),
        (virtual, "a/energies: its numbers lie in another file"),
        (claims, "a/energies: claims 8,000,000,000 bytes of numbers, but only 0 are stored"),
        (nothing_stored, "a/coords: claims 144,000,000,000 bytes of numbers, but only 0 are stored"),
    ],
)
def test_one_entry_is_rejected(path, tmp_path, spoil, message):
    with h5py.File(path, "a") as file:
        spoil(file, tmp_path)
    first, second = Hdf5Reader(path)
    assert isinstance(first, Rejection)
    assert message in first.message
    assert isinstance(second, Record)


def test_a_file_with_links_to_another_is_refused(path, tmp_path):
    assert len(list(Hdf5Reader(path))) == 2
    with h5py.File(path, "a") as file:
        external_link(file, tmp_path)
    with pytest.raises(ReaderError, match=r"set.h5: a/energies is a link to another file"):
        Hdf5Reader(path)


@pytest.mark.parametrize("array", ["coordinates", "wb97x_dz.energy", "atomic_numbers"])
@pytest.mark.parametrize("content", ["group", "type", "null", "pairs"])
def test_one_formula_of_ani_is_rejected(path, array, content):
    """Something else than numbers stands in place of an array; the other formula is read."""
    with h5py.File(path, "a") as file:
        for group in file.values():
            group.move("coords", "coordinates")
            group.move("energies", "wb97x_dz.energy")
            del group["forces"]
        shape = file["a"][array].shape
        del file["a"][array]
        if content == "group":
            file["a"].create_group(array)
        elif content == "type":
            file["a"][array] = np.dtype("f8")
        elif content == "null":
            file["a"][array] = h5py.Empty("f8")
        else:
            file["a"].create_dataset(array, data=np.ones(shape, [("x", "f8")]), dtype=np.dtype([("x", "f8")]))
    first, *others = AniReader(path, method="wb97x_dz")
    assert isinstance(first, Rejection)
    assert first.message.startswith("a")
    assert any(isinstance(entry, Record) for entry in others)


def test_the_formulas_of_ani(path, tmp_path):
    with h5py.File(path, "a") as file:
        for group in file.values():
            group.move("coords", "coordinates")
        external_storage(file, tmp_path)
    with h5py.File(path, "a") as file:
        for group in file.values():
            group.move("energies", "wb97x_dz.energy")
            del group["forces"]
    entries = list(AniReader(path, method="wb97x_dz"))
    assert "its numbers lie in another file" in entries[0].message
    assert any(isinstance(entry, Record) for entry in entries[1:])


def test_an_archive_that_claims_to_be_large(tmp_path):
    record = build_record("CO", 3)
    arrays = {"z": record.molecule.numbers, "r": record.conformers.xyz, "e": np.zeros(2 * 10**7)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    names = {"numbers": "z", "coords": "r", "energy": "e"}
    units = "coords angstrom; energies kcal/mol"
    (entry,) = ArraysReader(tmp_path / "a.npz", level="HF", container="npz", names=names, units=units)
    assert "a/e: claims 160,000,128 bytes" in entry.message

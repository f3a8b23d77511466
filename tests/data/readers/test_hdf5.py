"""The project's own HDF5 layout: through the suite of all readers, and what is its own."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from espalike.data.filters import Filters
from espalike.data.readers.base import ReaderError, parse_units
from espalike.data.readers.hdf5 import NAMES, Hdf5Reader, plain_level
from espalike.data.schema import Record, Rejection
from tests.data.readers.arrays_suite import ArraysSuite
from tests.data.readers.samples import BOHR, HARTREE

SHARED = Path(__file__).parents[4] / "shared" / "data"
UNITS = "coords Angstrom; energies kcal/mol; forces kcal/mol/Angstrom (force = -dE/dx)"
METHANOL = "[C:1]([O:2][H:6])([H:3])([H:4])[H:5]"


class TestHdf5(ArraysSuite):
    reader = Hdf5Reader
    config = "hdf5"
    filename = "set.h5"
    level = "B3LYP-D3BJ/DZVP"
    names = {key: name for key, name in NAMES.items() if key not in ("level", "split", "kind")}  # noqa: RUF012
    scale = {"coords": BOHR, "energy": HARTREE, "forces": HARTREE / BOHR}  # noqa: RUF012
    says = {  # noqa: RUF012
        "truncated": r"set\.h5: it is cut short; get the file again",
        "unit unknown": "'furlong', which is not known",
        "missing array": "array 'coords' is missing",
    }
    needed = "xyz"
    impossible = {"duplicated ids": "names of HDF5 groups are unique"}  # noqa: RUF012

    def file_attributes(self):
        units = "coords bohr; energies hartree; forces hartree/bohr (force = -dE/dx)"
        return {"units": units, "level_of_theory": f"{self.level} (Psi4)", "license": "MIT"}


def write(path, entries, **attributes):
    """A file of entries; each is a dict of data sets and `attrs`."""
    with h5py.File(path, "w") as file:
        defaults = {"units": UNITS, "level_of_theory": "PBE/def2-SVP (tight)", "license": "MIT", "source": "made up"}
        for key, value in {**defaults, **attributes}.items():
            if value is not None:
                file.attrs[key] = value
        for name, entry in entries.items():
            group = file.create_group(name)
            for key, value in entry["attrs"].items():
                group.attrs[key] = value
            for key, value in entry.items():
                if key != "attrs" and value is not None:
                    group[key] = value
    return path


def entry(n=3, attrs=None, **changes):
    rng = np.random.default_rng(0)
    data = {
        "atomic_numbers": np.array([6, 8, 1, 1, 1, 1], np.int8),
        "coords": rng.normal(size=(n, 6, 3)).astype(np.float32),
        "energies": -7e4 + rng.normal(size=n),
        "forces": rng.normal(size=(n, 6, 3)).astype(np.float32),
    }
    return {
        "attrs": {"smiles": METHANOL, "charge": 0, "split": "val", "kind": "thermal", **(attrs or {})},
        **data,
        **changes,
    }


def test_reads_the_layout(tmp_path):
    expected = entry()
    (record,) = Hdf5Reader(write(tmp_path / "set.h5", {"m": expected}))
    assert (record.id, record.split, record.kind, record.key) == ("m", "val", "thermal", "OKKJLVBELUTLKV")
    assert (record.conformers.source, record.conformers.level) == ("set", "PBE/def2-SVP")
    assert record.molecule.numbers.tolist() == [6, 8, 1, 1, 1, 1]
    np.testing.assert_array_equal(record.conformers.xyz, expected["coords"])
    np.testing.assert_array_equal(record.conformers.energy, expected["energies"])
    np.testing.assert_array_equal(record.conformers.forces, expected["forces"])
    assert record.conformers.xyz.dtype == record.conformers.forces.dtype == np.float64


def test_conformers_that_are_not_finite_are_dropped_and_the_others_kept(tmp_path):
    """What their numbers are is in no other place of the file; what is not known costs one conformer."""
    energies, coords, forces = (entry(n=5)[name].copy() for name in ("energies", "coords", "forces"))
    energies[1], coords[0, 2, 0], forces[4, 0, 1] = np.nan, np.nan, np.inf
    data = entry(n=5, energies=energies, coords=coords, forces=forces)
    (record,) = Hdf5Reader(write(tmp_path / "set.h5", {"m": data}))
    kept, dropped = Filters(connectivity=False)(record)
    np.testing.assert_array_equal(kept.conformers.energy, energies[[2, 3]])
    assert dropped == {f"conformer: {what} not finite": 1 for what in ("coordinates", "energies", "forces")}


BAD = {
    "nan": (
        entry(energies=np.full(3, np.nan)),
        "energies not finite",
        r"energies hold NaN or infinite values \(3 of 3\)",
    ),
    "short": (entry(energies=np.zeros(2)), "shapes disagree", r"shape \(2,\), expected \(3,\)"),
    "atoms": (entry(coords=np.zeros((3, 5, 3))), "shapes disagree", r"expected \(3, 6, 3\)"),
    "forces": (entry(forces=np.zeros((3, 6))), "shapes disagree", "forces"),
    "inf": (entry(forces=np.full((3, 6, 3), np.inf)), "forces not finite", "forces"),
    "numbers": (
        entry(atomic_numbers=np.array([8, 6, 1, 1, 1, 1])),
        "atomic numbers differ from SMILES",
        "atom 1 has atomic number 8, 6 in the SMILES",
    ),
    "count": (entry(atomic_numbers=np.array([6, 8, 1])), "shapes disagree", "3 atomic numbers, 6 atoms"),
    "charge": (entry(attrs={"charge": 1}), "charge differs from SMILES", "charge 1, 0 in the SMILES"),
    "garbage": (entry(attrs={"smiles": "not a molecule"}), "chemistry", "not a molecule"),
    "nosmiles": (entry(attrs={"smiles": h5py.Empty("S1")}), "chemistry", "not a valid SMILES"),
    "uranium": (entry(attrs={"smiles": "[U:1]"}, atomic_numbers=np.array([92])), "chemistry", "uranium"),
    "nocoords": (
        entry(coords=None),
        "no coordinates",
        "array 'coords' is missing; arrays found: atomic_numbers, energies",
    ),
    "nonumbers": (entry(atomic_numbers=None), "no atomic numbers", "'atomic_numbers' is missing"),
    "words": (
        entry(energies=np.array([b"1.0", b"2.0", b"?"])),
        "not numbers",
        r"words/energies: expected .* got \|S3",
    ),
    "names": (entry(energies=["a", "b", "c"]), "not numbers", r"names/energies: expected numbers, got object"),
    "null": (entry(energies=h5py.Empty("f8")), "not numbers", r"null/energies"),
    "pairs": (entry(coords=np.ones((3, 6, 3), complex)), "not numbers", r"pairs/coords: expected .* complex128"),
    "split": (entry(attrs={"split": "holdout"}), "unknown split", "'holdout'"),
    "kind": (entry(attrs={"kind": "hot"}), "unknown kind", "'hot'"),
    "level": (entry(attrs={"level_of_theory": "see entry"}), "level of theory unknown", "give reader.level"),
}


def test_each_bad_entry_is_rejected_with_its_reason_and_the_rest_goes_on(tmp_path):
    entries = {"a": entry(), **{name: bad for name, (bad, _, _) in BAD.items()}, "z": entry()}
    results = list(Hdf5Reader(write(tmp_path / "set.h5", entries)))
    assert len(results) == len(BAD) + 2
    assert [r.id for r in results if isinstance(r, Record)] == ["a", "z"]
    rejections = {r.id: r for r in results if isinstance(r, Rejection)}
    for name, (_, reason, message) in BAD.items():
        assert rejections[name].reason == reason, name
        assert name in rejections[name].message
        assert re.search(message, rejections[name].message), rejections[name].message


def test_a_stray_data_set_is_no_entry(tmp_path):
    path = write(tmp_path / "set.h5", {"a": entry()})
    with h5py.File(path, "a") as file:
        file["readme"] = 1
    assert [getattr(r, "reason", "ok") for r in Hdf5Reader(path)] == ["ok", "not a group"]


def test_empty_missing_and_foreign_files(tmp_path):
    path = tmp_path / "set.h5"
    path.write_text("energy,force\n")
    with pytest.raises(ReaderError, match="not HDF5"):
        Hdf5Reader(path)
    with pytest.raises(ReaderError, match="nothing in it"):
        Hdf5Reader(write(path, {}))


def test_units_missing_is_an_error_that_names_the_data_set(tmp_path):
    path = write(tmp_path / "set.h5", {"a": entry()}, units="coords Angstrom; forces kcal/mol/Angstrom")
    with pytest.raises(ReaderError, match="unit of 'energies'"):
        list(Hdf5Reader(path))
    path = write(path, {"a": entry()}, units=None)
    with pytest.raises(ReaderError, match="unit of 'coords'"):
        list(Hdf5Reader(path))
    (record,) = Hdf5Reader(path, units=UNITS)
    assert isinstance(record, Record)


def test_units_are_converted(tmp_path):
    expected = entry()
    path = write(tmp_path / "a.h5", {"a": expected}, units="coords bohr; energies hartree; forces hartree/bohr")
    (record,) = Hdf5Reader(path)
    np.testing.assert_allclose(record.conformers.xyz, expected["coords"] * np.float64(BOHR))
    np.testing.assert_allclose(record.conformers.energy, expected["energies"] * HARTREE)
    np.testing.assert_allclose(record.conformers.forces, expected["forces"] * np.float64(HARTREE / BOHR))


def test_units_unknown_or_contradicting(tmp_path):
    path = write(tmp_path / "a.h5", {"a": entry()}, units="coords furlong; energies kcal/mol")
    with pytest.raises(ReaderError, match="coords are in unit 'furlong'"):
        Hdf5Reader(path)
    path = write(path, {"a": entry()}, units="coords kcal/mol; energies kcal/mol")
    with pytest.raises(ReaderError, match="coords are in unit 'kcal/mol'"):
        Hdf5Reader(path)
    path = write(path, {"a": entry()})
    with pytest.raises(ReaderError, match="option units says 'hartree'"):
        Hdf5Reader(path, units="energies hartree")
    with h5py.File(path, "a") as file:
        file["a/coords"].attrs["units"] = "bohr"
    (rejection,) = Hdf5Reader(path)
    assert rejection.reason == "units contradict"
    assert "'bohr', the file as a whole says 'Angstrom'" in rejection.message


def test_zero_forces_for_minima(tmp_path):
    path = write(tmp_path / "a.h5", {"a": entry(energies=None, forces=None), "b": entry(forces=None)})
    plain, _ = Hdf5Reader(path)
    assert plain.conformers.forces is None
    assert np.isnan(plain.conformers.energy).all()
    minimum, scored = Hdf5Reader(path, zero_forces=True)
    assert (minimum.conformers.forces == 0).all()
    assert minimum.conformers.forces.shape == minimum.conformers.xyz.shape
    assert scored.conformers.forces is None


def test_other_levels_side_by_side(tmp_path):
    entries = {
        "a": entry(E_mp2=np.array([1.0, np.nan, 3.0]), attrs={"best": True}),
        "b": entry(E_mp2=np.full(3, np.nan), attrs={"best": False}),
    }
    path = write(tmp_path / "a.h5", entries)
    first, second = Hdf5Reader(path, energies="E_mp2", level="MP2")
    assert first.conformers.energy.tolist() == [1.0, 3.0]
    np.testing.assert_array_equal(first.conformers.xyz, entries["a"]["coords"][[0, 2]])
    np.testing.assert_array_equal(first.conformers.forces, entries["a"]["forces"][[0, 2]])
    assert first.conformers.level == "MP2"
    assert second.reason == "energies not finite"
    names = {"True": "CCSD(T)", "False": "PBE"}
    levels = [r.conformers.level for r in Hdf5Reader(path, level_attribute="best", level_names=names)]
    assert levels == ["CCSD(T)", "PBE"]


def test_parsing():
    assert parse_units(UNITS) == {"coords": "Angstrom", "energies": "kcal/mol", "forces": "kcal/mol/Angstrom"}
    assert parse_units("") == {}
    assert plain_level("B3LYP-D3BJ/DZVP (Psi4, default)") == "B3LYP-D3BJ/DZVP"
    assert plain_level("DLPNO-CCSD(T) / PBE on others") == plain_level("see entry") == plain_level("") == ""


@pytest.mark.parametrize(
    ("name", "entries", "conformers"), [("rmd17_2k", 10, 20000), ("botnet_3bpa_methanol", 4, 1445)]
)
def test_shared_files(name, entries, conformers):
    path = SHARED / f"{name}.h5"
    if not path.exists():
        pytest.skip("the shared data are not here")
    records = list(Hdf5Reader(path))
    assert len(records) == entries
    assert all(isinstance(r, Record) for r in records)
    assert sum(len(r.conformers.xyz) for r in records) == conformers
    with h5py.File(path) as file:
        assert all(r.key == file[r.id].attrs["connectivity_key"] for r in records)

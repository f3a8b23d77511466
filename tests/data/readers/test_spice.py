"""SPICE: files as the data set's own downloader writes them, with h5py."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import yaml

from espalike.data.readers.base import ReaderError
from espalike.data.readers.spice import SpiceReader
from espalike.data.schema import Record, Rejection
from tests.data.readers.suite import (
    BOHR,
    CONFIGS,
    HARTREE,
    Caught,
    Impossible,
    ReaderSuite,
    Sample,
    cut,
    empty,
    foreign,
    sample,
)

ATOMS = 0.9  # formation energies are total energies less this much of them, the same for all conformers


def write(path, samples, subset="SPICE PubChem Set 1 Single Points Dataset v1.2", **changes):
    rng = np.random.default_rng(0)
    with h5py.File(path, "a") as file:
        for s in samples:
            group = file.create_group(s.name)
            group.create_dataset("subset", data=[subset], dtype=h5py.string_dtype())
            group.create_dataset("smiles", data=[s.smiles], dtype=h5py.string_dtype())
            group.create_dataset("atomic_numbers", data=s.numbers, dtype=np.int16)
            total = s.energy / HARTREE
            charges = rng.normal(size=(*s.xyz.shape[:2], 1))
            charges += (s.charge - charges.sum(1, keepdims=True)) / len(s.numbers)
            arrays = {
                "conformations": (s.xyz / BOHR, "bohr", np.float32),
                "formation_energy": (total - ATOMS * total[:1], "hartree", np.float64),
                "dft_total_energy": (total, "hartree", np.float64),
                "dft_total_gradient": (-s.forces / (HARTREE / BOHR), "hartree/bohr", np.float32),
                "mbis_charges": (charges, "elementary_charge", np.float32),
                "scf_dipole": (rng.normal(size=(len(s.xyz), 3)), "elementary_charge*bohr", np.float32),
                **changes,
            }
            for key, value in arrays.items():
                if value is not None:
                    group.create_dataset(key, data=value[0], dtype=value[2]).attrs["units"] = value[1]


def edit(name, change=None, units=None):
    """Replaces a data set of the first molecule, or its unit."""

    def spoil(path):
        with h5py.File(path, "a") as file:
            group = file["mol-0"]
            if units:
                group[name].attrs["units"] = units
                return
            old, attributes = group[name][()], dict(group[name].attrs)
            del group[name]
            if change:
                group[name] = change(old)
                group[name].attrs.update(attributes)

    return spoil


def nan_at(index):
    def change(array):
        array[index] = np.nan
        return array

    return change


class TestSpice(ReaderSuite):
    reader = SpiceReader
    config = "spice"
    filename = "SPICE-2.0.1.hdf5"
    level = "wB97M-D3BJ/def2-TZVPPD"

    def write(self, path, samples):
        write(path, samples)

    def read(self, path):
        with h5py.File(path) as file:
            return [
                Sample(
                    name,
                    group["smiles"].asstr()[0],
                    group["atomic_numbers"][:],
                    round(float(group["mbis_charges"][0].sum())),
                    group["conformations"][:].astype(float) * BOHR,
                    group["dft_total_energy"][:] * HARTREE,
                    -group["dft_total_gradient"][:].astype(float) * (HARTREE / BOHR),
                    id=name,
                )
                for name, group in file.items()
            ]

    def corruptions(self):
        def permute(equal):
            def spoil(path):
                first, *others = self.samples()
                path.unlink()
                self.write(path, [first.permuted(equal), *others])

            return spoil

        return {
            "truncated": Caught(cut, r"SPICE-2.0.1.hdf5: it is cut short; get the file again", whole=True),
            "empty": Caught(empty, "it is empty; get the file again", whole=True),
            "foreign": Caught(foreign, "it is not HDF5 or is damaged", whole=True),
            "unit unknown": Caught(edit("conformations", units="furlong"), "'furlong', which is not known"),
            "unit contradicts": Caught(
                edit("dft_total_energy", units="ev"), "mol-0: dft_total_energy are in 'ev', .* says 'hartree'"
            ),
            "permuted atoms": Caught(permute(False), r"mol-0: atom \d+ has atomic number \d, \d in the SMILES"),
            "permuted equal atoms": Caught(permute(True), "mol-0: no conformer is left.*bonds differ from the graph"),
            "wrong charge": Caught(edit("mbis_charges", lambda q: q + 1 / q.shape[1]), "charge 1, 0 in the SMILES"),
            "nan energy": Caught(edit("dft_total_energy", nan_at(1)), "mol-0: energies hold NaN"),
            "nan forces": Caught(edit("dft_total_gradient", nan_at((1, 2, 0))), "mol-0: forces hold NaN"),
            "nan coordinates": Caught(edit("conformations", nan_at((0, 0, 0))), "mol-0: coordinates hold NaN"),
            "duplicated ids": Impossible("names of HDF5 groups are unique"),
            "missing array": Caught(edit("dft_total_energy"), "data set 'dft_total_energy' is missing"),
            "wrong shape": Caught(
                edit("dft_total_gradient", lambda g: g[:, 1:]), r"forces have shape \(3, 5, 3\), expected \(3, 6, 3\)"
            ),
        }


def test_dipoles_and_charges(tmp_path):
    write(tmp_path / "a.hdf5", [sample("C[NH3+]")])
    (record,) = SpiceReader(tmp_path / "a.hdf5", charges=True)
    with h5py.File(tmp_path / "a.hdf5") as file:
        np.testing.assert_allclose(record.conformers.dipole, file["mol-0/scf_dipole"][:] * BOHR, rtol=1e-6)
        np.testing.assert_allclose(record.ref_charge, file["mol-0/mbis_charges"][:, :, 0].mean(0), rtol=1e-5)
    assert record.ref_charge.sum() == pytest.approx(1.0, abs=1e-5)
    (record,) = SpiceReader(tmp_path / "a.hdf5")
    assert record.ref_charge is None
    edit("mbis_charges", units="debye")(tmp_path / "a.hdf5")
    (found,) = SpiceReader(tmp_path / "a.hdf5", charges=True)
    assert found.reason == "units contradict"


def test_values_that_an_entry_may_lack(tmp_path):
    path = tmp_path / "a.hdf5"
    write(path, [sample("CO")], dft_total_gradient=None, mbis_charges=None, scf_dipole=None, formation_energy=None)
    (record,) = SpiceReader(path, charges=True)
    assert record.conformers.forces is record.conformers.dipole is record.ref_charge is None


@pytest.mark.parametrize("apart", [True, False])
def test_dispersion_apart_as_in_the_data_of_espaloma(tmp_path, apart):
    path, s = tmp_path / "a.hdf5", sample("CO")
    rng = np.random.default_rng(0)
    energy, gradient = rng.normal(size=3), rng.normal(size=s.forces.shape).astype(np.float32)
    write(path, [s], formation_energy=None)
    with h5py.File(path, "a") as file:
        group = file["mol-0"]
        if apart:
            group["dispersion_correction_energy"] = energy
            group["dispersion_correction_gradient"] = gradient
        else:
            group["total_energy"] = group["dft_total_energy"][:] + energy
            group["total_gradient"] = group["dft_total_gradient"][:].astype(float) + gradient
            del group["dft_total_energy"], group["dft_total_gradient"]
    if apart:
        (found,) = SpiceReader(path)
        assert found.reason == "dispersion in or not"
        (record,) = SpiceReader(path, dispersion=False)
        np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=1e-9)
    preset = yaml.safe_load((CONFIGS / "espaloma03.yaml").read_text())
    reader = SpiceReader(path, level=preset["level"], dispersion=preset["dispersion"])
    (record,) = reader
    np.testing.assert_allclose(record.conformers.energy, s.energy + energy * HARTREE, rtol=1e-9)
    np.testing.assert_allclose(
        record.conformers.forces, s.forces - gradient.astype(float) * (HARTREE / BOHR), atol=1e-3
    )
    assert record.conformers.level == "B3LYP-D3BJ/DZVP"
    assert "licence" not in reader.manifest, "that of SPICE is not that of another set"


def test_charges_that_did_not_converge_are_empty(tmp_path):
    """As in SPICE 2.0.1, github.com/openmm/spice-dataset/issues/116."""
    path = tmp_path / "a.hdf5"
    write(path, [sample("CO")], mbis_charges=(np.empty(0), "elementary_charge", np.float32))
    (record,) = SpiceReader(path, charges=True)
    assert record.ref_charge is None


def test_clusters_and_empty_groups_have_reasons_of_their_own(tmp_path):
    path = tmp_path / "a.hdf5"
    first = sample("CO")
    write(path, [first, replace(sample("CC", seed=1), smiles="[Na+:1].[Cl-:2]")])
    none = replace(sample("CC", seed=2), xyz=first.xyz[:0], forces=first.forces[:0], energy=first.energy[:0])
    write(path, [none])
    assert [getattr(r, "reason", "") for r in SpiceReader(path)] == ["", "several fragments", "empty"]


def test_total_and_formation_energies_must_agree(tmp_path):
    path = tmp_path / "a.hdf5"
    write(path, [sample("CO")])
    edit("formation_energy", lambda e: e + np.array([0, 0, 1e-3]))(path)
    (found,) = SpiceReader(path)
    assert found.reason == "energies contradict"
    assert "0.628 kcal/mol" in found.message


def test_the_one_energy_that_is_none(tmp_path):
    path = tmp_path / "a.hdf5"
    write(path, [sample("CO", 1)])
    edit("dft_total_energy", nan_at(0))(path)
    (found,) = SpiceReader(path)
    assert found.reason == "energies not finite"


def test_subsets(tmp_path):
    path = tmp_path / "a.hdf5"
    write(path, [sample("CO")])
    write(path, [sample("CC", seed=1), sample("CN", seed=2)], subset="SPICE Dipeptides Single Points Dataset v1.3")
    with h5py.File(path, "a") as file:
        file["readme"] = 1
    reader = SpiceReader(path, subset="dipeptides")
    assert len(reader) == 2
    assert [r.id for r in reader] == ["mol-1", "mol-2"]
    assert len(SpiceReader(path, subset=["PubChem", "Dipeptides"])) == 3
    assert [type(r) for r in SpiceReader(path)] == [Record] * 3 + [Rejection]
    with pytest.raises(ReaderError, match=r"no group of subset \['DES370K'\]; subsets found: .*SPICE Dipeptides"):
        len(SpiceReader(path, subset="DES370K"))
    with h5py.File(tmp_path / "nothing.hdf5", "w"):
        pass
    with pytest.raises(ReaderError, match="nothing in it"):
        SpiceReader(tmp_path / "nothing.hdf5")

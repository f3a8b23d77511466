"""SPICE: files as the data set's own downloader writes them, with h5py."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import yaml

from espalike.data.readers.base import ReaderError
from espalike.data.readers.spice import SpiceReader
from espalike.data.schema import Record, Rejection
from tests.data.readers.arrays_suite import ArraysSuite
from tests.data.readers.samples import BOHR, HARTREE, sample
from tests.data.readers.suite import CONFIGS

ATOMS = 0.9  # formation energies are total energies less this much of them, the same for all conformers


class TestSpice(ArraysSuite):
    reader = SpiceReader
    config = "spice"
    filename = "SPICE-2.0.1.hdf5"
    level = "wB97M-D3BJ/def2-TZVPPD"
    names = {  # noqa: RUF012
        "smiles": "smiles", "numbers": "atomic_numbers", "coords": "conformations", "energy": "dft_total_energy",
        "gradient": "dft_total_gradient",
    }  # fmt: skip
    scale = {"coords": BOHR, "energy": HARTREE, "gradient": HARTREE / BOHR}  # noqa: RUF012
    units = {  # noqa: RUF012
        "conformations": "bohr", "dft_total_energy": "hartree", "dft_total_gradient": "hartree/bohr",
        "formation_energy": "hartree", "mbis_charges": "elementary_charge", "scf_dipole": "elementary_charge*bohr",
    }  # fmt: skip
    single = ("coords", "gradient")
    texts = "arrays"
    says = {  # noqa: RUF012
        "truncated": r"SPICE-2.0.1.hdf5: it is cut short; get the file again",
        "unit unknown": "conformations are in unit 'furlong', which is not known",
        "unit contradicts": "mol-0: dft_total_energy are in 'ev', .* says 'hartree'",
        "missing array": "array 'dft_total_energy' is missing",
    }
    impossible = {"duplicated ids": "names of HDF5 groups are unique"}  # noqa: RUF012

    def arrays(self, s, subset="SPICE PubChem Set 1 Single Points Dataset v1.2"):
        rng = np.random.default_rng(0)
        charges = rng.normal(size=(*s.xyz.shape[:2], 1))
        charges += (s.charge - charges.sum(1, keepdims=True)) / len(s.numbers)
        record = {
            **super().arrays(s),
            "subset": subset,
            "mbis_charges": charges.astype(np.float32),
            "scf_dipole": rng.normal(size=(len(s.xyz), 3)).astype(np.float32),
        }
        if s.energy is not None:
            total = record["dft_total_energy"]
            record["formation_energy"] = total - ATOMS * total[:1]
        return record

    def charge_of(self, record, s):
        return round(float(record["mbis_charges"][0].sum()))


def write(path, samples, subset="SPICE PubChem Set 1 Single Points Dataset v1.2", **changes):
    """Adds samples; `changes` go before their arrays, None leaves one out."""
    suite = TestSpice()
    records = {s.name: {**suite.arrays(s, subset), **changes} for s in samples}
    suite.save(path, {name: {k: v for k, v in r.items() if v is not None} for name, r in records.items()})


def edit(path, name, change):
    with h5py.File(path, "a") as file:
        file["mol-0"][name][...] = change(file["mol-0"][name][()])


def test_dipoles_and_charges(tmp_path):
    write(tmp_path / "a.hdf5", [sample("C[NH3+]")])
    (record,) = SpiceReader(tmp_path / "a.hdf5", charges=True)
    with h5py.File(tmp_path / "a.hdf5") as file:
        np.testing.assert_allclose(record.conformers.dipole, file["mol-0/scf_dipole"][:] * BOHR, rtol=1e-6)
        np.testing.assert_allclose(record.ref_charge, file["mol-0/mbis_charges"][:, :, 0].mean(0), rtol=1e-5)
    assert record.ref_charge.sum() == pytest.approx(1.0, abs=1e-5)
    (record,) = SpiceReader(tmp_path / "a.hdf5")
    assert record.ref_charge is None
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["mol-0/mbis_charges"].attrs["units"] = "debye"
    (rejection,) = SpiceReader(tmp_path / "a.hdf5", charges=True)
    assert (rejection.reason, "'debye'" in rejection.message) == ("unit unknown", True)


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
        (rejection,) = SpiceReader(path)
        assert rejection.reason == "dispersion in or not"
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
    write(path, [sample("CO")], mbis_charges=np.empty(0, np.float32))
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
    edit(path, "formation_energy", lambda e: e + np.array([0, 0, 1e-3]))
    (rejection,) = SpiceReader(path)
    assert rejection.reason == "energies contradict"
    assert "0.628 kcal/mol" in rejection.message


def test_the_one_energy_that_is_none(tmp_path):
    path = tmp_path / "a.hdf5"
    write(path, [sample("CO", 1)])
    edit(path, "dft_total_energy", lambda e: e * np.nan)
    (rejection,) = SpiceReader(path)
    assert rejection.reason == "energies not finite"


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
    assert len(SpiceReader(path, subset="PubChem Set")) == 1
    for word in ("des", "Dipept"):  # DES is in Dipepti-des
        with pytest.raises(ReaderError, match=rf"no group of subset \['{word}'\]"):
            len(SpiceReader(path, subset=["PubChem", word]))
    with h5py.File(tmp_path / "nothing.hdf5", "w"):
        pass
    with pytest.raises(ReaderError, match="nothing in it"):
        SpiceReader(tmp_path / "nothing.hdf5")


@pytest.mark.parametrize("name", ["dft_total_grad", "forces"])
def test_a_gradient_of_another_name_is_not_lost(tmp_path, name):
    path = tmp_path / "a.hdf5"
    write(path, [sample("CO")])
    with h5py.File(path, "a") as file:
        file["mol-0"].move("dft_total_gradient", name)
    (rejection,) = SpiceReader(path)
    assert rejection.reason == "forces named otherwise"
    assert f"no array 'dft_total_gradient', but {name}; reader=arrays reads" in rejection.message

"""ANI-1x as its release is laid out, with h5py; the older layout with the `pyanitools` that torchani carries."""

import warnings
from dataclasses import replace

import h5py
import numpy as np
import pytest

from espalike.data.readers.ani import AniReader
from espalike.data.readers.base import ReaderError
from espalike.data.schema import Record, Rejection
from tests.data.readers.arrays_suite import ArraysSuite
from tests.data.readers.samples import HARTREE, Sample, graph_of, sample

NEUTRAL = ["CO", "CC(N)=O", "c1ccoc1", "C[N+](=O)[O-]", "CSCC#N"]


def neutral():
    return [sample(smiles, 3 + seed, seed) for seed, smiles in enumerate(NEUTRAL)]


def pyanitools():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(
            "torchani.data._pyanitools", reason="torchani is not installed", exc_type=ImportError
        )


class Suite(ArraysSuite):
    """What both layouts have in common."""

    reader = AniReader
    config = "ani"
    level = "wB97X/6-31G(d)"
    scale = {"energy": HARTREE, "forces": HARTREE, "gradient": HARTREE}  # noqa: RUF012
    single = ("coords", "forces", "gradient")
    says = {  # noqa: RUF012
        "permuted atoms": "mol-0.*(no bond orders make a closed-shell|fragments of)",
        "nan coordinates": "mol-0: coordinates of 3 of 3 conformers hold NaN",
        "nan forces": "mol-0-0: 1 of 3 conformers, forces not finite",
        "missing array": "data set 'coordinates' is missing",
        "wrong shape": r"coordinates have shape \(3, 6, 3\), .* \(2,\), for 6 atoms",
    }
    impossible = {  # noqa: RUF012
        "permuted equal atoms": "there is no graph: bonds are where the atoms are near",
        "wrong charge": "the format says no charge; ions are rejected as no closed shell, tested below",
        "nan energy": "NaN says that the method was not applied; left out, tested below",
        "duplicated ids": "names of HDF5 groups are unique",
    }
    needed = "xyz"

    def samples(self):
        return neutral()

    def id_of(self, name):
        return f"{name}-0"

    def spoil(self, path, name):
        first, *others = self.samples()
        if name == "permuted atoms":  # there is no graph, so elements alone change places
            return self.rewrite(path, [replace(first, numbers=first.permuted().numbers), *others])
        if name == "nan coordinates":
            return self.rewrite(path, [replace(first, xyz=first.xyz * np.nan), *others])
        if name == "wrong shape":
            return self.rewrite(path, [replace(first, energy=first.energy[1:]), *others])
        return super().spoil(path, name)

    def test_whole_groups_without_the_array_of_elements(self, path):
        first, *others = self.samples()
        self.rewrite(path, [replace(first, numbers=None), *others])
        rejections = [r for r in self.open(path) if isinstance(r, Rejection)]
        assert [r.reason for r in rejections] == ["no atomic_numbers"]


class TestAni1x(Suite):
    filename = "ani1x-release.h5"
    names = {  # noqa: RUF012
        "numbers": "atomic_numbers", "coords": "coordinates", "energy": "wb97x_dz.energy", "forces": "wb97x_dz.forces",
    }  # fmt: skip

    def arrays(self, s):
        record = super().arrays(s)
        if s.xyz is not None:
            record["wb97x_dz.dipole"] = s.xyz[:, 0].astype(np.float32)
        record["ccsd(t)_cbs.energy"] = np.append(s.energy[:-1] / HARTREE - 1.0, np.nan)
        return record

    def test_dipoles(self, path):
        for record, s in zip(self.records(path), self.samples(), strict=True):
            np.testing.assert_allclose(record.conformers.dipole, s.xyz[:, 0], rtol=1e-6)

    def test_another_method_has_its_own_level_and_leaves_out_what_it_lacks(self, path):
        assert self.open(path, method="ccsd(t)_cbs").method == "ccsd(t)_cbs"
        records = self.records(path, method="ccsdt_cbs")
        for record, s in zip(records, self.samples(), strict=True):
            assert record.conformers.level == "CCSD(T)*/CBS"
            assert record.conformers.forces is record.conformers.dipole is None
            np.testing.assert_allclose(record.conformers.energy, s.energy[:-1] - HARTREE, rtol=1e-9)
            np.testing.assert_allclose(record.conformers.xyz, s.xyz[:-1], atol=1e-6)
        with pytest.raises(ReaderError, match=r"no energies of method 'mp2'; methods found: ccsd\(t\)_cbs, wb97x_dz"):
            self.open(path, method="mp2")

    def test_a_group_without_the_method_is_no_entry(self, path):
        with h5py.File(path, "a") as file:
            file["mol-0/ccsd(t)_cbs.energy"][...] = np.nan
        assert [r.id for r in self.open(path, method="ccsd(t)_cbs")] == ["mol-1-0", "mol-2-0", "mol-3-0", "mol-4-0"]


class TestPyanitools(Suite):
    """COMP6, whose `forces` are gradients."""

    filename = "ani_md_bench.h5"
    options = {"level": "wB97X/6-31G(d)", "gradients": True}  # noqa: RUF012
    names = {"coords": "coordinates", "energy": "energies", "gradient": "forces"}  # noqa: RUF012

    def arrays(self, s):
        record = super().arrays(s)
        if s.numbers is not None:
            record["species"] = [{1: "H", 6: "C", 7: "N", 8: "O", 16: "S"}[z] for z in s.numbers.tolist()]
        return {**record, "smiles": list(graph_of(s.smiles)[3])}

    def save(self, path, records, units=None):
        packer = pyanitools().datapacker(str(path))
        for name, record in records.items():
            packer.store_data(f"gdb11_s02/{name}", **record)
        packer.cleanup()
        if units:
            with h5py.File(path, "a") as file:
                for array, unit in units.items():
                    file[f"gdb11_s02/mol-0/{array}"].attrs["units"] = unit

    def read(self, path):
        loader = pyanitools().anidataloader(str(path))
        numbers = {"H": 1, "C": 6, "N": 7, "O": 8, "S": 16}
        read = []
        for data, s in zip(loader, self.samples(), strict=True):
            assert b"".join(data["smiles"]).decode() == graph_of(s.smiles)[3]
            read.append(
                Sample(
                    s.name,
                    s.smiles,
                    np.array([numbers[symbol.decode()] for symbol in data["species"]]),
                    0,
                    data["coordinates"].astype(float),
                    data["energies"] * HARTREE,
                    -data["forces"].astype(float) * HARTREE,
                    id=f"{data['path'].strip('/')}-0",
                )
            )
        loader.cleanup()
        return read

    def replace(self, path, **changes):
        """Puts other arrays into the first record."""
        first, *others = self.samples()
        path.unlink()
        self.save(path, {"mol-0": {**self.arrays(first), **changes}, **{s.name: self.arrays(s) for s in others}})

    def test_the_level_must_be_said(self, path):
        with pytest.raises(ReaderError, match=r"give reader\.level"):
            AniReader(path)

    def test_the_sign_of_the_forces_must_be_said(self, path):
        with pytest.raises(ReaderError, match=r"say reader\.gradients=true or false"):
            AniReader(path, level=self.level)
        forces = self.records(path, gradients=False)[0].conformers.forces
        np.testing.assert_array_equal(forces, -self.records(path)[0].conformers.forces)

    def test_the_smiles_must_be_that_of_the_bonds(self, path):
        self.replace(path, smiles=["C", "C"])
        (rejection,) = (r for r in self.open(path) if isinstance(r, Rejection))
        assert rejection.reason == "bonds differ from SMILES"
        assert "3 conformers have the bonds of CO, the file says CC" in rejection.message

    def test_forces_that_are_one_number(self, path):
        with h5py.File(path, "a") as file:
            del file["gdb11_s02/mol-0/forces"]
            file["gdb11_s02/mol-0/forces"] = 0.0
        (rejection,) = (r for r in self.open(path) if isinstance(r, Rejection))
        assert rejection.reason == "shapes disagree"

    def test_an_element_that_is_none(self, path):
        self.replace(path, species=["Xy"] * 6)
        (rejection,) = (r for r in self.open(path) if isinstance(r, Rejection))
        assert rejection.reason == "unknown element"


def write_formula(path, *parts):
    """A formula group with the frames of several samples in turn; atoms sorted by element."""
    parts = [(s, np.argsort(-s.numbers, kind="stable")) for s in parts]
    with h5py.File(path, "w") as file:
        group = file.create_group("formula")
        group["atomic_numbers"] = np.sort(parts[0][0].numbers)[::-1].astype(np.uint8)
        rows = sorted((k, p) for p, (s, _) in enumerate(parts) for k in range(len(s.xyz)))
        group["coordinates"] = np.stack([parts[p][0].xyz[k][parts[p][1]] for k, p in rows])
        group["wb97x_dz.energy"] = np.array([parts[p][0].energy[k] / HARTREE for k, p in rows])
        group["wb97x_dz.forces"] = np.stack([parts[p][0].forces[k][parts[p][1]] / HARTREE for k, p in rows])


def test_isomers_of_a_formula_are_records_of_their_own(tmp_path):
    ethanol, ether = sample("CCO", 4), sample("COC", 3, seed=1)
    write_formula(tmp_path / "a.h5", ethanol, ether)
    reader = AniReader(tmp_path / "a.h5")
    assert len(reader) == 2
    for record, s, name in zip(reader, (ethanol, ether), ("CCO", "COC"), strict=True):
        assert isinstance(record, Record)
        assert graph_of(record.molecule.smiles)[3] == name
        order = np.argsort(-s.numbers, kind="stable")
        np.testing.assert_allclose(record.conformers.xyz, s.xyz[:, order], atol=1e-9)
        np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=1e-9)
        np.testing.assert_allclose(record.conformers.forces, s.forces[:, order], atol=1e-9)
    assert [r.id for r in reader.entries(1)] == ["formula-1"]


def test_species_of_each_conformer(tmp_path):
    """ANI-2x: groups by number of atoms, elements a row a conformer."""
    ethanol, thiol = sample("CCO", 4), sample("CCS", 3, seed=1)
    assert len(thiol.numbers) == len(ethanol.numbers) == 9
    order = [(0, ethanol), (0, thiol), (1, ethanol), (2, ethanol), (1, thiol), (2, thiol), (3, ethanol)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("009")
        group["species"] = np.stack([s.numbers for _, s in order])
        group["coordinates"] = np.stack([s.xyz[k] for k, s in order])
        group["energies"] = np.array([s.energy[k] / HARTREE for k, s in order])
        group["forces"] = np.stack([s.forces[k] / HARTREE for k, s in order])
    reader = AniReader(tmp_path / "a.h5", level="wB97X/6-31G(d)", gradients=False)
    assert [r.id for r in reader] == ["009-0", "009-1"]
    for record, s in zip(reader, (ethanol, thiol), strict=True):
        assert graph_of(record.molecule.smiles) == graph_of(s.smiles)
        np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=1e-9)
        np.testing.assert_allclose(record.conformers.forces, s.forces, rtol=1e-9)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        species = file["009/species"][:-1]
        del file["009/species"]
        file["009/species"] = species
    (rejection,) = AniReader(tmp_path / "a.h5", level="wB97X/6-31G(d)", gradients=False)
    assert rejection.reason == "shapes disagree"


def test_ions_radicals_and_clusters_are_rejected_with_their_number_of_frames(tmp_path):
    def only(s, reason, message):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            group = file.create_group("x")
            group["atomic_numbers"], group["coordinates"] = s.numbers, s.xyz
            group["wb97x_dz.energy"] = s.energy
        (rejection,) = AniReader(tmp_path / "a.h5")
        assert isinstance(rejection, Rejection)
        assert (rejection.reason, message in rejection.message) == (reason, True), rejection

    ion = sample("C[NH3+]", 2)
    only(ion, "no closed shell", "(2 conformers)")
    methane = sample("C", 3)
    last = replace(methane, numbers=methane.numbers[:-1], xyz=methane.xyz[:, :-1])
    only(last, "no closed shell", "(3 conformers)")
    pair = replace(
        methane,
        numbers=np.tile(methane.numbers, 2),
        xyz=np.concatenate([methane.xyz, methane.xyz + np.array([5.0, 0.0, 0.0])], axis=1),
    )
    only(pair, "several fragments", "fragments of 5, 5 atoms; expected one molecule (3 conformers)")


def test_an_empty_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w"):
        pass
    with pytest.raises(ReaderError, match="nothing in it; expected groups with coordinates"):
        AniReader(tmp_path / "a.h5")


@pytest.mark.parametrize("number", [-6, 0, 119])
def test_atomic_numbers_that_no_element_has(tmp_path, number):
    path = tmp_path / "a.h5"
    write_formula(path, sample("CO", 3, 0))
    with h5py.File(path, "a") as file:
        file.copy("formula", "odd")
        del file["odd"]["atomic_numbers"]
        file["odd"]["atomic_numbers"] = np.array([number, 8, 1, 1, 1, 1])
    rejection, record = sorted(AniReader(path), key=lambda entry: isinstance(entry, Record))
    assert isinstance(record, Record)
    assert rejection.reason == "unknown element"
    assert f"odd: no element has the atomic number {number}" in rejection.message

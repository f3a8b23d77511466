"""Grappa's archives, as NumPy writes them."""

import numpy as np
import pytest

from espalike.data.readers.base import ReaderError
from espalike.data.readers.grappa import GrappaReader
from espalike.data.schema import Record
from tests.data.readers.suite import (
    KJ,
    Caught,
    Impossible,
    ReaderSuite,
    Sample,
    cut,
    empty,
    foreign,
    graph_of,
    sample,
)

LEVEL = "B3LYP-D3BJ/DZVP"


def write(path, s, **changes):
    charges = np.random.default_rng(0).normal(0, 0.2, len(s.numbers))
    arrays = {
        "xyz": s.xyz.astype(np.float32),
        "energy_qm": s.energy,
        "gradient_qm": -s.forces.astype(np.float32),
        "atomic_numbers": s.numbers,
        "mapped_smiles": np.array(s.smiles),
        "partial_charges": charges + (s.charge - charges.sum()) / len(charges),
        "mol_id": np.array(f"id of {s.name}"),
        **changes,
    }
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def edit(name, change=None):
    """Replaces an array of the first molecule by what `change` makes of it; None removes it."""

    def spoil(path):
        with np.load(path / "mol-0.npz") as archive:
            arrays = dict(archive)
        old = arrays.pop(name)
        if change:
            arrays[name] = change(old)
        np.savez(path / "mol-0.npz", **arrays)

    return spoil


def nan_at(index):
    def change(array):
        array[index] = np.nan
        return array

    return change


class TestGrappa(ReaderSuite):
    reader = GrappaReader
    config = "grappa"
    filename = "spice-des-monomers"
    level = LEVEL
    options = {"level": LEVEL}  # noqa: RUF012
    contradicting = Impossible("nothing in the files says a unit; the option replaces the format's")

    def write(self, path, samples):
        path.mkdir()
        for s in samples:
            write(path / f"{s.name}.npz", s)

    def read(self, path):
        found = []
        for file in sorted(path.iterdir()):
            with np.load(file) as a:
                charge = round(float(a["partial_charges"].sum()))
                xyz, gradient = a["xyz"].astype(float), a["gradient_qm"].astype(float)
                smiles, numbers, energy = str(a["mapped_smiles"]), a["atomic_numbers"], a["energy_qm"]
            found.append(Sample(file.stem, smiles, numbers, charge, xyz, energy, -gradient, id=file.stem))
        return found

    def corruptions(self):
        def first(change):
            return lambda path: change(path / "mol-0.npz")

        def permute(equal):
            return first(lambda path: write(path, self.samples()[0].permuted(equal)))

        no_units = "the archive says no units; they are the format's or the option's"
        return {
            "truncated": Caught(first(cut), r"mol-0\.npz: it is cut short or damaged; get the file again"),
            "empty": Caught(first(empty), r"mol-0\.npz: it is empty"),
            "foreign": Caught(first(foreign), r"mol-0\.npz: it is no NumPy archive"),
            "unit unknown": Impossible(no_units),
            "unit contradicts": Impossible(no_units),
            "permuted atoms": Caught(permute(False), r"mol-0: atom \d+ has atomic number \d, \d in the SMILES"),
            "permuted equal atoms": Caught(permute(True), "mol-0: no conformer is left.*bonds differ from the graph"),
            "wrong charge": Caught(edit("partial_charges", lambda q: q + 1 / len(q)), "charge 1, 0 in the SMILES"),
            "nan energy": Caught(edit("energy_qm", nan_at(1)), "mol-0: energies hold NaN"),
            "nan forces": Caught(edit("gradient_qm", nan_at((1, 2, 0))), "mol-0: forces hold NaN"),
            "nan coordinates": Caught(edit("xyz", nan_at((0, 0, 0))), "mol-0: coordinates hold NaN"),
            "duplicated ids": Impossible("names of files are unique"),
            "missing array": Caught(edit("energy_qm"), r"array 'energy_qm' is missing; .* reader\.keys\.energy"),
            "wrong shape": Caught(
                edit("gradient_qm", lambda g: g[:, 1:]), r"forces have shape \(3, 5, 3\), expected \(3, 6, 3\)"
            ),
        }


def test_other_names_and_units(tmp_path):
    s = sample("CO")
    changes = {"energy_qm": None, "gradient_qm": None, "energy_ref": s.energy / KJ, "gradient_ref": -s.forces / KJ}
    write(tmp_path / "a.npz", s, **changes)
    options = {"level": LEVEL, "units": "energies kJ/mol; forces kJ/mol/angstrom"}
    (found,) = GrappaReader(tmp_path / "a.npz", **options)
    assert (found.reason, "energy_ref" in found.message) == ("no energy", True)
    keys = {"energy": "energy_ref", "gradient": "gradient_ref"}
    (record,) = GrappaReader(tmp_path / "a.npz", keys=keys, **options)
    np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=1e-9)
    np.testing.assert_allclose(record.conformers.forces, s.forces, rtol=1e-9)
    with pytest.raises(ReaderError, match=r"reader\.keys names energies; known: xyz, energy"):
        GrappaReader(tmp_path / "a.npz", level=LEVEL, keys={"energies": "e"})
    with pytest.raises(ReaderError, match=r"give reader\.level"):
        GrappaReader(tmp_path / "a.npz")


def test_charges_become_references(tmp_path):
    s = sample("C[NH3+]")
    write(tmp_path / "a.npz", s)
    (record,) = GrappaReader(tmp_path / "a.npz", level=LEVEL, charges=True)
    assert record.ref_charge.sum() == pytest.approx(1.0)
    assert record.molecule.name == "id of mol-0"
    (record,) = GrappaReader(tmp_path / "a.npz", level=LEVEL)
    assert record.ref_charge is None


@pytest.mark.parametrize("smiles", ["CO", "C[NH3+]", "CC(=O)[O-]"])
def test_without_smiles_bonds_are_perceived_at_the_charge_of_the_partial_charges(tmp_path, smiles):
    s = sample(smiles)
    write(tmp_path / "a.npz", s, mapped_smiles=None, gradient_qm=None, mol_id=None)
    (record,) = GrappaReader(tmp_path / "a.npz", level=LEVEL)
    assert isinstance(record, Record)
    assert graph_of(record.molecule.smiles) == graph_of(s.smiles)
    assert record.conformers.forces is None
    assert record.molecule.name == "a"
    write(tmp_path / "a.npz", s, mapped_smiles=None, partial_charges=np.ones(len(s.numbers)))
    (found,) = GrappaReader(tmp_path / "a.npz", level=LEVEL)
    assert found.reason == "no closed shell"

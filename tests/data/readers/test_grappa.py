"""Grappa's archives, as NumPy writes them."""

import numpy as np
import pytest

from espalike.data.readers.base import ReaderError
from espalike.data.readers.grappa import GrappaReader
from espalike.data.schema import Record
from tests.data.readers.arrays_suite import ArraysSuite
from tests.data.readers.samples import KJ, graph_of, sample

LEVEL = "B3LYP-D3BJ/DZVP"
NO_UNITS = "the archive says no units; they are the format's or the option's"


class TestGrappa(ArraysSuite):
    reader = GrappaReader
    config = "grappa"
    filename = "spice-des-monomers"
    first_file = "mol-0.npz"
    level = LEVEL
    options = {"level": LEVEL}  # noqa: RUF012
    contradicting = None
    names = {  # noqa: RUF012
        "coords": "xyz", "energy": "energy_qm", "gradient": "gradient_qm", "numbers": "atomic_numbers",
        "smiles": "mapped_smiles",
    }  # fmt: skip
    single = ("coords", "gradient")
    refused = ()
    says = {  # noqa: RUF012
        "truncated": r"mol-0\.npz: it is cut short or damaged; get the file again",
        "empty": r"mol-0\.npz: it is empty",
        "foreign": r"mol-0\.npz: it is not a NumPy archive",
        "missing array": r"array 'energy_qm' is missing; .* 'reader\.keys={energy: NAME}'",
    }
    impossible = {  # noqa: RUF012
        "unit unknown": NO_UNITS,
        "unit contradicts": NO_UNITS,
        "duplicated ids": "names of files are unique",
    }

    def arrays(self, s):
        charges = np.random.default_rng(0).normal(0, 0.2, len(s.numbers))
        charges += (s.charge - charges.sum()) / len(charges)
        return {**super().arrays(s), "partial_charges": charges, "mol_id": f"id of {s.name}"}

    def charge_of(self, record, s):
        return round(float(record["partial_charges"].sum()))


def write(path, s, **changes):
    arrays = {**TestGrappa().arrays(s), **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


def test_other_names_and_units(tmp_path):
    s = sample("CO")
    changes = {"energy_qm": None, "gradient_qm": None, "energy_ref": s.energy / KJ, "gradient_ref": -s.forces / KJ}
    write(tmp_path / "a.npz", s, **changes)
    options = {"level": LEVEL, "units": "energies kJ/mol; forces kJ/mol/angstrom"}
    (rejection,) = GrappaReader(tmp_path / "a.npz", **options)
    assert (rejection.reason, "energy_ref" in rejection.message) == ("no energies", True)
    for keys in (
        {"energy": "energy_ref", "gradient": "gradient_ref"},
        {"xyz": "xyz", "energy": "energy_ref", "gradient": None},
    ):
        (record,) = GrappaReader(tmp_path / "a.npz", keys=keys, **options)
        np.testing.assert_allclose(record.conformers.energy, s.energy, rtol=1e-9)
        if keys.get("gradient"):
            np.testing.assert_allclose(record.conformers.forces, s.forces, rtol=1e-9)
    with pytest.raises(ReaderError, match=r"reader\.keys names energies; known: coords, energy"):
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
    (rejection,) = GrappaReader(tmp_path / "a.npz", level=LEVEL)
    assert rejection.reason == "no closed shell"

"""SDF with energies in data fields, written and read by RDKit, through the suite of all readers."""

import re
from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem, rdDepictor

from espalike.data.readers.base import ReaderError
from espalike.data.readers.sdf import SdfReader
from espalike.data.schema import Rejection
from tests.data.readers.samples import BOHR, DEBYE, HARTREE, Sample, rdkit_of, sample
from tests.data.readers.suite import ReaderSuite

OPTIONS = {
    "level": "B3LYP-D3BJ/DZVP",
    "energy": "Energy [hartree]",
    "forces": "Forces",
    "charge": "Charge",
    "units": "forces hartree/bohr",
}


def write(path, samples, titles=None, v3000=False):
    with Chem.SDWriter(str(path)) as writer:
        writer.SetForceV3000(v3000)
        for s in samples:
            mol = rdkit_of(s.smiles)
            for k, xyz in enumerate(s.xyz):
                conformer = Chem.Conformer(len(xyz))
                conformer.SetPositions(np.ascontiguousarray(xyz))
                mol.RemoveAllConformers()
                mol.AddConformer(conformer)
                mol.SetProp("_Name", s.name if titles is None else titles(s, k))
                mol.SetProp("Energy [hartree]", repr(float(s.energy[k] / HARTREE)))
                mol.SetIntProp("Charge", s.charge)
                if s.forces is not None:
                    mol.SetProp("Forces", " ".join(map(repr, (s.forces[k] / (HARTREE / BOHR)).ravel().tolist())))
                writer.write(mol)
    return path


def rounded(s):
    """The sample at coordinates of four decimals, by the springs that its forces show."""
    moved = s.xyz.round(4) - s.xyz
    if len(s.xyz) == 1:
        return replace(s, xyz=s.xyz.round(4))
    spring = (s.forces[0] - s.forces[1]) / (s.xyz[1] - s.xyz[0])
    return replace(
        s,
        xyz=s.xyz.round(4),
        energy=s.energy - (s.forces * moved).sum((1, 2)) + 0.5 * (spring * moved**2).sum((1, 2)),
        forces=s.forces - spring * moved,
    )


def edit(pattern, text, count=1):
    """Replaces the first matches in the file."""

    def spoil(path):
        before = path.read_text()
        after = re.sub(pattern, text, before, count=count)
        assert after != before
        path.write_text(after)

    return spoil


class TestSdf(ReaderSuite):
    reader = SdfReader
    config = "sdf"
    filename = "set.sdf"
    level = "B3LYP-D3BJ/DZVP"
    options = OPTIONS
    refused = ("empty", "foreign")
    says = {  # noqa: RUF012
        "truncated": "the last record does not end in",
        "empty": "set.sdf: nothing in it",
        "foreign": "set.sdf: not an SDF",
        "permuted equal atoms": "mol-0: no conformer is left; the last 1: bonds differ",
        "permuted atoms": "mol-0: no conformer is left.*bonds differ from the graph",
        "wrong charge": "mol-0: field 'Charge' says 1, the structure 0",
        "nan coordinates": "not a readable MOL record",
        "missing array": "mol-0: no data field 'Energy .hartree.'",
        "wrong shape": "'Forces' holds 17 numbers, expected 18",
    }
    impossible = dict.fromkeys(
        ("unit unknown", "unit contradicts"),
        "the field's name is an option, with its unit: test_unit_in_the_field_name",
    )

    def samples(self):
        """Coordinates of an SDF have four decimals: energies and forces are made to be those of the rounded ones.

        A record of the file that cannot be read at all leaves the others; so the first molecule has only one.
        """
        first, *others = [rounded(s) for s in super().samples()]
        return [replace(first, xyz=first.xyz[:1], energy=first.energy[:1], forces=first.forces[:1]), *others]

    def write(self, path, samples):
        write(path, samples)

    def read(self, path):
        results: dict[str, list[Chem.Mol]] = {}
        for mol in Chem.SDMolSupplier(str(path), removeHs=False):
            results.setdefault(mol.GetProp("_Name"), []).append(mol)
        result = []
        for name, mols in results.items():
            mol = Chem.Mol(mols[0])
            for atom in mol.GetAtoms():
                atom.SetAtomMapNum(atom.GetIdx() + 1)
            forces = [np.array(m.GetProp("Forces").split(), float).reshape(-1, 3) for m in mols]
            result.append(
                Sample(
                    name,
                    Chem.MolToSmiles(mol),
                    np.array([a.GetAtomicNum() for a in mol.GetAtoms()]),
                    Chem.GetFormalCharge(mol),
                    np.stack([m.GetConformer().GetPositions() for m in mols]),
                    np.array([m.GetDoubleProp("Energy [hartree]") for m in mols]) * HARTREE,
                    np.stack(forces) * (HARTREE / BOHR),
                    id=name,
                )
            )
        return result

    def spoil(self, path, name):
        edits = {
            "wrong charge": (r"(<Charge>.*\n)0", r"\g<1>1"),
            "nan coordinates": (r"-?\d+\.\d{4}", "    nan"),
            "missing array": (r">  <Energy.*\n.*\n\n", ""),
            "wrong shape": (r"(<Forces>.*\n)\S+", r"\g<1>"),
        }
        first, *others = self.samples()
        if name.startswith("permuted"):  # rows of coordinates, the connection table is as it was
            self.rewrite(path, [first.permuted("equal" in name, numbers=False), *others])
        elif name in edits:
            edit(*edits[name])(path)
        else:
            super().spoil(path, name)


def test_unit_in_the_field_name(tmp_path):
    path = write(tmp_path / "a.sdf", [sample("CO")])
    assert len(list(SdfReader(path, **OPTIONS))) == 1
    with pytest.raises(ReaderError, match="energies are in unit 'furlong'"):
        SdfReader(path, energy="Energy [furlong]")
    with pytest.raises(ReaderError, match=r"energies are in 'hartree', but the option units says 'ev'"):
        SdfReader(path, energy="Energy [hartree]", units="energies ev")
    with pytest.raises(ReaderError, match="nothing says the unit of 'forces'"):
        list(SdfReader(path, **{**OPTIONS, "units": None}))


@pytest.mark.parametrize("v3000", [False, True])
def test_conformers_of_the_same_molecule_are_one_record_whatever_their_titles(tmp_path, v3000):
    s = sample("CC(=O)[O-]", 4)
    path = write(tmp_path / "a.sdf", [s], titles=lambda s, k: f"{s.name} conformer {k}", v3000=v3000)
    (record,) = SdfReader(path, **OPTIONS)
    assert record.id == "mol-0 conformer 0"
    np.testing.assert_allclose(record.conformers.xyz, s.xyz, atol=6e-5)
    np.testing.assert_allclose(record.conformers.forces, s.forces, atol=1e-9)


def test_stereoisomers_one_after_the_other_are_not_mixed(tmp_path):
    left, right = sample("C[C@H](N)O"), sample("C[C@@H](N)O")
    results = list(SdfReader(write(tmp_path / "a.sdf", [left, replace(right, name="other")]), **OPTIONS))
    assert [len(r.conformers.xyz) for r in results] == [3, 3]
    assert results[0].molecule.smiles != results[1].molecule.smiles
    assert results[0].key == results[1].key


def test_names_from_a_field_and_names_where_there_are_none(tmp_path):
    a, b = sample("CO"), sample("CCO")
    path = write(tmp_path / "a.sdf", [a, b], titles=lambda s, k: "")
    assert [r.id for r in SdfReader(path, **OPTIONS)] == ["a-1", "a-2"]
    assert [r.id for r in SdfReader(path, **OPTIONS, name="Charge")] == ["0", "0"]
    assert isinstance(list(SdfReader(path, **OPTIONS, name="Charge"))[1], Rejection)


@pytest.mark.parametrize(
    ("flat", "hydrogens", "message"),
    [(True, True, "a drawing in two dimensions"), (False, False, "hydrogens are missing")],
)
def test_drawings_and_missing_hydrogens_are_refused(tmp_path, flat, hydrogens, message):
    mol = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    if flat:
        rdDepictor.Compute2DCoords(mol)
    else:
        AllChem.EmbedMolecule(mol, randomSeed=1)
    mol = mol if hydrogens else Chem.RemoveHs(mol)
    mol.SetProp("energy", "1.0")
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        writer.write(mol)
    (results,) = SdfReader(tmp_path / "a.sdf", level="HF/STO-3G", units="energies hartree")
    assert message in results.message


def test_wrong_charge_in_the_structure_is_a_radical(tmp_path):
    path = write(tmp_path / "a.sdf", [sample("C[NH3+]")])
    edit(r"M  CHG.*\n", "", 3)(path)
    results = list(SdfReader(path, **OPTIONS))
    assert {r.reason for r in results} == {"chemistry"}
    assert "more bonds than its valence allows" in results[0].message


def test_dipoles(tmp_path):
    mol = rdkit_of(sample("CO").smiles)
    conformer = Chem.Conformer(6)
    conformer.SetPositions(np.ascontiguousarray(sample("CO").xyz[0]))
    mol.AddConformer(conformer)
    mol.SetProp("energy", "-115.5")
    mol.SetProp("dipole (debye)", "1.0, 2.0, -3.0")
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        writer.write(mol)
    options = {"dipole": "dipole (debye)", "units": "energies hartree", "level": "HF/STO-3G"}
    (record,) = SdfReader(tmp_path / "a.sdf", **options)
    np.testing.assert_allclose(record.conformers.dipole, np.array([[1.0, 2.0, -3.0]]) * DEBYE)


def test_forces_are_not_lost_and_gradients_read_as_such(tmp_path):
    s = rounded(sample("CO"))
    write(tmp_path / "a.sdf", [s])
    options = {**OPTIONS, "forces": None}
    (rejection,) = SdfReader(tmp_path / "a.sdf", **options)
    assert rejection.reason == "forces not read"
    assert "Forces would not be read" in rejection.message
    (record,) = SdfReader(tmp_path / "a.sdf", **{**OPTIONS, "forces": False})
    assert record.conformers.forces is None
    (record,) = SdfReader(tmp_path / "a.sdf", gradient="Forces", **options)
    np.testing.assert_allclose(record.conformers.forces, -s.forces, atol=1e-9)

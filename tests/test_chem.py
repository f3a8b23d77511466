"""Molecules from SMILES, files, RDKit and OpenFF, and back; messages about bad ones say what is wrong and where."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom

from espalike import chem
from espalike.chem.molecule import Molecule
from tests.molecules import DRUGLIKE, SMALL

SHARED = Path(__file__).parents[2] / "shared" / "data"


def geometry(smiles, hydrogens=True, flat=False, name=""):
    mol = Chem.MolFromSmiles(smiles)
    mol = Chem.AddHs(mol) if hydrogens else mol
    if flat:
        rdDepictor.Compute2DCoords(mol)
    else:
        assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    mol.SetProp("_Name", name)
    return mol


def write_sdf(path, *blocks):
    path.write_text("".join(b if isinstance(b, str) else Chem.MolToMolBlock(b) + "$$$$\n" for b in blocks))
    return path


def entries(path, **options):
    return list(chem.read_molecules(path, **options))


def same(first, second):
    names = ("numbers", "charges", "bonds", "orders")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in names)


@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_smiles_round_trip(smiles):
    molecule = chem.from_smiles(smiles)
    assert same(molecule, chem.from_smiles(molecule.smiles))
    mol = chem.to_rdkit(molecule)
    assert same(molecule, chem.from_rdkit(mol))
    expected = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert [a.GetAtomicNum() for a in expected.GetAtoms()] == molecule.numbers.tolist()  # the SMILES' order
    assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == Chem.MolToSmiles(Chem.RemoveHs(expected))  # stereo included
    assert molecule.net_charge == Chem.GetFormalCharge(expected)
    assert (molecule.bonds[:, 0] < molecule.bonds[:, 1]).all()
    assert molecule.bonds.dtype == molecule.orders.dtype == molecule.numbers.dtype == np.int64
    assert molecule.bonds.shape == (len(molecule.orders), 2)


def test_map_numbers_give_the_order():
    molecule = chem.from_smiles("[H:2][O:3][H:1]", "water")
    assert molecule.numbers.tolist() == [1, 1, 8]
    assert molecule.bonds.tolist() == [[0, 2], [1, 2]]
    assert molecule.name == "water"


class TestCoordinatesThatCannotBeMeant:
    @pytest.mark.parametrize("change", ["zero", "equal", "nanometres", "hydrogens at the origin", "picometres", "nan"])
    def test_they_are_not_used(self, tmp_path, change):
        molecule = chem.from_smiles("C[C@H](N)C(=O)O", "alanine")
        xyz = chem.embed(molecule)[0]
        mol = chem.to_rdkit(molecule, xyz)
        odd = {
            "zero": 0.0 * xyz,
            "equal": 0.0 * xyz + 3.0,
            "nanometres": xyz / 10.0,
            "picometres": xyz * 100.0,
            "hydrogens at the origin": np.where(molecule.numbers[:, None] == 1, 0.0, xyz),
            "nan": np.where(np.arange(molecule.n_atoms)[:, None] == 3, np.nan, xyz),
        }[change]
        mol.GetConformer().SetPositions(np.ascontiguousarray(odd))
        (tmp_path / "a.sdf").write_text(Chem.MolToMolBlock(mol) + "$$$$\n")
        (entry,) = chem.read_molecules(tmp_path / "a.sdf")
        if change == "nan" and entry.molecule is None:
            assert "a.sdf, record 1 (alanine): not a readable MOL record" in entry.error
            return
        assert entry.molecule is not None
        assert entry.xyz is None
        assert any("coordinates of the input are not used" in note for note in entry.notes)

    def test_others_are(self, tmp_path):
        for smiles in [*DRUGLIKE[::6], "[Na+]", "[H][H]", "II"]:
            molecule = chem.from_smiles(smiles, "m")
            xyz = chem.embed(molecule)[0]
            Chem.MolToMolFile(chem.to_rdkit(molecule, xyz), str(tmp_path / "m.sdf"))
            (entry,) = chem.read_molecules(tmp_path / "m.sdf")
            np.testing.assert_allclose(entry.xyz, xyz, atol=1e-4)


class TestIsotopes:
    def test_the_graph_is_that_of_the_elements(self):
        heavy, light = chem.from_smiles("[2H]C", "methane"), chem.from_smiles("[H]C", "methane")
        assert np.array_equal(heavy.numbers, light.numbers)
        assert np.array_equal(heavy.bonds, light.bonds)
        assert chem.connectivity_key(heavy) == chem.connectivity_key(light)
        assert heavy.isotopes.tolist() == [2, 0, 0, 0, 0]
        assert not light.isotopes.any()

    @pytest.mark.parametrize(
        "smiles",
        ["[2H][C@H](C)O", "[2H][C@@H](C)O", "[2H]/C=C/C", "[2H]/C=C\\C", "C/C=C(/C)[13CH3]", "C[S@](=[18O])(=O)CC"],
    )
    def test_stereo_that_only_they_make(self, smiles, tmp_path):
        """It is kept, in coordinates and files, too; the molecule without isotopes has none."""
        molecule = chem.from_smiles(smiles)
        mol = chem.to_rdkit(molecule, chem.embed(molecule)[0])
        Chem.MolToMolFile(mol, str(tmp_path / "m.sdf"))
        Chem.AssignStereochemistryFrom3D(mol)
        read = chem.to_rdkit(chem.from_file(tmp_path / "m.sdf"))
        isomers = {Chem.MolToSmiles(Chem.RemoveHs(one)) for one in (mol, read, chem.to_rdkit(molecule))}
        assert isomers == {Chem.CanonSmiles(smiles)}
        assert not set("@/") & set(Chem.MolToSmiles(chem.to_rdkit(molecule, isotopes=False)))

    def test_a_pdb_of_another_isomer_than_the_smiles(self, tmp_path):
        molecule = chem.from_smiles("[2H][C@H](C)O")
        mol = chem.to_rdkit(molecule, chem.embed(molecule)[0])
        (tmp_path / "m.pdb").write_text(Chem.MolToPDBBlock(mol))
        notes = [next(chem.read_molecules(tmp_path / "m.pdb", s)).notes for s in ("[2H][C@H](C)O", "[2H][C@@H](C)O")]
        assert notes[0] == ()
        assert "it is the former" in notes[1][0]

    def test_masses(self):
        molecule = chem.from_smiles("[13CH3][18O][2H]", "methanol")
        assert molecule.isotopes.tolist() == [13, 18, 2, 0, 0, 0]
        expected = [13.00335, 17.99916, 2.01410, 1.008, 1.008, 1.008]
        assert molecule.masses() == pytest.approx(expected, abs=1e-5)

    def test_round_trips(self, tmp_path):
        molecule = chem.from_smiles("[2H:3][O:1][H:2]", "water")
        assert chem.from_smiles(molecule.smiles).isotopes.tolist() == [0, 0, 2]
        mol = chem.to_rdkit(molecule, chem.embed(molecule)[0])
        assert chem.from_rdkit(mol).isotopes.tolist() == [0, 0, 2]
        Chem.MolToMolFile(mol, str(tmp_path / "water.sdf"))
        assert chem.from_file(tmp_path / "water.sdf").isotopes.tolist() == [0, 0, 2]
        assert not any(atom.GetIsotope() for atom in chem.to_rdkit(molecule, isotopes=False).GetAtoms())

    def test_pdb(self, tmp_path):
        """Of the file, which names deuterium, and of the SMILES."""
        molecule = chem.from_smiles("[2H]OC", "methanol")
        block = Chem.MolToPDBBlock(chem.to_rdkit(molecule, chem.embed(molecule)[0]))
        (tmp_path / "m.pdb").write_text(block)
        assert chem.from_file(tmp_path / "m.pdb", "[2H]O[13CH3]").isotopes.tolist() == [2, 0, 13, 0, 0, 0]

    def test_unknown(self):
        with pytest.raises(chem.ChemistryError, match="ethane: atom 2 is C of mass number 99; no such isotope"):
            chem.from_smiles("C[99CH3]", "ethane")


@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_embedding(smiles):
    molecule = chem.from_smiles(smiles)
    xyz = chem.embed(molecule, n=2, seed=3)
    assert xyz.shape == (2, molecule.n_atoms, 3)
    assert np.isfinite(xyz).all()
    assert np.array_equal(xyz, chem.embed(molecule, n=2, seed=3))
    lengths = np.linalg.norm(xyz[:, molecule.bonds[:, 0]] - xyz[:, molecule.bonds[:, 1]], axis=-1)
    assert ((lengths > 0.6) & (lengths < 3.0)).all()


def test_to_rdkit_takes_coordinates():
    molecule = chem.from_smiles("CO")
    xyz = chem.embed(molecule)[0]
    assert np.array_equal(chem.to_rdkit(molecule, xyz).GetConformer().GetPositions(), xyz)
    with pytest.raises(chem.ChemistryError, match=r"CO: expected coordinates of shape \(6, 3\), got \(5, 3\)"):
        chem.to_rdkit(molecule, xyz[:5])


def test_connectivity_key():
    key = chem.connectivity_key
    one, two = chem.from_smiles("C[C@H](N)C(=O)O"), chem.from_smiles("OC(=O)[C@@H](C)N")
    assert key(one) == key(two) == "QNAYBMKLOCPYGJ"  # alanine, as public databases have it
    assert key(chem.from_smiles("C/C=C/C")) == key(chem.from_smiles("C/C=C\\C"))
    assert key(chem.from_smiles("CCO")) != key(chem.from_smiles("COC"))
    keys = [key(chem.from_smiles(smiles)) for smiles in DRUGLIKE + SMALL]
    assert all(len(k) == 14 and k.isalnum() and k.isupper() for k in keys)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data")
def test_keys_and_order_of_public_data():
    import h5py

    with h5py.File(SHARED / "openff_torsiondrives_forces.h5") as file:
        for name in list(file)[::10]:
            group = file[name]
            molecule = chem.from_smiles(group.attrs["smiles"])
            assert molecule.numbers.tolist() == group["atomic_numbers"][:].tolist()
            assert molecule.net_charge == group.attrs["charge"]
            assert chem.connectivity_key(molecule) == group.attrs["connectivity_key"]


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("C1CC", r"X: 'C1CC' is not a valid SMILES"),
        ("", r"X: '' is not a valid SMILES"),
        ("c1ccc1c", "X: not a valid structure .*aromatic"),
        ("CN(C)(C)(C)C", r"X: atom 2 \(N\) has more bonds than its valence allows"),
        ("C[CH2]", r"X: atom 2 \(C\) has 1 unpaired electron.*radicals are not supported"),
        ("[O][O]", "radicals are not supported"),
        ("CCO.O", "X: 2 disconnected fragments of 9, 3 atoms; expected one molecule"),
        ("F[H-]F", r"X: atom 2 \(H\) has 2 bonds; expected one. Remove the hydrogen bond"),
        ("CC(:O)N", "X: bond 2-3 is aromatic, but not in an aromatic ring; draw it as a single or double bond"),
        ("CC(:[O-]):O", "X: bond 2-3 is aromatic, but not in an aromatic ring"),
        ("[Na+].[Cl-]", "X: 2 disconnected fragments of 1, 1 atoms"),
        ("C[Se]C", "X: atom 2 is Se; supported are H B C"),
        ("*C", "X: atom 1 is no element"),
        ("C[Mg]Br", r"X: atom 2 is Mg with charge \+0 and 2 bonds; it is supported as a free ion of charge \+2 only"),
        ("[Na]", r"X: atom 1 is Na with charge \+0 and 0 bonds"),
        ("[NH3]->[BH3]", "X: bond 1-2 is of type dative"),
        ("[CH3:1][OH:2]", r"X: a mapped SMILES must number every atom.*got \[1, 2\] and implicit hydrogens"),
        (
            "[H:1][O:2][H:2]",
            r"X: a mapped SMILES must number every atom, hydrogens included, 1…3 once; got \[1, 2, 2\]",
        ),
    ],
)
def test_bad_smiles(smiles, message, capfd):
    with pytest.raises(chem.ChemistryError, match=message):
        chem.from_smiles(smiles, "X")
    assert capfd.readouterr().err == ""  # RDKit says nothing beside


def test_rdkit_molecule_without_hydrogens():
    mol = Chem.MolFromSmiles("CCO")
    with pytest.raises(chem.ChemistryError, match=r"hydrogens are missing .6 of them, first on atom 1.*AddHs"):
        chem.from_rdkit(mol)
    with pytest.raises(chem.ChemistryError, match="no atoms"):
        chem.from_rdkit(Chem.Mol())
    assert [a.GetAtomMapNum() for a in mol.GetAtoms()] == [0, 0, 0]


def test_openff_molecule():
    class Duck:  # the two members that are used
        n_atoms, name = 3, "mickey"

        def to_smiles(self, isomeric, explicit_hydrogens, mapped):
            assert isomeric
            assert explicit_hydrogens
            assert mapped
            return "[H:2][O:1][H:3]"

    molecule = chem.from_openff(Duck())
    assert molecule.numbers.tolist() == [8, 1, 1]
    assert molecule.name == "mickey"
    with pytest.raises(TypeError, match="expected an OpenFF Molecule, got str"):
        chem.from_openff("water")


@pytest.mark.skipif(importlib.util.find_spec("openff") is None, reason="needs the extra openff")
def test_openff_molecule_of_the_toolkit():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the toolkit's own
        from openff.toolkit import Molecule as OpenFFMolecule

        for smiles in DRUGLIKE[::8]:
            theirs = OpenFFMolecule.from_smiles(smiles, allow_undefined_stereo=True)
            ours = chem.from_openff(theirs)
            assert ours.numbers.tolist() == [atom.atomic_number for atom in theirs.atoms]
            assert {tuple(sorted((b.atom1_index, b.atom2_index))) for b in theirs.bonds} == set(
                map(tuple, ours.bonds.tolist())
            )
            assert same(ours, chem.from_rdkit(theirs.to_rdkit()))


def test_sdf_of_good_and_bad_records(tmp_path):
    good = [geometry("CC(=O)[O-]", name="acetate"), geometry("O"), geometry("C[C@H](F)O", flat=True)]
    garbage = "broken\n  nobody\n\n  9  9 nothing\n$$$$\n"
    version = Chem.MolToMolBlock(geometry("C")).replace("V2000", "V9000") + "$$$$\n"
    text = Chem.MolToMolBlock(geometry("C")).replace("\n", "\r\n") + "$$$$\r\n"
    path = tmp_path / "mixed.sdf"
    path.write_bytes(write_sdf(path, good[0], garbage, good[1], version, good[2]).read_bytes() + text.encode())
    records = entries(path)
    assert [e.name for e in records] == ["acetate", "broken", "mixed-3", "mixed-4", "mixed-5", "mixed-6"]
    assert [e.error is None for e in records] == [True, False, True, False, True, True]
    assert "mixed.sdf, record 2 (broken): not a readable MOL record" in records[1].error
    assert "mixed.sdf, record 4: not a readable MOL record" in records[3].error
    assert np.allclose(records[0].xyz, good[0].GetConformer().GetPositions(), atol=1e-4)
    assert records[0].molecule.net_charge == -1
    assert records[4].xyz is None  # a drawing has no geometry
    assert "@" in records[4].molecule.smiles  # but wedges
    assert records[4].notes == ()


@pytest.mark.parametrize(
    ("mol", "message"),
    [
        (geometry("CCO", hydrogens=False), "hydrogens are missing"),
        (geometry("[CH3]"), "radicals are not supported"),
        (geometry("CO.O"), "2 disconnected fragments"),
        (geometry("C[Se]C"), "atom 2 is Se"),
    ],
)
def test_bad_sdf_record(tmp_path, mol, message, capfd):
    path = write_sdf(tmp_path / "x.sdf", mol)
    (entry,) = entries(path)
    assert entry.molecule is None
    assert entry.error.startswith(f"{path}, record 1: ")
    assert message in entry.error
    with pytest.raises(chem.ChemistryError, match=message):
        chem.from_file(path)
    assert capfd.readouterr().err == ""


def test_undefined_stereo_is_accepted_and_noted(tmp_path):
    flat = geometry("CC(F)C=CC", flat=True)
    for bond in flat.GetBonds():
        if bond.GetBondTypeAsDouble() == 2:
            bond.SetStereo(Chem.BondStereo.STEREOANY)
    (entry,) = entries(write_sdf(tmp_path / "x.sdf", flat))
    assert entry.molecule is not None
    assert entry.notes == ("undefined stereo: 1 atom, 1 double bond; parameters do not depend on it",)
    assert entries("CC(F)Cl")[0].notes == ("undefined stereo: 1 atom, 0 double bonds; parameters do not depend on it",)
    assert entries("C[C@H](F)Cl")[0].notes == ()


def canonical(molecule):
    return Chem.MolToSmiles(Chem.RemoveHs(chem.to_rdkit(molecule)))


@pytest.mark.parametrize(
    "smiles", ["C/C=C/C", "C/C=C\\C", "F/C=C/[C@H](C)O", "C/C(=N/O)c1ccccc1", "C[C@H]1CC[C@@H](O)CC1"]
)
def test_stereo_of_a_drawing(tmp_path, smiles):
    (entry,) = entries(write_sdf(tmp_path / "x.sdf", geometry(smiles, flat=True)))
    assert canonical(entry.molecule) == Chem.CanonSmiles(smiles)
    assert entry.notes == ()


def test_a_record_is_parsed_and_sanitized_once(tmp_path, monkeypatch):
    path, calls = write_sdf(tmp_path / "x.sdf", geometry("C[C@H](F)/C=C/C")), []
    for name in ("SDMolSupplier", "SanitizeMol", "MolFromSmiles"):
        original = getattr(Chem, name)
        monkeypatch.setattr(Chem, name, lambda *a, f=original, n=name, **k: calls.append(n) or f(*a, **k))
    assert chem.from_file(path).n_atoms == 15
    assert calls == ["SDMolSupplier", "SanitizeMol"]


@pytest.mark.parametrize(
    "smiles", ["C[C@H](F)/C=C/C", "C[P@](CC)[C@H](C)/C=C/F", "C[P@@](CC)[C@H](C)/C=C/F", "CP(C)CC", "C[P@@](=O)(CC)O"]
)
def test_stereo_is_read_off_coordinates(tmp_path, smiles):
    (entry,) = entries(write_sdf(tmp_path / "x.sdf", geometry(smiles)))
    assert canonical(entry.molecule) == Chem.CanonSmiles(smiles)
    assert entry.notes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "the file is empty"), (b"\n \n", "the file is empty"), (b"\x1f\x8b\x00\x01", "is compressed; unpack it")],
)
@pytest.mark.parametrize("suffix", ["sdf", "mol", "mol2", "pdb", "smi"])
def test_unusable_files(tmp_path, content, message, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(content)
    with pytest.raises(chem.ChemistryError, match=f"x.{suffix}: {message}"):
        entries(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(chem.ChemistryError, match=r"no\.sdf: no such file"):
        entries(tmp_path / "no.sdf")
    with pytest.raises(chem.ChemistryError, match=r"no\.sdf: no such file"):
        chem.from_file(tmp_path / "no.sdf")
    (tmp_path / "x.xyz").write_text("1\n\nH 0 0 0\n")
    with pytest.raises(chem.ChemistryError, match=r"x\.xyz: unknown kind of file; expected one of \.sdf .* Convert"):
        entries(tmp_path / "x.xyz")
    (tmp_path / "d.sdf").mkdir()
    with pytest.raises(chem.ChemistryError, match=r"d\.sdf: cannot be read"):
        entries(tmp_path / "d.sdf")
    (tmp_path / "x.mol2").write_text("nothing\n")
    with pytest.raises(chem.ChemistryError, match=r"x\.mol2: holds no molecule"):
        entries(tmp_path / "x.mol2")
    (tmp_path / "x.sdf").write_text("not an SDF\n")
    assert "record 1 (not an SDF): not a readable MOL record" in entries(tmp_path / "x.sdf")[0].error


def test_one_molecule_is_wanted(tmp_path):
    path = write_sdf(tmp_path / "two.sdf", geometry("C"), geometry("O"))
    with pytest.raises(chem.ChemistryError, match=r"two\.sdf: expected one molecule, got 2"):
        chem.from_file(path)
    assert same(Molecule.from_file(write_sdf(tmp_path / "one.sdf", geometry("C"))), Molecule.from_smiles("C"))


def test_smi(tmp_path):
    (tmp_path / "list.smi").write_text("CCO ethanol\n# a comment\n\nC1CC\tbad one\nO\n")
    records = entries(tmp_path / "list.smi")
    assert [e.name for e in records] == ["ethanol", "bad one", "list-3"]
    assert records[1].error == f"{tmp_path / 'list.smi'}, record 2 (bad one): 'C1CC' is not a valid SMILES"
    assert same(records[2].molecule, chem.from_smiles("O"))


def test_smiles_typed_in_place():
    (good,), (bad,) = entries("C/C=C/C"), entries("C1CC")
    assert same(good.molecule, chem.from_smiles("C/C=C/C"))
    assert bad.error == "C1CC: 'C1CC' is neither a file nor a valid SMILES"
    (long,) = entries("C" * 1500)  # too long for a file name
    assert long.molecule.n_atoms == 4502


def test_mol(tmp_path):
    mol = geometry("CC(=O)[O-]")
    (tmp_path / "a.mol").write_text(Chem.MolToMolBlock(mol))
    (tmp_path / "b.mol").write_text(Chem.MolToV3KMolBlock(mol))
    for name in "ab":
        (entry,) = entries(tmp_path / f"{name}.mol")
        assert same(entry.molecule, chem.from_smiles("CC(=O)[O-]"))
        assert entry.name == f"{name}-1"


MOL2 = """@<TRIPOS>MOLECULE
methanol
 6 5 1 0 0
SMALL
USER_CHARGES

@<TRIPOS>ATOM
 1 C1 -0.37 0.00 0.00 C.3 1 MOL  0.12
 2 O1  1.03 0.00 0.00 O.3 1 MOL -0.60
 3 H1 -0.73 1.03 0.00 H   1 MOL  0.03
 4 H2 -0.73 -0.51 0.89 H  1 MOL  0.03
 5 H3 -0.73 -0.51 -0.89 H 1 MOL  0.03
 6 H4  1.33 0.91 0.00 H   1 MOL  0.39
@<TRIPOS>BOND
 1 1 2 1
 2 1 3 1
 3 1 4 1
 4 1 5 1
 5 2 6 1
"""


def test_mol2(tmp_path):
    path = tmp_path / "x.mol2"
    path.write_text(MOL2 + MOL2.replace("methanol", "****").replace("USER_CHARGES", "NO_CHARGES"))
    first, second = entries(path)
    assert same(first.molecule, chem.from_smiles("CO"))
    assert (first.name, second.name) == ("methanol", "x-2")
    assert first.charges.tolist() == [0.12, -0.60, 0.03, 0.03, 0.03, 0.39]
    assert second.charges is None
    path.write_text(MOL2.replace(" 6 5 1 0 0", " 2 1 1 0 0"))
    assert entries(path)[0].error is not None


def test_a_bad_value_of_one_record_leaves_the_others(tmp_path):
    path = tmp_path / "x.mol2"
    path.write_text(MOL2.replace("0.12", "what") + MOL2.replace("methanol", "other"))
    bad, good = entries(path)
    assert "x.mol2, record 1 (methanol): cannot be read, ValueError" in bad.error
    assert (good.name, good.error, good.charges[0]) == ("other", None, 0.12)


def test_pdb_with_a_template(tmp_path):
    mol = geometry("CC(=O)[N-]S(=O)(=O)c1ccc(N)cc1")
    order = np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist()
    mol = Chem.RenumberAtoms(mol, order)
    path = tmp_path / "ligand.pdb"
    path.write_text(Chem.MolToPDBBlock(mol, flavor=4 | 8))  # single bonds only
    (entry,) = entries(path, smiles="CC(=O)[N-]S(=O)(=O)c1ccc(N)cc1")
    assert entry.error is None
    assert entry.molecule.numbers.tolist() == [a.GetAtomicNum() for a in mol.GetAtoms()]  # the PDB's order
    assert np.array_equal(entry.molecule.bonds, chem.from_rdkit(mol).bonds)
    assert entry.molecule.net_charge == -1
    assert chem.connectivity_key(entry.molecule) == chem.connectivity_key(chem.from_rdkit(mol))
    assert entry.xyz.shape == (mol.GetNumAtoms(), 3)


def test_pdb_without_or_with_a_wrong_template(tmp_path):
    path = tmp_path / "ligand.pdb"
    path.write_text(Chem.MolToPDBBlock(geometry("CCO")))
    assert "give the molecule's SMILES with --smiles" in entries(path)[0].error
    assert "the bonds of the PDB and of the SMILES are not those" in entries(path, smiles="COC")[0].error
    assert "the PDB has C2H6O, the SMILES with its hydrogens C2H4O" in entries(path, smiles="CC=O")[0].error
    path.write_text(Chem.MolToPDBBlock(geometry("CCO", hydrogens=False)))
    assert "hydrogens included" in entries(path, smiles="CCO")[0].error
    path.write_text("REMARK nothing\n")
    assert "holds no atoms" in entries(path, smiles="CCO")[0].error
    sdf = write_sdf(tmp_path / "x.sdf", geometry("C"))
    with pytest.raises(chem.ChemistryError, match="--smiles fixes the bond orders of a PDB"):
        entries(sdf, smiles="C")


def test_names_are_safe_and_unique():
    names = ["a b", "A_b", "", "../../etc/passwd", "x" * 300, "α", "-rf", "a b", "a_b-2"]
    safe = chem.safe_names(names)
    assert safe[:4] == ["a_b", "A_b-2", "molecule", "etc_passwd"]
    assert len({name.lower() for name in safe}) == len(names)
    assert chem.safe_names(["a"] * 20_000 + ["a-20000"])[-2:] == ["a-20000", "a-20000-2"]  # in linear time
    assert all(name[0].isalnum() and "/" not in name and len(name) < 120 for name in safe)


def test_charges_of_an_sdf(tmp_path):
    mol = geometry("O")
    mol.SetProp("atom.dprop.PartialCharge", "-0.8 0.4 0.4")
    path = tmp_path / "water.sdf"
    with Chem.SDWriter(str(path)) as writer:
        writer.write(mol)
        mol.SetProp("atom.dprop.PartialCharge", "-0.8 0.4 n/a")
        writer.write(mol)
    good, bad = entries(path)
    assert good.charges.tolist() == [-0.8, 0.4, 0.4]
    assert bad.charges is None
    assert bad.notes == ("<atom.dprop.PartialCharge> is ignored: expected numbers, got '-0.8 0.4 n/a'",)


def test_charge_file(tmp_path):
    path = tmp_path / "q.txt"
    path.write_text("# water\n-0.8  # O\n0.4 0.4\n")
    assert chem.read_charges(path).tolist() == [-0.8, 0.4, 0.4]
    path.write_text("-0.8\n0.4 abc\n")
    with pytest.raises(chem.ChemistryError, match=r"q\.txt, line 2: expected plain numbers.*got 'abc'"):
        chem.read_charges(path)
    path.write_text("# none\n")
    with pytest.raises(chem.ChemistryError, match="holds no charges"):
        chem.read_charges(path)
    with pytest.raises(chem.ChemistryError, match="cannot read charges"):
        chem.read_charges(tmp_path / "none.txt")

"""Coordinates that are those of no geometry: not used, with a note that says why; those of molecules are used."""

import re

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdMolTransforms

from espalike import chem
from espalike.chem.coordinates import fault
from espalike.chem.embedding import embed
from espalike.data.store import Store
from espalike.units import BOHR
from tests.test_chem import MOL2

SMILES = "CCC(C)O"


def at(xyz, smiles=SMILES):
    return fault(chem.to_rdkit(chem.from_smiles(smiles)), xyz)


def drawing(smiles):
    mol = chem.to_rdkit(chem.from_smiles(smiles))
    rdDepictor.Compute2DCoords(mol)
    return mol.GetConformer().GetPositions()


def on_one_point(xyz):
    xyz[-1] = xyz[-2]
    return xyz


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda xyz: xyz / BOHR, "bonds are 1.9. times as long as usual; expected Å"),
        (lambda xyz: xyz * BOHR, "bonds are 0.5. times as long as usual; expected Å"),
        (lambda xyz: xyz / 10.0, "of no possible length"),
        (lambda xyz: xyz * 0.0, "of no possible length"),
        (lambda xyz: on_one_point(xyz.copy()), "of no possible length|atoms .* and .* are 0 Å apart"),
        (lambda xyz: drawing(SMILES), "a drawing in a plane, but atom 1 has four neighbours"),
        (lambda xyz: drawing(SMILES)[:, [2, 0, 1]] + 3.0, "a drawing in a plane"),
        (lambda xyz: np.where(np.arange(3) == 1, np.nan, xyz), "not finite"),
    ],
)
def test_what_is_no_geometry(change, message):
    xyz = embed(chem.from_smiles(SMILES))[0]
    assert at(xyz) == ""
    assert re.search(message, at(change(xyz)))


def test_hydrogens_of_one_atom_on_one_point():
    xyz = embed(chem.from_smiles(SMILES))[0]
    xyz[6] = xyz[7]
    assert at(xyz) == "atoms 7 and 8 are 0 Å apart"


def test_atoms_on_one_point_of_a_large_molecule():
    smiles = "C" * 180
    xyz = np.concatenate([[[1.25 * k, 0.8 * (k % 2), 0.0] for k in range(180)], np.zeros((362, 3))])
    mol = chem.to_rdkit(chem.from_smiles(smiles))
    for atom in mol.GetAtoms():
        for n, other in enumerate(a.GetIdx() for a in atom.GetNeighbors() if a.GetAtomicNum() == 1):
            up = 1.0 if atom.GetIdx() % 2 else -1.0
            xyz[other] = xyz[atom.GetIdx()] + [0.0, 0.6 * up, 0.9 * (-1.0) ** n]
            if n == 2:
                xyz[other] = xyz[atom.GetIdx()] + [1.1 if atom.GetIdx() else -1.1, 0.0, 0.1]
    assert fault(mol, xyz) == ""
    xyz[-1] = xyz[-2] + 0.001
    assert "Å apart" in fault(mol, xyz)


@pytest.mark.parametrize(
    "smiles", ["N#N", "[H][H]", "N#CC#N", "C#C", "O", "C=C", "c1ccccc1", "[C-]#[O+]", "II", "Cl", "[Na+]", "BrC#CBr"]
)
def test_small_and_flat_molecules(smiles):
    assert at(embed(chem.from_smiles(smiles))[0], smiles) == ""


def test_geometries_of_the_embedded_set():
    """DFT data, distorted ones included."""
    for record in Store.open("sample").records("train"):
        mol = chem.to_rdkit(record.molecule)
        assert [fault(mol, xyz) for xyz in record.conformers.xyz[:3]] == [""] * len(record.conformers.xyz[:3])


def test_a_drawing_in_a_mol2_is_embedded(tmp_path):
    rows = [line.split() for line in MOL2.split("@<TRIPOS>ATOM\n")[1].split("@<TRIPOS>")[0].splitlines()]
    flat = MOL2
    for row, (x, y, _) in zip(rows, drawing("CO"), strict=True):
        flat = flat.replace(f"{row[2]} {row[3]} {row[4]}", f"{x:.4f} {y:.4f} 0.0", 1)
    (tmp_path / "x.mol2").write_text(flat)
    (entry,) = chem.read_molecules(tmp_path / "x.mol2")
    assert entry.error is None
    assert entry.xyz is None
    assert any("a drawing in a plane" in note for note in entry.notes)
    assert Chem.MolToSmiles(Chem.RemoveHs(chem.to_rdkit(entry.molecule))) == "CO"


@pytest.mark.parametrize(
    "smiles",
    [
        "C[C@H](F)Cl", "C[C@@H](F)Cl", "F/C=C/Cl", "F/C=C\\Cl", "C/C=N/O", "C[S@](=O)CC",
        "C[C@@H](O)[C@H](F)/C=C/[C@@H](C)N", "C[C@]1(O)CC[C@H](Br)[C@@H]1F", "C/C(F)=C(/C)[C@H](F)Cl",
    ],
)  # fmt: skip
@pytest.mark.parametrize("seed", range(3))
def test_without_coordinates_a_pdb_has_the_stereo_of_its_smiles(tmp_path, smiles, seed):
    """All atoms on one point, in any order, with CONECT records."""
    molecule = chem.from_smiles(smiles)
    order = np.random.default_rng(seed).permutation(molecule.n_atoms)
    place = np.argsort(order) + 1
    mol = chem.to_rdkit(molecule)
    symbols = [mol.GetAtomWithIdx(int(atom)).GetSymbol() for atom in order]
    row = "HETATM%5d %-4s LIG A   1       0.000   0.000   0.000  1.00  0.00          %2s"
    lines = [row % (n, f"{symbol}{n}"[:4], symbol) for n, symbol in enumerate(symbols, 1)]
    lines += [f"CONECT{place[i]:5}{place[j]:5}" for i, j in molecule.bonds]
    (tmp_path / "flat.pdb").write_text("\n".join([*lines, "END", ""]))
    (entry,) = chem.read_molecules(tmp_path / "flat.pdb", smiles)
    assert entry.error is None
    assert entry.xyz is None
    made = chem.to_rdkit(entry.molecule, embed(entry.molecule)[0])
    Chem.AssignStereochemistryFrom3D(made)
    assert Chem.MolToSmiles(Chem.RemoveHs(made)) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize("head", ["", "  Avogadro", "  -OEChem-0101260000"])
def test_a_record_that_does_not_say_whether_it_is_a_drawing(tmp_path, head):
    """Geometries of flat molecules are in a plane by calculation; only their z is zero, as that of drawings."""
    turn = np.arange(6)[:, None] * np.pi / 3.0 + np.array([0.0, np.pi / 2.0])
    xyz = np.hstack([np.vstack([1.39 * np.sin(turn), 2.48 * np.sin(turn)]), np.zeros((12, 1))])

    def read(smiles, xyz):
        mol = chem.to_rdkit(chem.from_smiles(smiles), xyz)
        lines = Chem.MolToMolBlock(mol).split("\n")
        (tmp_path / "x.sdf").write_text("\n".join(["", head, *lines[2:]]))
        (entry,) = chem.read_molecules(tmp_path / "x.sdf")
        return entry

    entry = read("c1ccccc1", xyz)
    np.testing.assert_allclose(entry.xyz, xyz, atol=1e-4)
    assert entry.notes == ()
    for smiles, message in (
        ("c1ccccc1", r"whose bond .* has 1\.5 Å"),
        ("F/C=C/F", "whose bond"),
        (SMILES, "atom 1 has"),
    ):
        entry = read(smiles, drawing(smiles))
        assert entry.xyz is None
        assert re.search(f"not used: they are a drawing in a plane, .*{message}", entry.notes[0])
        assert Chem.MolToSmiles(Chem.RemoveHs(chem.to_rdkit(entry.molecule))) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize("v3000", [False, True])
@pytest.mark.parametrize("isomer", ["C/C=C/[C@H](F)Cl", "C/C=C\\[C@@H](F)Cl"])
def test_bonds_of_undefined_stereo_have_that_of_the_coordinates(tmp_path, isomer, v3000):
    """RDKit marks a double bond so where the SMILES that was embedded says no isomer; others mark with waves."""
    molecule = chem.from_smiles(isomer)
    mol = chem.to_rdkit(molecule, embed(molecule)[0])
    Chem.RemoveStereochemistry(mol)
    mol.GetBondBetweenAtoms(1, 2).SetStereo(Chem.BondStereo.STEREOANY)
    mol.GetBondBetweenAtoms(3, 4).SetBondDir(Chem.BondDir.UNKNOWN)
    block = Chem.MolToMolBlock(mol, forceV3000=v3000)
    assert block.count(" CFG=2") == 2 if v3000 else ("  2  3  2  3\n" in block and "  4  5  1  4\n" in block)
    (tmp_path / "marked.sdf").write_text(block)
    (entry,) = chem.read_molecules(tmp_path / "marked.sdf")
    assert entry.notes == ()
    assert Chem.MolToSmiles(Chem.RemoveHs(chem.to_rdkit(entry.molecule))) == Chem.CanonSmiles(isomer)


@pytest.mark.parametrize(("wedge", "towards"), [(1, 1.0), (6, -1.0)])
def test_the_isomer_of_a_drawn_axis(tmp_path, wedge, towards):
    """A bond of the axis' end that points to the viewer, or away: the torsion about the axis has the drawing's sign."""
    mol = Chem.AddHs(Chem.MolFromSmiles("Cc1cccc(Br)c1-c1c(C)cccc1Cl"))
    rdDepictor.Compute2DCoords(mol)
    lines = Chem.MolToMolBlock(mol).split("\n")
    bond = next(n for n, line in enumerate(lines) if sorted(line.split()[:2]) == ["2", "8"])
    lines[bond] = f"  8  2{lines[bond][6:9]}{wedge:3d}"
    (tmp_path / "m.sdf").write_text("\n".join(lines))
    (entry,) = chem.read_molecules(tmp_path / "m.sdf")
    assert entry.notes == ()
    drawn = mol.GetConformer()
    for atom, height in ((1, towards), (5, -towards)):
        x, y, _ = drawn.GetAtomPosition(atom)
        drawn.SetAtomPosition(atom, (x, y, height))
    embedded = chem.to_rdkit(entry.molecule, entry.xyz).GetConformer()
    angle = [rdMolTransforms.GetDihedralDeg(one, 1, 7, 8, 9) for one in (drawn, embedded)]
    assert np.sign(angle[0]) == np.sign(angle[1])
    assert 60.0 < abs(angle[1]) < 120.0

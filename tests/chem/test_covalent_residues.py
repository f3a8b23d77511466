"""Ligands that are bonded to atoms of standard residues in a PDB: the whole molecule, or a message with the atoms."""

import numpy as np
import openmm
import pytest
from rdkit import Chem

from espalike import chem, export
from tests.chem.test_structures import built, lines, only, read
from tests.export.cases import model

ENDS = "CC(=O)N[C@@H]({})C(=O)NC"


def heavy(*parts):
    """Residue and name of each heavy atom."""
    return [(residue, name) for residue, text in parts for name in text.split()]


def side(residue, atoms, ligand):
    """Heavy atoms of ACE-X-NME with a ligand at the end of X's side chain."""
    return heavy(
        ("ACE", "CH3 C O"), (residue, f"N CA {atoms}"), ("LIG", ligand), (residue, "C O"), ("NME", "N C")
    )  # fmt: skip


CASES = {
    "serine": (ENDS.format("COCC(=O)NC"), side("SER", "CB OG", "C1 C2 O1 N1 C3"), "*CC(=O)NC"),
    "amide of lysine": (
        ENDS.format("CCCCNC(=O)C=C"),
        side("LYS", "CB CG CD CE NZ", "C1 O1 C2 C3"),
        "*C(=O)C=C",
    ),
    "ammonium of lysine": (ENDS.format("CCCC[NH2+]CC=C"), side("LYS", "CB CG CD CE NZ", "C1 C2 C3"), "*CC=C"),
    "ester of aspartate": (ENDS.format("CC(=O)OCC"), side("ASP", "CB CG OD1 OD2", "C1 C2"), "*CC"),
    "ester of the oxygen with the double bond": (
        ENDS.format("CC(=O)OCC"), side("ASP", "CB CG OD2 OD1", "C1 C2"), "*CC"
    ),
    "ester of an end": (
        "CC(=O)N[C@@H](C)C(=O)OCC", heavy(("ACE", "CH3 C O"), ("ALA", "N CA CB C OXT O"), ("LIG", "C1 C2")), "*CC"
    ),
    "imine of lysine": (ENDS.format("CCCCN=CC=C"), side("LYS", "CB CG CD CE NZ", "C1 C2 C3"), "*=CC=C"),
    "iminium of lysine": (ENDS.format("CCCC[NH+]=CC=C"), side("LYS", "CB CG CD CE NZ", "C1 C2 C3"), "*=CC=C"),
    "sulfonium of methionine": (
        ENDS.format("CC[S+](CC=C)C"),
        heavy(
            ("ACE", "CH3 C O"), ("MET", "N CA CB CG SD"), ("LIG", "C1 C2 C3"), ("MET", "CE C O"), ("NME", "N C")
        ),
        "*CC=C",
    ),
    "other nitrogen of histidine": (
        ENDS.format("Cc1cncn1CC"), side("HIS", "CB CG CD2 NE2 CE1 ND1", "C1 C2"), "*CC"
    ),
    "carbon": (ENDS.format("CC(C)(C)O"), side("ALA", "CB", "C1 C2 C3 O1"), "*C(C)(C)O"),
    "histidine": (
        ENDS.format("Cc1cn(CC(=O)NC)cn1"),
        heavy(
            ("ACE", "CH3 C O"), ("HIS", "N CA CB CG CD2 NE2"), ("LIG", "C1 C2 O1 N1 C3"), ("HIS", "CE1 ND1 C O"),
            ("NME", "N C"),
        ),
        "*CC(=O)NC",
    ),
    "carbonyl of the chain": (
        "CC(=O)N[C@@H](C)C(=O)NCc1ccccc1",
        heavy(("ACE", "CH3 C O"), ("ALA", "N CA CB C O"), ("LIG", "N1 C1 C2 C3 C4 C5 C6 C7")),
        "*NCc1ccccc1",
    ),
    "nitrogen of the chain": (
        "CCCC(=O)N[C@@H](C)C(=O)NC",
        heavy(("LIG", "C4 C3 C2 C1 O1"), ("ALA", "N CA CB C O"), ("NME", "N C")),
        "*C(=O)CCC",
    ),
    "two ligands": (
        "CC(=O)N[C@@H](CSCC(=O)NC)C(=O)N[C@@H](COCC)C(=O)NC",
        heavy(
            ("ACE", "CH3 C O"), ("CYS", "N CA CB SG"), ("LIG", "C1 C2 O1 N1 C3"), ("CYS", "C O"),
            ("SER", "N CA CB OG"), ("LIG2", "C1 C2"), ("SER", "C O"), ("NME", "N C"),
        ),
        "*CC(=O)NC.*CC",
    ),
    "a ligand at two residues": (
        "CC(=O)N[C@@H](CSCC(=O)CSC[C@H](NC(C)=O)C(=O)NC)C(=O)NC",
        heavy(
            ("ACE", "CH3 C O"), ("CYS", "N CA CB SG"), ("LIG", "C1 C2 O1 C3"), ("CYS2", "SG CB CA N"),
            ("ACE2", "C CH3 O"), ("CYS2", "C O"), ("NME2", "N C"), ("CYS", "C O"), ("NME", "N C"),
        ),
        "*CC(=O)C*",
    ),
}  # fmt: skip
"""SMILES, residue and name of each heavy atom, and the SMILES of residues that are not standard."""


def complex_of(smiles, atoms):
    """The molecule with coordinates and residues."""
    mol, numbers = built(Chem.MolFromSmiles(smiles)), {}
    for atom in mol.GetAtoms():
        own = atom.GetAtomicNum() > 1
        residue, name = atoms[(atom if own else atom.GetNeighbors()[0]).GetIdx()]
        number = numbers.setdefault(residue, len(numbers) + 1)
        name = name if own else f"H{atom.GetIdx()}"
        info = Chem.AtomPDBResidueInfo(f" {name:3}", residueName=residue.rstrip("2"), residueNumber=number)
        atom.SetMonomerInfo(info)
    return mol


def energy(molecule, xyz):
    """Of all terms by OpenMM [kJ/mol]."""
    system = export.to_openmm(model().parametrize(molecule))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(xyz / 10.0)
    return context.getState(energy=True).getPotentialEnergy()._value


@pytest.mark.parametrize("conect", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_the_molecule_is_the_whole_one(tmp_path, name, conect):
    """Its energy is that of the molecule in full, which was never cut into residues."""
    smiles, atoms, ligand = CASES[name]
    mol = complex_of(smiles, atoms)
    entries = read(tmp_path, lines(mol, conect=conect), ligand)
    molecule, whole = only(entries), chem.from_rdkit(mol)
    np.testing.assert_array_equal(molecule.numbers, whole.numbers)
    np.testing.assert_array_equal(molecule.bonds, whole.bonds)
    np.testing.assert_array_equal(molecule.charges, whole.charges)
    xyz = mol.GetConformer().GetPositions()
    assert energy(molecule, xyz) == pytest.approx(energy(whole, xyz), rel=1e-9)


def without(residue):
    """Takes the last hydrogen of a residue away."""

    def change(text):
        rows = text.splitlines()
        last = max(n for n, row in enumerate(rows) if row[17:20] == residue and row[12:16].strip().startswith("H"))
        return "\n".join(row for n, row in enumerate(rows) if n != last)

    return change


@pytest.mark.parametrize(
    ("name", "ligand", "change", "message"),
    [
        ("serine", "*CC(=O)NC", without("LIG"), "has C3H5NO and a bond to a standard residue"),
        ("serine", "*CC(=O)NC", without("SER"), "SER 2: hydrogens or neighbours are missing: CB lacks 1"),
        ("serine", "CC(=O)NC", str, "with * for each such bond"),
        ("serine", "*CC(=O)OC", str, "they must be the same molecule"),
        ("serine", "*CC(O)=NC", str, "are not those of the same molecule"),
        ("serine", None, str, "LIG 3 is not a standard residue; give its SMILES with --smiles, in which * stands"),
        ("two ligands", "*CC(=O)NC", str, "has C2H5 and a bond to a standard residue"),
        ("a ligand at two residues", "*CC(=O)C", str, "with * for each such bond"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, name, ligand, change, message):
    smiles, atoms, _ = CASES[name]
    (entry,) = read(tmp_path, change(lines(complex_of(smiles, atoms))), ligand)
    assert message in entry.error
    assert entry.molecule is None


def test_an_atom_without_room_for_a_bond_is_named(tmp_path):
    """Once an imidate without its bond was an amide, and its ligand a molecule of its own."""
    mol = complex_of(ENDS.format("CC(=[NH2+])OCC=C"), side("ASN", "CB CG ND2 OD1", "C1 C2 C3"))
    error = read(tmp_path, lines(mol), "*CC=C")[0].error
    assert "ASN 2: OD1 has all its bonds, but atom C1 of LIG 3 is only 1." in error
    assert "more bonds than its valence allows" in read(tmp_path, lines(mol, conect=True), "*CC=C")[0].error


def test_a_double_bond_to_a_ligand_counts(tmp_path):
    """A single one would leave the nitrogen of an imine without its hydrogen."""
    mol = complex_of(*CASES["imine of lysine"][:2])
    assert "LYS 2: hydrogens or neighbours are missing: NZ lacks 1" in read(tmp_path, lines(mol), "*[CH-]C=C")[0].error

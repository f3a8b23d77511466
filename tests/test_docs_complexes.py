"""Blocks of pages that need a complex of one's own: they run as pasted with a peptide and a ligand."""

import subprocess
import sys

import numpy as np
from openmm import app, unit
from rdkit import Chem

from espalike import chem, export
from tests.chem.test_covalent_residues import CASES, ENDS, complex_of, heavy
from tests.test_docs import ROOT, blocks, environment

TASKS = ROOT / "docs" / "tasks"
MARK = "tests/test_docs_complexes.py runs it"


def block(page):
    """Command and text of the block of a page that is run here."""
    ((language, text, _),) = (found for found in blocks(TASKS / page) if MARK in (found[2] or ""))
    return {"bash": ["bash", "-ec"], "python": [sys.executable, "-c"]}[language] + [text]


def run(page, folder):
    done = subprocess.run(block(page), cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def test_a_protein_and_a_ligand(tmp_path):
    """Alanine dipeptide, with hydrogens by OpenMM, and benzene 8 Å away."""
    peptide = complex_of(ENDS.format("C"), heavy(("ACE", "CH3 C O"), ("ALA", "N CA CB C O"), ("NME", "N C")))
    (tmp_path / "heavy.pdb").write_text(Chem.MolToPDBBlock(Chem.RemoveAllHs(peptide)))
    pdb = app.PDBFile(str(tmp_path / "heavy.pdb"))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.addHydrogens(app.ForceField("amber14-all.xml"))
    benzene = chem.from_smiles("c1ccccc1", "benzene")
    xyz = chem.embed(benzene)[0]
    modeller.add(export.to_topology(benzene), (xyz + np.array([0.0, 0.0, 8.0])) * unit.angstrom)
    with (tmp_path / "complex.pdb").open("w") as file:
        app.PDBFile.writeFile(modeller.topology, modeller.positions, file)
    (tmp_path / "ligand.sdf").write_text(Chem.MolToMolBlock(chem.to_rdkit(benzene, xyz)) + "$$$$\n")
    run("protein-ligand.md", tmp_path)
    assert len(list((tmp_path / "runs" / "cache").iterdir())) == 1  # the generator was asked


def test_a_ligand_on_serine(tmp_path):
    smiles, atoms, _ = CASES["serine"]
    (tmp_path / "complex.pdb").write_text(Chem.MolToPDBBlock(complex_of(smiles, atoms)))
    assert "inside" in run("covalent.md", tmp_path).stdout
    assert {path.suffix for path in (tmp_path / "runs" / "covalent").iterdir()} == {
        ".prmtop",
        ".inpcrd",
        ".sdf",
        ".pdb",
    }

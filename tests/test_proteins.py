"""Proteins: equal residues have equal parameters, and a complex with a ligand in water runs beside Amber."""

from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app, unit
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom

import espalike
from espalike import chem
from espalike.chem.bonds import intact
from espalike.export import EspalikeTemplateGenerator, to_topology
from espalike.terms.base import PairTerm

LIGAND = "CC(=O)Nc1ccc(O)cc1"


def peptide(sequence: str, path: Path) -> app.PDBFile:
    """A capped peptide with hydrogens, its residues in a file."""
    between = ".".join(sequence)
    mol = Chem.MolFromHELM(f"PEPTIDE1{{[ac].{between}.[am]}}$$$$")
    Chem.SanitizeMol(mol)
    mol = Chem.AddHs(mol, addResidueInfo=True)
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=2, useRandomCoords=True) == 0
    path.write_text(Chem.MolToPDBBlock(mol, flavor=4 | 8))
    return app.PDBFile(str(path))


def by_residue(system, pdb: app.PDBFile, number: str) -> dict:
    """Parameters of all terms with an atom of a residue, by the names of the atoms, counted from that residue."""
    label = {}
    for atom in pdb.topology.atoms():
        label[atom.index] = (int(atom.residue.id) - int(number), atom.name)
    found = {}
    for bound in system.terms:
        values = bound.values.detach().numpy()
        if isinstance(bound.term, PairTerm):
            for n, row in enumerate(values):
                if label[n][0] == 0:
                    found[bound.term.name, label[n]] = row
            continue
        for idx, row in zip(bound.tuples.idx.tolist(), values, strict=True):
            atoms = [label[n] for n in idx]
            if any(offset == 0 for offset, _ in atoms):
                found[bound.term.name, min(tuple(atoms), tuple(atoms[::-1]))] = row
    return found


@pytest.mark.parametrize("middle", ["S", "H", "W"])
def test_equal_residues_have_equal_parameters(middle, tmp_path):
    """Beyond the reach of the network: three glycines on both sides, and other residues beyond them."""
    pdb = peptide(f"AGGG{middle}GGGVGGG{middle}GGGK", tmp_path / "p.pdb")
    (entry,) = chem.read_molecules(tmp_path / "p.pdb")
    assert entry.error is None
    assert pdb.topology.getNumAtoms() == entry.molecule.n_atoms
    system = espalike.load("espalike-small").double().parametrize(entry.molecule)
    first, second = by_residue(system, pdb, "5"), by_residue(system, pdb, "13")
    assert first.keys() == second.keys()
    assert len({name for name, _ in first}) == len(system.terms)
    for key, values in first.items():
        np.testing.assert_allclose(values, second[key], atol=1e-9, err_msg=str(key))
    other = by_residue(system, pdb, "6")  # a glycine beside another residue
    assert not np.allclose(other["Coulomb", (0, "CA")], first["Coulomb", (0, "CA")])


@pytest.mark.slow
def test_a_complex_in_water_runs_for_ten_picoseconds(tmp_path):
    """A peptide with Amber's parameters, a ligand with espalike's, in TIP3P water."""
    heavy = Chem.MolFromSequence("ASG")
    with rdBase.BlockLogs():
        assert rdDistGeom.EmbedMolecule(heavy, randomSeed=3) == 0
    (tmp_path / "p.pdb").write_text(Chem.MolToPDBBlock(heavy, flavor=4))
    pdb = app.PDBFile(str(tmp_path / "p.pdb"))
    ligand = chem.from_smiles(LIGAND)
    generator = EspalikeTemplateGenerator(ligand)
    field = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    field.registerTemplateGenerator(generator.generator)
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.addHydrogens(field)
    xyz = chem.embed(ligand)[0]
    shift = np.array(modeller.positions.value_in_unit(unit.angstrom)).max(axis=0) + 3.0 - xyz.min(axis=0)
    modeller.add(to_topology(ligand), (xyz + shift * [1.0, 0.0, 0.0]) * unit.angstrom)
    modeller.addSolvent(field, boxSize=openmm.Vec3(2.8, 2.8, 2.8) * unit.nanometer)
    system = field.createSystem(
        modeller.topology, nonbondedMethod=app.PME, nonbondedCutoff=1.0 * unit.nanometer, constraints=app.HBonds
    )
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.002 * unit.picoseconds)
    integrator.setRandomNumberSeed(1)
    simulation = app.Simulation(modeller.topology, system, integrator, openmm.Platform.getPlatform("CPU"))
    simulation.context.setPositions(modeller.positions)
    before = simulation.context.getState(energy=True).getPotentialEnergy()._value
    simulation.minimizeEnergy(maxIterations=500)
    minimised = simulation.context.getState(energy=True).getPotentialEnergy()._value
    assert minimised < before
    simulation.context.setVelocitiesToTemperature(300, 1)
    temperatures = []
    for _ in range(10):
        simulation.step(500)
        state = simulation.context.getState(energy=True, positions=True)
        freedom = 3 * sum(system.getParticleMass(n)._value > 0 for n in range(system.getNumParticles()))
        freedom -= system.getNumConstraints()
        temperatures.append(2 * state.getKineticEnergy()._value / (freedom * unit.MOLAR_GAS_CONSTANT_R._value / 1000))
    assert np.mean(temperatures[5:]) == pytest.approx(300.0, abs=15.0)
    positions = state.getPositions(asNumpy=True)._value * 10.0
    residue = next(r for r in modeller.topology.residues() if r.name == "LIG")
    atoms = [atom.index for atom in residue.atoms()]
    assert intact(ligand, positions[atoms])

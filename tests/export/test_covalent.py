"""Ligands that are bonded to a protein: a residue beside Amber's, with the molecule's terms across the bond."""

import io
import xml.etree.ElementTree as ET

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from espalike import chem
from espalike.energy import energy
from espalike.export import EspalikeTemplateGenerator
from espalike.system import Bound, MMSystem
from espalike.terms.base import PairTerm
from espalike.tuples import Tuples
from tests.export.cases import field_model, model

AMBER = ("amber14-all.xml", "amber14/tip3p.xml")
PEPTIDE = "CC(=O)N[C@@H](CSCC(=O)NC)C(=O)NC"
CAPPED = "CCSCC(=O)NC"
HEAVY = [
    *[("ACE", name) for name in ("CH3", "C", "O")],
    *[("CYX", name) for name in ("N", "CA", "CB", "SG")],
    *[("LIG", name) for name in ("C1", "C2", "O1", "N1", "C3")],
    *[("CYX", name) for name in ("C", "O")],
    *[("NME", name) for name in ("N", "C")],
]
ORDER = ("ACE", "CYX", "NME", "LIG")


@pytest.fixture(scope="module")
def built() -> tuple[app.Topology, np.ndarray, Chem.Mol]:
    """ACE-CYX-NME with a ligand at the sulfur, as a topology of four residues, coordinates [Å], and a molecule."""
    mol = Chem.AddHs(Chem.MolFromSmiles(PEPTIDE))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=5) == 0
    xyz = mol.GetConformer().GetPositions()
    home = {atom.GetIdx(): (atom if atom.GetAtomicNum() > 1 else atom.GetNeighbors()[0]) for atom in mol.GetAtoms()}
    rank = {n: (ORDER.index(HEAVY[parent.GetIdx()][0]), n) for n, parent in home.items()}
    order = sorted(rank, key=rank.__getitem__)
    topology, made = app.Topology(), {}
    protein, other = topology.addChain("A"), topology.addChain("L")
    residues = {name: topology.addResidue(name, other if name == "LIG" else protein) for name in ORDER}
    for n in order:
        residue, name = HEAVY[home[n].GetIdx()]
        element = app.Element.getByAtomicNumber(mol.GetAtomWithIdx(n).GetAtomicNum())
        made[n] = topology.addAtom(name if home[n].GetIdx() == n else f"H{n}", element, residues[residue])
    for bond in mol.GetBonds():
        topology.addBond(made[bond.GetBeginAtomIdx()], made[bond.GetEndAtomIdx()])
    atoms = [atom.index for atom in topology.atoms()]
    back = {made[n].index: n for n in order}
    return topology, xyz[[back[index] for index in atoms]], Chem.RenumberAtoms(mol, [back[index] for index in atoms])


def field(generator: EspalikeTemplateGenerator) -> app.ForceField:
    made = app.ForceField(*AMBER)
    made.registerTemplateGenerator(generator.generator)
    return made


def bonded_energy(system: openmm.System, xyz: np.ndarray) -> float:
    """Energy of all forces but the nonbonded one [kcal/mol]."""
    for force in system.getForces():
        force.setForceGroup(int(isinstance(force, openmm.NonbondedForce)))
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(xyz / 10.0)
    return context.getState(energy=True, groups={0}).getPotentialEnergy() / unit.kilocalories_per_mole


def charges(system: openmm.System) -> np.ndarray:
    (force,) = (f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    return np.array([force.getParticleParameters(n)[0]._value for n in range(force.getNumParticles())])


@pytest.mark.parametrize("name", ["class1", "class2"])
def test_energies_are_those_of_amber_and_of_the_molecule(name, built):
    """The peptide's own terms are Amber's; all terms with an atom of the ligand are those of the capped molecule."""
    topology, xyz, mol = built
    made = field_model(name)
    system = field(EspalikeTemplateGenerator(CAPPED, made)).createSystem(topology)

    residues = {residue.name: [atom.index for atom in residue.atoms()] for residue in topology.residues()}
    ligand = residues["LIG"]
    alone = app.Modeller(topology, xyz * unit.angstrom)
    alone.delete([residue for residue in alone.topology.residues() if residue.name == "LIG"])
    peptide = app.ForceField(*AMBER).createSystem(
        alone.topology,
        ignoreExternalBonds=True,
        residueTemplates={residue: "CYX" for residue in alone.topology.residues() if residue.name == "CYX"},
    )
    inside = [n for n in range(len(xyz)) if n not in ligand]
    expected = bonded_energy(peptide, xyz[inside])

    capped = chem.from_smiles(CAPPED)
    hydrogens = [j for i, j in capped.bonds.tolist() if i == 0 and capped.numbers[j] == 1]
    common = [n for n in range(capped.n_atoms) if n not in hydrogens]  # all that have a counterpart
    query = Chem.RWMol(chem.to_rdkit(capped))
    for n in sorted(hydrogens, reverse=True):
        query.RemoveAtom(n)
    place = dict(zip(common, mol.GetSubstructMatch(query), strict=True))
    reference = torch.zeros(1, capped.n_atoms, 3, dtype=torch.float64)
    reference[0, common] = torch.from_numpy(xyz[[place[n] for n in common]])
    mine = torch.tensor([n for n in common if place[n] in ligand])
    parametrized = made.parametrize(capped)
    terms = []
    for bound in parametrized.terms:
        rows = torch.isin(bound.tuples.idx, mine).any(dim=1)
        if not isinstance(bound.term, PairTerm) and rows.any():
            tuples = Tuples(bound.tuples.idx[rows], bound.tuples.mol[rows])
            terms.append(Bound(bound.term, tuples, bound.values[rows].detach()))
    system_of_rows = MMSystem(tuple(terms), parametrized.numbers, parametrized.mol, parametrized.molecules)
    expected += float(energy(system_of_rows, reference, forces=False).energy)
    assert bonded_energy(system, xyz) == pytest.approx(expected, rel=1e-6)

    total = charges(system)
    np.testing.assert_allclose(total[inside], charges(peptide), atol=1e-12)
    assert total[ligand].sum() == pytest.approx(0.0, abs=1e-9)


def test_it_runs_beside_amber(built):
    topology, xyz, _ = built
    made = field(EspalikeTemplateGenerator(CAPPED))
    system = made.createSystem(topology, constraints=app.HBonds)
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatform("Reference"))
    context.setPositions(xyz / 10.0)
    openmm.LocalEnergyMinimizer.minimize(context, 10.0, 200)
    integrator.step(500)
    positions = context.getState(positions=True).getPositions(asNumpy=True)._value
    place = {(atom.residue.name, atom.name): atom.index for atom in topology.atoms()}
    bond = positions[place["CYX", "SG"]] - positions[place["LIG", "C1"]]
    assert np.linalg.norm(bond) == pytest.approx(0.182, abs=0.02)


@pytest.mark.parametrize("smiles", ["CSCC(=O)NC", "CC(=O)NC", "CCOCC(=O)NC"])
def test_caps_that_do_not_fit_are_explained(smiles, built, caplog):
    with pytest.raises(ValueError, match="No template found for residue 3"):
        field(EspalikeTemplateGenerator(smiles, model())).createSystem(built[0])
    (record,) = caplog.records
    assert "residue LIG 4 (C3H6NO) may be the part of molecule without its caps" in record.message
    assert "to a distance of 3 bonds are not those in molecule: the caps must have these atoms" in record.message


def test_a_file_is_for_one_kind_of_neighbours(built):
    generator = EspalikeTemplateGenerator(CAPPED, model())
    topology, _, _ = built
    made = field(generator)
    made.createSystem(topology)
    (text,) = generator._texts.values()
    facts = {fact.get("name"): fact.text for fact in ET.fromstring(text).findall("Info/Fact")}
    assert "is spread over the 11 atoms of the residue" in facts["Caps"]
    shorter = text.replace("'outside': [(16,", "'outside': [(8,")
    assert shorter != text
    with pytest.raises(ValueError, match="are not those of its caps"):
        app.ForceField(*AMBER, io.StringIO(shorter)).createSystem(topology)


def test_a_covalent_ligand_is_cached(built, tmp_path):
    texts = []
    for misses in (1, 0):
        generator = EspalikeTemplateGenerator(CAPPED, model(), tmp_path)
        texts.append(openmm.XmlSerializer.serialize(field(generator).createSystem(built[0])))
        assert (generator.misses, generator.hits) == (misses, 1 - misses)
    assert texts[0] == texts[1]

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
Built = tuple[app.Topology, np.ndarray, Chem.Mol]


def named(*parts: tuple[str, str]) -> list[tuple[str, str]]:
    """Residue and name of each heavy atom."""
    return [(residue, name) for residue, text in parts for name in text.split()]


BACKBONE, REST = "N CA CB SG", "C O"
ONE = (
    PEPTIDE,
    named(("ACE", "CH3 C O"), ("CYX", BACKBONE), ("LIG", "C1 C2 O1 N1 C3"), ("CYX", REST), ("NME", "N C")),
    ("ACE", "CYX", "NME", "LIG"),
    {"LIG": (CAPPED, (0,))},
)
"""The molecule, its heavy atoms, its residues, and each ligand with its caps, of which the last atoms are listed."""
TWO = (
    "CC(=O)N[C@@H](CSCC(=O)NC)C(=O)N[C@@H](CSCC(=O)OC)C(=O)NC",
    named(
        ("ACE", "CH3 C O"), ("CYX", BACKBONE), ("LIG", "C1 C2 O1 N1 C3"), ("CYX", REST), ("CYX2", BACKBONE),
        ("LIG2", "C1 C2 O1 O2 C3"), ("CYX2", REST), ("NME", "N C"),
    ),
    ("ACE", "CYX", "CYX2", "NME", "LIG", "LIG2"),
    {"LIG": (CAPPED, (0,)), "LIG2": ("CCSCC(=O)OC", (0,))},
)  # fmt: skip
BRIDGE = (
    "CC(=O)N[C@@H](CSCC(=O)CSC[C@H](NC(C)=O)C(=O)NC)C(=O)NC",
    named(
        ("ACE", "CH3 C O"), ("CYX", BACKBONE), ("LIG", "C1 C2 O1 C3"), ("CYX2", "SG CB CA N"), ("ACE2", "C CH3 O"),
        ("CYX2", REST), ("NME2", "N C"), ("CYX", REST), ("NME", "N C"),
    ),
    ("ACE", "CYX", "NME", "ACE2", "CYX2", "NME2", "LIG"),
    {"LIG": ("CCSCC(=O)CSCC", (0, 9))},
)  # fmt: skip
"""A ligand that is bonded to two cysteines."""


def build(smiles: str, heavy: list[tuple[str, str]], order: tuple[str, ...]) -> Built:
    """A molecule as a topology of residues, coordinates [Å], and the molecule itself."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=5) == 0
    xyz = mol.GetConformer().GetPositions()
    home = {atom.GetIdx(): (atom if atom.GetAtomicNum() > 1 else atom.GetNeighbors()[0]) for atom in mol.GetAtoms()}
    rank = {n: (order.index(heavy[parent.GetIdx()][0]), n) for n, parent in home.items()}
    atoms = sorted(rank, key=rank.__getitem__)
    topology, made = app.Topology(), {}
    protein, other = topology.addChain("A"), topology.addChain("L")
    residues = {
        name: topology.addResidue(name.rstrip("2"), other if name.startswith("LIG") else protein) for name in order
    }
    for n in atoms:
        residue, name = heavy[home[n].GetIdx()]
        element = app.Element.getByAtomicNumber(mol.GetAtomWithIdx(n).GetAtomicNum())
        made[n] = topology.addAtom(name if home[n].GetIdx() == n else f"H{n}", element, residues[residue])
    for bond in mol.GetBonds():
        topology.addBond(made[bond.GetBeginAtomIdx()], made[bond.GetEndAtomIdx()])
    return topology, xyz[atoms], Chem.RenumberAtoms(mol, atoms)


@pytest.fixture(scope="module")
def built() -> Built:
    """ACE-CYX-NME with a ligand at the sulfur."""
    return build(*ONE[:3])


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


def energy_of_ligand(made, smiles: str, ends: tuple[int, ...], ligand: set[int], xyz: np.ndarray, mol) -> float:
    """Energy [kcal/mol] of all bonded terms of a molecule with caps that have an atom of the ligand."""
    capped = chem.from_smiles(smiles)
    lost = [max(i, j) for i, j in capped.bonds.tolist() if min(i, j) in ends and capped.numbers[max(i, j)] == 1]
    common = [n for n in range(capped.n_atoms) if n not in lost]  # all that have a counterpart
    query = Chem.RWMol(chem.to_rdkit(capped))
    for n in sorted(lost, reverse=True):
        query.RemoveAtom(n)
    (match, *_) = (m for m in mol.GetSubstructMatches(query, uniquify=False) if ligand.issubset(m))
    place = dict(zip(common, match, strict=True))
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
    system = MMSystem(tuple(terms), parametrized.numbers, parametrized.mol, parametrized.molecules)
    return float(energy(system, reference, forces=False).energy)


@pytest.mark.parametrize("name", ["class1", "class2"])
@pytest.mark.parametrize("case", [ONE, TWO, BRIDGE], ids=["one", "two", "bridge"])
def test_energies_are_those_of_amber_and_of_the_molecule(name, case):
    """The peptide's own terms are Amber's; all terms with an atom of a ligand are those of the capped molecule."""
    smiles, heavy, order, ligands = case
    topology, xyz, mol = build(smiles, heavy, order)
    made = field_model(name)
    generator = EspalikeTemplateGenerator([capped for capped, _ in ligands.values()], made)
    system = field(generator).createSystem(topology)

    atoms = {key: {atom.index for atom in r.atoms()} for key, r in zip(order, topology.residues(), strict=True)}
    alone = app.Modeller(topology, xyz * unit.angstrom)
    alone.delete([residue for residue in alone.topology.residues() if residue.name == "LIG"])
    peptide = app.ForceField(*AMBER).createSystem(
        alone.topology,
        ignoreExternalBonds=True,
        residueTemplates={residue: "CYX" for residue in alone.topology.residues() if residue.name == "CYX"},
    )
    inside = [n for n in range(len(xyz)) if not any(n in atoms[key] for key in ligands)]
    expected = bonded_energy(peptide, xyz[inside])
    for key, (capped, ends) in ligands.items():
        expected += energy_of_ligand(made, capped, ends, atoms[key], xyz, mol)
    assert bonded_energy(system, xyz) == pytest.approx(expected, rel=1e-6)

    total = charges(system)
    np.testing.assert_allclose(total[inside], charges(peptide), atol=1e-12)
    for key in ligands:
        assert total[sorted(atoms[key])].sum() == pytest.approx(0.0, abs=1e-9)


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


@pytest.mark.parametrize("smiles", ["CSCC(=O)NC", "CC(=O)NC", "CCOCC(=O)NC", "C#CCSCC(=O)NC", "N#CCSCC(=O)NC"])
def test_caps_that_do_not_fit_are_explained(smiles, built, caplog):
    with pytest.raises(ValueError, match="No template found for residue 3"):
        field(EspalikeTemplateGenerator(smiles, model())).createSystem(built[0])
    (record,) = caplog.records
    name = Chem.CanonSmiles(smiles)
    assert f"residue LIG 4 (C3H6NO) may be the part of {name} without its caps" in record.message
    assert (
        f"to a distance of 3 bonds are not those in {name}: the caps must have these atoms, each with as many"
        in record.message
    )


@pytest.mark.parametrize("smiles", ["CCSCC(=O)C", "CCSCC(=O)CS"])
def test_a_bond_to_a_second_residue_needs_its_caps(smiles, caplog):
    with pytest.raises(ValueError, match=r"No template found for residue 6 \(LIG\)"):
        field(EspalikeTemplateGenerator(smiles, model())).createSystem(build(*BRIDGE[:3])[0])
    assert f"are not those in {Chem.CanonSmiles(smiles)}: the caps must have these atoms" in caplog.text


@pytest.mark.parametrize("residue", ["LIG", "CYX"])
def test_missing_hydrogens(residue, built):
    """Of the ligand, or of the cysteine."""
    topology, xyz, _ = built
    made = app.Modeller(topology, xyz * unit.angstrom)
    made.delete([atom for atom in topology.atoms() if atom.residue.name == residue and atom.element.symbol == "H"][-1:])
    with pytest.raises(ValueError, match=f"No template found for residue . \\({residue}\\)"):
        field(EspalikeTemplateGenerator(CAPPED, model())).createSystem(made.topology)


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

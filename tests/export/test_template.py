"""Residues typed while OpenMM builds a system: any order and name, beside a protein in water, charges."""

import io

import numpy as np
import openmm
import pytest
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import AllChem

from espalike import chem
from espalike.chem.molecule import Molecule
from espalike.export import EspalikeTemplateGenerator, structure, to_openmm, to_topology
from espalike.model import DomainError
from tests.export.cases import evaluate, field_model, model, to_ffxml

LIGANDS = ("CC(=O)Oc1ccccc1C(=O)[O-]", "NC(=[NH2+])c1ccc(Cl)cc1", "CS(=O)(=O)NC1CC1", "OCC(F)C#N")
FAR = 1e5  # Å: where molecules do not feel one another


def geometry(molecule: Molecule) -> np.ndarray:
    """A perturbed, non-planar geometry [Å]."""
    xyz = chem.embed(molecule, 1, seed=3)[0]
    return xyz + np.random.default_rng(5).normal(0.0, 0.08, xyz.shape)


def shuffled(molecule, seed: int):
    """The topology of the molecule in another order with other names, and the order."""
    order = np.random.default_rng(seed).permutation(molecule.n_atoms)
    place = np.argsort(order)
    topology = app.Topology()
    residue = topology.addResidue("UNK", topology.addChain())
    elements = [app.Element.getByAtomicNumber(int(molecule.numbers[i])) for i in order]
    atoms = [topology.addAtom(f"X{n}", element, residue) for n, element in enumerate(elements)]
    for i, j in molecule.bonds:
        topology.addBond(atoms[place[i]], atoms[place[j]])
    return topology, order


def field(generator: EspalikeTemplateGenerator, *others: str) -> app.ForceField:
    made = app.ForceField(*others)
    made.registerTemplateGenerator(generator.generator)
    return made


@pytest.fixture(scope="module")
def peptide() -> app.Modeller:
    mol = Chem.MolFromSequence("AGA")
    AllChem.EmbedMolecule(mol, randomSeed=1)
    pdb = app.PDBFile(io.StringIO(Chem.MolToPDBBlock(mol)))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.addHydrogens(app.ForceField("amber14-all.xml"))
    return modeller


@pytest.mark.parametrize("smiles", LIGANDS)
def test_energy_equals_the_system_made_directly_in_any_order(smiles):
    molecule = chem.from_smiles(smiles)
    xyz = geometry(molecule)
    expected = evaluate(to_openmm(model().parametrize(molecule)), xyz)
    made = field(EspalikeTemplateGenerator(molecule, model()))
    for seed in range(2):
        topology, order = shuffled(molecule, seed)
        energy, forces = evaluate(made.createSystem(topology), xyz[order])
        assert energy == pytest.approx(expected[0], rel=1e-9)
        np.testing.assert_allclose(forces, expected[1][order], rtol=1e-8, atol=1e-7)


def test_several_ligands_beside_a_protein_add_their_own_energies(peptide):
    molecules = [chem.from_smiles(smiles) for smiles in LIGANDS[2:]]
    made = field(EspalikeTemplateGenerator(molecules, model()), "amber14-all.xml")
    expected = evaluate(app.ForceField("amber14-all.xml").createSystem(peptide.topology), xyz_of(peptide))[0]
    modeller = app.Modeller(peptide.topology, peptide.positions)
    for n, molecule in enumerate([*molecules, molecules[0]], 1):  # the first one twice
        xyz = geometry(molecule)
        modeller.add(to_topology(molecule), (xyz + np.array([n * FAR, 0.0, 0.0])) * unit.angstrom)
        expected += evaluate(to_openmm(model().parametrize(molecule)), xyz)[0]
    actual = evaluate(made.createSystem(modeller.topology), xyz_of(modeller))[0]
    assert actual == pytest.approx(expected, abs=1e-4)  # what is left of the interactions over 10 µm


def xyz_of(modeller: app.Modeller) -> np.ndarray:
    return np.array(modeller.positions.value_in_unit(unit.angstrom))


def test_protein_ligand_and_water_with_pme(peptide):
    charged, neutral = chem.from_smiles(LIGANDS[1]), chem.from_smiles(LIGANDS[3])
    made = field(EspalikeTemplateGenerator([charged, neutral], model()), "amber14-all.xml", "amber14/tip3p.xml")
    modeller = app.Modeller(peptide.topology, peptide.positions)
    for n, molecule in enumerate((charged, neutral), 1):
        modeller.add(to_topology(molecule), (chem.embed(molecule)[0] + np.array([0.0, 0.0, 9.0 * n])) * unit.angstrom)
    modeller.addSolvent(made, boxSize=openmm.Vec3(3.0, 3.0, 3.6) * unit.nanometer, neutralize=True)
    system = made.createSystem(modeller.topology, nonbondedMethod=app.PME, constraints=app.HBonds)
    atoms = {r.name: [a.index for a in r.atoms()] for r in modeller.topology.residues()}
    nonbonded = next(f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    assert nonbonded.getNonbondedMethod() == openmm.NonbondedForce.PME
    charge = [nonbonded.getParticleParameters(i)[0]._value for i in range(system.getNumParticles())]
    assert sum(charge) == pytest.approx(0.0, abs=1e-5)  # a chloride was added for the amidinium
    ligand = atoms["LIG"]  # the last one of that name
    expected = model().parametrize(neutral).bound("Coulomb").values[:, 0].numpy()
    np.testing.assert_allclose([charge[i] for i in ligand], expected, atol=1e-12)
    constrained = {frozenset(system.getConstraintParameters(i)[:2]) for i in range(system.getNumConstraints())}
    hydrogens = [i for i, z in zip(ligand, neutral.numbers, strict=True) if z == 1]
    assert sum(1 for h in hydrogens for pair in constrained if h in pair) == len(hydrogens)
    context = openmm.Context(
        system, openmm.VerletIntegrator(0.0005), openmm.Platform.getPlatform("CPU"), {"Threads": "1"}
    )
    context.setPositions(modeller.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 100.0, 20)
    assert np.isfinite(context.getState(energy=True).getPotentialEnergy()._value)


def test_residues_of_other_molecules_are_left_to_others(peptide):
    ethanol, methanol = chem.from_smiles("CCO"), chem.from_smiles("CO")
    generator = EspalikeTemplateGenerator(model=model())
    with pytest.raises(ValueError, match="No template found"):
        field(generator).createSystem(to_topology(ethanol))
    generator.add_molecules(ethanol)
    residue = next(to_topology(methanol).residues())
    assert generator.generator(app.ForceField(), residue) is False
    assert all(generator.generator(app.ForceField(), r) is False for r in peptide.topology.residues())
    assert generator.generator(app.ForceField(), next(to_topology(ethanol).residues())) is True
    bare = to_topology(ethanol)
    bare._bonds = []
    assert generator.generator(app.ForceField(), next(bare.residues())) is False
    assert (generator.hits, generator.misses) == (0, 1)


def residues_of(molecule: Molecule, names: dict[str, list[int]], bonds: bool = True) -> app.Topology:
    """A topology of a molecule whose atoms are in several residues."""
    topology, made = app.Topology(), {}
    chain = topology.addChain()
    for name, atoms in names.items():
        residue = topology.addResidue(name, chain)
        for n in atoms:
            made[n] = topology.addAtom(f"X{n}", app.Element.getByAtomicNumber(int(molecule.numbers[n])), residue)
    for i, j in molecule.bonds.tolist() if bonds else ():
        topology.addBond(made[i], made[j])
    return topology


def test_a_residue_that_looks_like_a_ligand_is_explained(peptide, caplog):
    ethanol, ether, acid = (chem.from_smiles(smiles, smiles) for smiles in ("CCO", "COC", "CCOC"))
    carbons, rest = [0, 3, 4, 5], [1, 2, 6, 7, 8]
    every = list(range(9))

    def warnings(topology: app.Topology) -> list[str]:
        caplog.clear()
        generator = EspalikeTemplateGenerator(ethanol, model())
        for residue in topology.residues():
            assert generator.generator(app.ForceField(), residue) is False
        return [record.message for record in caplog.records]

    (text,) = warnings(residues_of(ethanol, {"LIG": every}, bonds=False))
    assert "residue LIG 1 has the atoms of CCO, but the topology has no bonds between them: a PDB needs CONECT" in text
    (text,) = warnings(residues_of(ether, {"LIG": every}))
    assert "residue LIG 1 has the atoms of CCO, but other bonds (8 of them, expected 8)" in text
    texts = warnings(residues_of(ethanol, {"ONE": carbons, "TWO": rest}))
    assert set(texts) == {"CCO is split over the residues ONE 1, TWO 2; a template needs it in one residue"}
    bound = [n for n in range(acid.n_atoms) if n != 3 and [3, n] not in acid.bonds.tolist()]
    texts = warnings(residues_of(acid, {"LIG": [*bound, 11], "END": [n for n in range(11) if n not in bound]}))
    assert any("has the atoms of CCO, but its atom X2 is bonded to atom X3 of residue END 2" in text for text in texts)
    fewer = chem.from_smiles("CC=O")
    (text,) = warnings(residues_of(fewer, {"LIG": list(range(7))}))
    assert text == "residue LIG 1 has the heavy atoms of CCO, but 4 hydrogens instead of 6"
    heavy = residues_of(ethanol, {"LIG": every})
    [*_, last] = heavy.atoms()
    last.element = app.Element.getBySymbol("D")
    (text,) = warnings(heavy)
    assert "residue LIG 1 has the atoms of CCO, but the element of some is D, which OpenMM does not take for H" in text
    assert warnings(peptide.topology) == []
    assert warnings(to_topology(chem.from_smiles("CCCC"))) == []


def test_molecules_of_any_kind(tmp_path):
    sdf = tmp_path / "two.sdf"
    with Chem.SDWriter(str(sdf)) as writer:
        for smiles in ("CCO", "CCN"):
            writer.write(chem.to_rdkit(m := chem.from_smiles(smiles), chem.embed(m)[0]))
    given = ["CO", sdf, Chem.AddHs(Chem.MolFromSmiles("CS")), chem.from_smiles("CF"), "CO"]
    actual = EspalikeTemplateGenerator(given, model()).ligands
    assert [ligand.molecule.n_atoms for ligand in actual] == [6, 9, 10, 6, 5]  # methanol once
    assert {ligand.source for ligand in actual} == {"model"}
    with pytest.raises(TypeError, match="got int"):
        EspalikeTemplateGenerator([3], model())
    with pytest.raises(ValueError, match="hydrogens"):
        EspalikeTemplateGenerator(Chem.MolFromSmiles("CS"), model())
    with pytest.raises(ValueError, match=r"no\.sdf"):
        EspalikeTemplateGenerator(tmp_path / "no.sdf", model())


def test_openff_molecules_and_their_charges():
    toolkit = pytest.importorskip("openff.toolkit", reason="needs the extra openff")
    from openff.units import Quantity

    ligand = toolkit.Molecule.from_smiles("CO")
    plain = EspalikeTemplateGenerator(ligand, model()).ligands[0]
    assert (plain.charges, plain.source) == (None, "model")
    values = np.array([0.2, -0.6, 0.0, 0.0, 0.0, 0.4])
    ligand.partial_charges = Quantity(values, "elementary_charge")
    given = EspalikeTemplateGenerator(ligand, model())
    np.testing.assert_allclose(given.ligands[0].charges, values, atol=1e-15)
    assert "partial_charges of the OpenFF molecule" in given.ffxml(given.ligands[0])
    assert EspalikeTemplateGenerator(ligand, model(), charges="model").ligands[0].charges is None
    ligand.partial_charges = Quantity(0 * values, "elementary_charge")
    assert EspalikeTemplateGenerator(ligand, model()).ligands[0].charges is None


def test_charges_of_a_file_are_used_with_a_warning(tmp_path, caplog):
    """A file that espalike wrote has the charges of the model that wrote it."""
    molecule, charges = chem.from_smiles("CO", "methanol"), np.array([0.2, -0.6, 0.0, 0.0, 0.0, 0.4])
    path = tmp_path / "m.sdf"
    path.write_text(structure.text(".sdf", molecule, geometry(molecule), charges))
    (ligand,) = EspalikeTemplateGenerator(path, model()).ligands
    np.testing.assert_allclose(ligand.charges, charges, atol=1e-12)
    expected = f"methanol: the charges of {path} are used; charges='model' takes the model's"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [expected]
    caplog.clear()
    EspalikeTemplateGenerator(path, model(), charges="model")
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_ligand_is_recognised_in_an_mmcif_that_openmm_writes(tmp_path):
    """OpenMM cannot read its own file where a chain has no name."""
    molecule = chem.from_smiles("CC(=O)Nc1ccc(O)cc1")
    pdb = app.PDBFile(io.StringIO(structure.text(".pdb", molecule, geometry(molecule))))
    with open(tmp_path / "m.cif", "w") as file:
        app.PDBxFile.writeFile(pdb.topology, pdb.positions, file, keepIds=True)
    read = app.PDBxFile(str(tmp_path / "m.cif"))
    built = field(EspalikeTemplateGenerator(molecule, model())).createSystem(read.topology)
    xyz = np.array(read.positions._value) * 10.0
    expected = evaluate(to_openmm(model().parametrize(molecule)), xyz)[0]
    assert evaluate(built, xyz)[0] == pytest.approx(expected, rel=1e-9)


def test_a_residue_with_the_name_of_water_is_noted(caplog):
    """OpenMM makes every residue HOH rigid, whatever its atoms are."""
    topology = to_topology(chem.from_smiles("CCO"))
    made = field(EspalikeTemplateGenerator("CCO", model()))
    (residue,) = topology.residues()
    assert made.createSystem(topology).getNumConstraints() == 0
    assert not caplog.messages
    residue.name = "HOH"
    made = field(EspalikeTemplateGenerator("CCO", model()))
    assert made.createSystem(topology).getNumConstraints() > 8
    assert "residue HOH 1 is CCO, but OpenMM takes it for water by its name" in caplog.text


def test_charges_given_as_an_argument_are_used_and_reported():
    molecules = [chem.from_smiles("CO"), chem.from_smiles("CCO")]
    values = np.array([0.2, -0.6, 0.0, 0.0, 0.0, 0.403])
    generator = EspalikeTemplateGenerator(molecules, model(), charges=[values, None])
    assert generator.ligands[0].source == (
        "given by the charges argument, -5.0e-04 e added to each atom to sum to the formal charge"
    )
    system = field(generator).createSystem(to_topology(molecules[0]))
    (nonbonded,) = (f for f in system.getForces() if isinstance(f, openmm.NonbondedForce))
    actual = [nonbonded.getParticleParameters(i)[0]._value for i in range(6)]
    np.testing.assert_allclose(actual, values - 0.0005, atol=1e-12)
    assert generator.ligands[0].source in generator.ffxml(generator.ligands[0])
    assert EspalikeTemplateGenerator("CO", model(), charges=values - 0.0005).ligands[0].charges is not None
    for wrong, message in (
        ([values], "charges for 1 molecules"),
        ([values, values], "expected 9 charges"),
        ([values + 1.0, None], "formal charge"),
        ("am1bcc", "expected 'given', 'model' or numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            EspalikeTemplateGenerator(molecules, model(), charges=wrong)


def test_molecules_that_openmm_cannot_tell_apart():
    values = np.array([0.2, -0.6, 0.0, 0.0, 0.0, 0.4])
    generator = EspalikeTemplateGenerator("CO", model(), charges=values)
    generator.add_molecules("CO", charges=values)
    assert len(generator.ligands) == 1
    with pytest.raises(ValueError, match="different charges"):
        generator.add_molecules("CO")
    with pytest.raises(ValueError, match="different charges"):
        EspalikeTemplateGenerator(["[CH3+]", "[CH3-]"], model())
    assert len(EspalikeTemplateGenerator(["C[C@H](F)O", "C[C@@H](F)O"], model()).ligands) == 1


def test_wrong_models_and_unknown_chemistry():
    with pytest.raises(FileNotFoundError, match="espalike-small"):
        EspalikeTemplateGenerator("CCO", "gaff-2.11")
    with pytest.raises(TypeError, match="got int"):
        EspalikeTemplateGenerator("CCO", 3)
    with pytest.raises(DomainError, match="Zn"):
        EspalikeTemplateGenerator("[Zn+2]", "espalike-small")


def test_couplings_and_another_van_der_waals_form_in_another_order():
    made = field_model("class2_dexp")
    molecule = chem.from_smiles(LIGANDS[2])
    xyz = geometry(molecule)
    expected = evaluate(to_openmm(made.parametrize(molecule)), xyz)
    topology, order = shuffled(molecule, 1)
    energy, forces = evaluate(field(EspalikeTemplateGenerator(molecule, made)).createSystem(topology), xyz[order])
    assert energy == pytest.approx(expected[0], rel=1e-9)
    np.testing.assert_allclose(forces, expected[1][order], rtol=1e-8, atol=1e-6)


def test_a_form_other_than_lennard_jones_beside_amber_needs_an_answer(peptide):
    molecule = chem.from_smiles(LIGANDS[3])
    modeller = app.Modeller(peptide.topology, peptide.positions)
    modeller.add(to_topology(molecule), (geometry(molecule) + np.array([0.0, 0.0, 8.0])) * unit.angstrom)
    unanswered = EspalikeTemplateGenerator(molecule, field_model("dexp"))
    with pytest.raises(ValueError, match="mixed='lj'"):
        field(unanswered, "amber14-all.xml").createSystem(modeller.topology)
    generator = EspalikeTemplateGenerator(molecule, field_model("dexp"), mixed="lj")
    actual = field(generator, "amber14-all.xml").createSystem(modeller.topology)
    text = to_ffxml(field_model("dexp").parametrize(molecule), mixed="lj")
    expected = app.ForceField("amber14-all.xml", io.StringIO(text)).createSystem(modeller.topology)
    assert evaluate(actual, xyz_of(modeller))[0] == pytest.approx(evaluate(expected, xyz_of(modeller))[0], rel=1e-12)
    with pytest.raises(ValueError, match="mixed"):
        EspalikeTemplateGenerator(molecule, field_model("dexp"), mixed="gaff")

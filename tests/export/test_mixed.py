"""Force-field files among others: Amber, water, several molecules, boxes, constraints, forms of two kinds."""

import functools
import io
import itertools
import xml.etree.ElementTree as ET

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit
from rdkit import Chem
from rdkit.Chem import AllChem

from espalike import chem, export
from espalike.chem.molecule import Molecule
from espalike.model import ForceFieldModel
from espalike.nn.convs import SAGE
from espalike.system import MMSystem
from espalike.terms.base import LEARNED
from espalike.terms.buffered_14_7 import Buffered147
from espalike.terms.coulomb import Coulomb
from espalike.terms.double_exponential import DoubleExponential
from espalike.terms.lennard_jones import LennardJones
from espalike.units import COULOMB, convert
from tests.export.cases import agree, evaluate, far, field_model, perturbed, reference, to_ffxml

AMBER = ("amber14-all.xml", "amber14/tip3p.xml")
PARACETAMOL, GLYCOL, PYRIDINIUM = "CC(=O)Nc1ccc(O)cc1", "OCCO", "C[n+]1ccccc1"
FIELDS = ("class1", "class2", "morse", "dexp", "max")


@functools.cache
def pair_model(form: str, seed: int = 0) -> ForceFieldModel:
    """Charges and a van der Waals form, nothing bonded."""
    forms = {
        "lj": LennardJones(),
        "learned": LennardJones(LEARNED),
        "geometric": LennardJones(mixing="geometric"),
        "waldman-hagler": LennardJones(mixing="waldman-hagler"),
        "dexp": DoubleExponential(),
        "buffered": Buffered147(0.4),
    }
    torch.manual_seed(seed)
    return far(ForceFieldModel([forms[form], Coulomb(LEARNED)], SAGE, width=16, layers=2, hidden=16))


def placed(smiles: str, model: ForceFieldModel, at=(0.0, 0.0, 0.0)) -> tuple[Molecule, np.ndarray, MMSystem]:
    molecule = chem.from_smiles(smiles)
    return molecule, perturbed(molecule) + np.array(at), model.parametrize(molecule)


def topology_of(*molecules: Molecule, waters: int = 0, box: float | None = None) -> app.Topology:
    """Molecules, then waters, one residue each; box edge in nm."""
    topology = app.Topology()
    for molecule in molecules:
        atoms = {}
        for residue in export.to_topology(molecule).residues():
            home = topology.addResidue(residue.name, topology.addChain())
            atoms |= {atom: topology.addAtom(atom.name, atom.element, home) for atom in residue.atoms()}
        for bond in export.to_topology(molecule).bonds():
            names = {atom.name: made for atom, made in atoms.items()}
            topology.addBond(names[bond[0].name], names[bond[1].name])
    for _ in range(waters):
        home = topology.addResidue("HOH", topology.addChain())
        o, *hs = (topology.addAtom(n, app.element.get_by_symbol(n[0]), home) for n in ("O", "H1", "H2"))
        for h in hs:
            topology.addBond(o, h)
    if box is not None:
        topology.setPeriodicBoxVectors(np.eye(3) * box * unit.nanometer)
    return topology


def field_of(*systems: MMSystem, mixed: str | None = None, amber: bool = False) -> app.ForceField:
    return app.ForceField(*(AMBER if amber else ()), *(io.StringIO(to_ffxml(s, mixed=mixed)) for s in systems))


WATER = np.array([[0.0, 0.0, 0.0], [0.96, 0.1, 0.0], [-0.2, 0.93, 0.05]])
TIP3P = {
    "q": np.array([-0.834, 0.417, 0.417]),
    "sigma": np.array([0.31507524065751241, 1.0, 1.0]) * convert(1.0, "nm", "angstrom"),
    "epsilon": np.array([0.635968, 0.0, 0.0]) * convert(1.0, "kJ/mol", "kcal/mol"),
}


def atoms_of(system: MMSystem) -> dict[str, np.ndarray]:
    vdw, coulomb = system.terms[-2:]
    values = vdw.values.numpy()
    return {"q": coulomb.values[:, 0].numpy(), "sigma": values[:, 0], "epsilon": values[:, 1]}


def lennard_jones(a, b, r) -> float:
    """Lorentz–Berthelot, written down anew."""
    six = ((a["sigma"][:, None] + b["sigma"][None]) / 2 / r) ** 6
    return float((4 * np.sqrt(a["epsilon"][:, None] * b["epsilon"][None]) * (six**2 - six)).sum())


def pair_energy(first: MMSystem, second: MMSystem, r: np.ndarray) -> float:
    """Pairs of two molecules of one model by the term's own functions."""
    term = first.terms[-2].term
    i, j = (torch.tensor(x.reshape(-1)) for x in np.indices(r.shape))
    columns = [s.terms[-2].values[:, : term.n_combined] for s in (first, second)]
    p = term.combine(columns[0][i].unbind(-1), columns[1][j].unbind(-1))
    return float(term.energy((torch.from_numpy(r.reshape(-1)),), p).sum())


def distances(x1: np.ndarray, x2: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x1[:, None] - x2[None], axis=-1)


def coulomb(a, b, r) -> float:
    return float((COULOMB * a["q"][:, None] * b["q"][None] / r).sum())


@pytest.mark.parametrize("form", ["lj", "learned", "geometric", "waldman-hagler", "dexp", "buffered"])
def test_several_molecules_of_one_model_in_one_system(form):
    """Two files, three molecules, two of them copies: every pair by the form's own combining rule."""
    model = pair_model(form)
    parts = [
        placed(PARACETAMOL, model),
        placed(PYRIDINIUM, model, (6.5, 1.0, 1.0)),
        placed(PARACETAMOL, model, (1.0, 6.5, -1.0)),
    ]
    built = field_of(parts[0][2], parts[1][2]).createSystem(topology_of(*(m for m, _, _ in parts)))
    expected = sum(reference(system, xyz)[0] for _, xyz, system in parts)
    for (_, x1, s1), (_, x2, s2) in itertools.combinations(parts, 2):
        r = distances(x1, x2)
        expected += coulomb(atoms_of(s1), atoms_of(s2), r) + pair_energy(s1, s2, r)
    actual = evaluate(built, np.concatenate([x for _, x, _ in parts]))[0]
    assert actual == pytest.approx(expected, rel=1e-9)
    names = [force.getName() for force in built.getForces()]
    assert len(names) == len(set(names))  # one force of a kind, however many files


@pytest.mark.parametrize("form", ["dexp", "buffered", "geometric"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_mixed_systems_by_hand(form, order):
    """Two molecules of the form, one of Lennard-Jones from another model, three waters: a sum over all pairs."""
    ours, other = pair_model(form), pair_model("lj")
    parts = [
        placed(PARACETAMOL, ours),
        placed(GLYCOL, ours, (6.0, 2.0, 1.0)),
        placed(PYRIDINIUM, other, (1.0, 6.5, -1.0)),
    ]
    field = field_of(*(parts[i][2] for i in order), mixed="lj", amber=True)
    waters = [WATER + np.array(at) for at in ((0.0, 0.0, 5.0), (3.0, 3.0, 5.5), (6.0, 0.0, -4.0))]
    built = field.createSystem(topology_of(*(m for m, _, _ in parts), waters=3), rigidWater=False)
    actual = evaluate(built, np.concatenate([*(x for _, x, _ in parts), *waters]))[0]

    bodies = [(atoms_of(s), x, s) for _, x, s in parts] + [(TIP3P, x, None) for x in waters]
    lone = app.ForceField(*AMBER).createSystem(topology_of(waters=1), rigidWater=False)
    expected = sum(reference(s, x)[0] if s else evaluate(lone, x)[0] for _, x, s in bodies)
    for (a, x1, s1), (b, x2, s2) in itertools.combinations(bodies, 2):
        r = distances(x1, x2)
        both = s1 is not None and s2 is not None and ours.terms[0] is s1.terms[0].term is s2.terms[0].term
        expected += coulomb(a, b, r) + (pair_energy(s1, s2, r) if both else lennard_jones(a, b, r))
    assert actual == pytest.approx(expected, rel=1e-9)


def test_mixed_systems_without_an_answer_are_an_error():
    ours, other = placed(PARACETAMOL, pair_model("dexp")), placed(GLYCOL, pair_model("lj"))
    message = (
        "DoubleExponential has no rule for pairs with atoms of another force field.*Write the file anew with mixed"
    )
    for field, topology in (
        (field_of(ours[2], amber=True), topology_of(ours[0], waters=1)),
        (field_of(ours[2], other[2]), topology_of(ours[0], other[0])),
        (field_of(other[2], ours[2]), topology_of(ours[0], other[0])),
    ):
        with pytest.raises(ValueError, match=message):
            field.createSystem(topology)
    facts = [
        {node.attrib["name"]: node.text for node in ET.fromstring(to_ffxml(ours[2], mixed=m)).findall("Info/Fact")}
        for m in (None, "lj")
    ]
    assert "is an error" in facts[0]["MixedPairs"]
    assert "Lennard-Jones 12-6" in facts[1]["MixedPairs"]
    with pytest.raises(ValueError, match="mixed='amber': expected one of None, 'lj'"):
        to_ffxml(ours[2], mixed="amber")


def test_forms_of_different_models_do_not_mix_silently():
    """Two double exponentials of different steepness, and of different forms."""
    one = placed(PARACETAMOL, pair_model("dexp"))
    steeper = pair_model("dexp", 1)
    with torch.no_grad():
        for value in steeper.parameters():
            if value.ndim == 0:
                value.fill_(-0.3)
    for model in (steeper, pair_model("buffered")):
        two = placed(GLYCOL, model, (7.0, 2.0, 1.0))
        topology = topology_of(one[0], two[0])
        with pytest.raises(ValueError, match="no rule for pairs"):
            field_of(one[2], two[2]).createSystem(topology)
        built = field_of(one[2], two[2], mixed="lj").createSystem(topology)
        a, b, r = atoms_of(one[2]), atoms_of(two[2]), distances(one[1], two[1])
        expected = reference(one[2], one[1])[0] + reference(two[2], two[1])[0] + coulomb(a, b, r)
        actual = evaluate(built, np.concatenate([one[1], two[1]]))[0]
        assert actual == pytest.approx(expected + lennard_jones(a, b, r), rel=1e-9)


@pytest.mark.parametrize("field", FIELDS)
def test_nothing_of_amber_leaks_in(field):
    """Also where the 1-4 scales are learned and there is no Lennard-Jones."""
    molecule, xyz, system = placed("CC(=O)Oc1ccccc1C(=O)[O-]", field_model(field))
    built = field_of(system, amber=True).createSystem(topology_of(molecule))
    agree(evaluate(built, xyz), reference(system, xyz))


@functools.cache
def peptide() -> app.Modeller:
    """Ala-Gly-Ser with Amber's hydrogens."""
    bare = Chem.AddHs(Chem.MolFromSequence("AGS"))
    AllChem.EmbedMolecule(bare, randomSeed=3)
    pdb = app.PDBFile(io.StringIO(Chem.MolToPDBBlock(Chem.RemoveHs(bare), flavor=4)))
    modeller = app.Modeller(pdb.topology, pdb.positions)
    modeller.addHydrogens(app.ForceField(*AMBER))
    return modeller


@pytest.mark.parametrize("name", FIELDS)
def test_protein_ligand_and_water_run_with_pme(name):
    molecule, xyz, system = placed(PARACETAMOL, field_model(name), (14.0, 0.0, 0.0))
    field = field_of(system, mixed="lj", amber=True)
    modeller = app.Modeller(peptide().topology, peptide().positions)
    modeller.add(export.to_topology(molecule), xyz * convert(1.0, "angstrom", "nm") * unit.nanometer)
    modeller.addSolvent(field, padding=0.6 * unit.nanometer)
    built = field.createSystem(
        modeller.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.8 * unit.nanometer, constraints=app.HBonds
    )
    platform, integrator = openmm.Platform.getPlatform("CPU"), openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    simulation = app.Simulation(modeller.topology, built, integrator, platform)
    simulation.context.setPositions(modeller.positions)

    def energy() -> float:
        return simulation.context.getState(energy=True).getPotentialEnergy()._value

    before = energy()
    simulation.minimizeEnergy(maxIterations=20)
    minimised = energy()
    simulation.step(5)
    assert np.isfinite([before, minimised, energy()]).all()
    assert minimised < before - 1000.0


@pytest.mark.parametrize("form", ["dexp", "geometric"])
@pytest.mark.parametrize("water", [False, True])
def test_cutoffs_and_boxes(form, water):
    """The form's pairs within the cutoff by nearest images, beside Lennard-Jones or not."""
    model, edge, cutoff = pair_model(form), 26.0, 9.0
    parts = [placed(PARACETAMOL, model), placed(GLYCOL, model, (19.0, 1.0, 2.0))]
    field = field_of(parts[0][2], parts[1][2], mixed="lj", amber=True)
    topology = topology_of(*(m for m, _, _ in parts), waters=int(water), box=edge / 10)
    xyz = np.concatenate([*(x for _, x, _ in parts), *([WATER + 12.0] if water else [])])
    built = field.createSystem(
        topology,
        nonbondedMethod=app.CutoffPeriodic,
        nonbondedCutoff=cutoff * unit.angstrom,
        useDispersionCorrection=False,
    )
    plain = next(f for f in built.getForces() if isinstance(f, openmm.NonbondedForce))
    for i in range(plain.getNumParticles()):  # leave the wells alone
        plain.setParticleParameters(i, 0.0, *plain.getParticleParameters(i)[1:])
    for n in range(plain.getNumExceptions()):
        i, j, _, sigma, epsilon = plain.getExceptionParameters(n)
        plain.setExceptionParameters(n, i, j, 0.0, sigma, epsilon)
    for number, force in enumerate(built.getForces()):
        force.setForceGroup(
            1 if isinstance(force, (openmm.NonbondedForce, openmm.CustomNonbondedForce)) else 2 + number
        )

    (x1, s1), (x2, s2) = ((x, s) for _, x, s in parts)
    delta = x1[:, None] - x2[None]
    r = np.linalg.norm(delta - edge * np.round(delta / edge), axis=-1)
    near = np.where(r < cutoff, r, 1e6)
    expected = pair_energy(s1, s2, near)
    for _, x, s in parts:
        idx, is14 = s.terms[0].tuples.idx.numpy(), s.terms[0].tuples.is14.numpy()
        for i, j in idx[~is14]:
            d = np.linalg.norm(x[i] - x[j])
            expected += pair_energy(only_atom(s, i), only_atom(s, j), np.array([[d if d < cutoff else 1e6]]))
        if water:
            rw = distances(x, WATER + 12.0)
            expected += lennard_jones(atoms_of(s), TIP3P, np.where(rw < cutoff, rw, 1e6))
    context = openmm.Context(built, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(xyz / 10.0)
    actual = context.getState(energy=True, groups={1}).getPotentialEnergy() / unit.kilocalories_per_mole
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert expected != 0.0


def only_atom(system: MMSystem, i: int) -> MMSystem:
    vdw = system.terms[0]
    one = type(vdw)(vdw.term, vdw.tuples, vdw.values[i : i + 1])
    return MMSystem((one, system.terms[1]), system.numbers, system.mol)


def test_cutoff_settings_are_those_of_the_nonbonded_force():
    molecule, _, system = placed(GLYCOL, field_model("dexp"))
    field, topology = field_of(system, mixed="lj", amber=True), topology_of(molecule, waters=2, box=2.5)
    built = field.createSystem(topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9, switchDistance=0.8)
    custom = next(f for f in built.getForces() if isinstance(f, openmm.CustomNonbondedForce))
    assert custom.getNonbondedMethod() == custom.CutoffPeriodic
    assert custom.getCutoffDistance()._value == 0.9
    assert custom.getUseSwitchingFunction()
    assert custom.getSwitchingDistance()._value == 0.8
    assert custom.getUseLongRangeCorrection()
    assert custom.getNumInteractionGroups() == 1
    with pytest.raises(ValueError, match="LJPME is for Lennard-Jones"):
        field.createSystem(topology, nonbondedMethod=app.LJPME)


@pytest.mark.parametrize("name", ["class1", "class2", "morse", "max"])
def test_constraints_are_the_rest_lengths_of_the_bonds(name):
    """Custom bonds have no length that OpenMM knows of; the file tells it."""
    molecule, _, system = placed(PARACETAMOL, field_model(name))
    built = field_of(system).createSystem(topology_of(molecule), constraints=app.AllBonds)
    bound = system.terms[0]
    r0 = {tuple(row): v for row, v in zip(bound.tuples.idx.tolist(), bound.values[:, 1].tolist(), strict=True)}
    assert built.getNumConstraints() == len(r0)
    for n in range(built.getNumConstraints()):
        i, j, length = built.getConstraintParameters(n)
        assert length / unit.angstrom == pytest.approx(r0[min(i, j), max(i, j)], abs=1e-6)


def test_a_molecule_in_two_residues():
    molecule, xyz, system = placed(PARACETAMOL, field_model("class2"))
    whole = export.to_topology(molecule)
    topology = app.Topology()
    chain = topology.addChain()
    homes = [topology.addResidue(name, chain) for name in ("ONE", "TWO")]
    atoms = [topology.addAtom(a.name, a.element, homes[a.index > 3]) for a in whole.atoms() if a.index <= 3]
    atoms += [topology.addAtom(a.name, a.element, homes[1]) for a in whole.atoms() if a.index > 3]
    for bond in whole.bonds():
        topology.addBond(atoms[bond[0].index], atoms[bond[1].index])
    agree(evaluate(field_of(system).createSystem(topology), xyz), reference(system, xyz))

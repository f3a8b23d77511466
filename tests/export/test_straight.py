"""Angles at linear centres that rest at 180° (`straight: true`): values, smooth energies, every engine."""

import math

import numpy as np
import pytest
import torch
from rdkit import Chem

import espalike
from espalike import chem, export
from espalike.chem import from_smiles
from espalike.energy import energy
from espalike.export import to_openmm
from espalike.model import Ensemble
from espalike.terms.angle import HarmonicAngle, LinearMixtureAngle, QuarticAngle
from espalike.terms.base import Straightened
from espalike.terms.cross import BondAngle
from espalike.topology import enumerate_tuples
from tests.export.cases import evaluate_all, field_model
from tests.export.programs import PROGRAMS, needs

LINEAR = ("CC(C)N=[N+]=[N-]", "CC#N", "CC#CC=C", "CN=C=O", "C[N+]#[C-]", "C=C=CC", "CN=C=NC")
"""An azide, a nitrile, an alkyne, an isocyanate, an isocyanide, an allene, a carbodiimide."""


def fields(name: str, seed: int = 0):
    """An untrained model whose angles at linear centres rest at 180°."""
    config = field_model(name, seed).provenance.config
    terms = [dict(term) | ({"straight": True} if "straight" in term else {}) for term in config["terms"]]
    assert any("straight" in term for term in terms)
    torch.manual_seed(seed)
    made = espalike.model.from_config({**config, "terms": terms})
    made.load_state_dict(field_model(name, seed).state_dict())
    return made.double().eval()


def centres(molecule, tuples) -> np.ndarray:
    """Which angles have a linear centre."""
    graph = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges)
    return graph.linear[tuples.idx[:, 1].numpy()]


@pytest.mark.parametrize("smiles", LINEAR)
@pytest.mark.parametrize("field", ["class1", "class2", "max"])
def test_linear_centres_rest_at_180_degrees_and_no_others(field, smiles):
    molecule = from_smiles(smiles)
    system, learned = fields(field).parametrize(molecule), field_model(field).parametrize(molecule)
    angle = next(bound for bound in system.terms if type(bound.term) in (HarmonicAngle, QuarticAngle))
    linear = centres(molecule, angle.tuples)
    column = [p.name for p in angle.term.params].index("theta0")
    theta0, before = angle.values[:, column], learned.bound(angle.term.name).values[:, column]
    assert linear.any()
    assert (theta0[linear] == math.pi).all()
    assert (before[linear] < math.pi - 1e-6).all()
    assert torch.equal(theta0[~linear], before[~linear])
    if field != "class1":
        coupling = system.bound("BondAngle").values
        assert (coupling[linear, :2] == 0.0).all()
        assert (coupling[~linear, :2] != 0.0).all()
        assert torch.equal(coupling[:, 4], theta0)


def test_the_mean_of_an_ensemble_rests_there_too():
    molecule = from_smiles(LINEAR[0])
    system = Ensemble([fields("class2", seed) for seed in range(3)]).parametrize(molecule)
    angle = system.bound("QuarticAngle")
    assert (angle.values[centres(molecule, angle.tuples), 1] == math.pi).all()


def swept(molecule, delta: np.ndarray) -> np.ndarray:
    """Geometries [Å] `(D, A, 3)` whose first linear angle is 180° less each of `delta` [rad], bent in one plane."""
    xyz = chem.embed(molecule, 1, seed=7)[0]
    xyz = xyz + np.random.default_rng(7).normal(0.0, 0.05, xyz.shape)  # bonds are not at rest, where couplings vanish
    graph = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges)
    i, j, k = next(angle for angle in graph.angles.tolist() if graph.linear[angle[1]])
    mol = chem.to_rdkit(molecule)
    bond = mol.GetBondBetweenAtoms(j, k).GetIdx()
    (side,) = (s for s in Chem.GetMolFrags(Chem.FragmentOnBonds(mol, [bond], addDummies=False)) if k in s)
    axis = (xyz[j] - xyz[i]) / np.linalg.norm(xyz[j] - xyz[i])
    across = np.cross(axis, [0.3, -0.5, 0.8])
    across /= np.linalg.norm(across)
    result = np.repeat(xyz[None], len(delta), axis=0)
    for one, d in zip(result, delta, strict=True):
        end = xyz[j] + np.linalg.norm(xyz[k] - xyz[j]) * (np.cos(d) * axis + np.sin(d) * across)
        one[list(side)] += end - xyz[k]
    return result


def kink(energies: np.ndarray, step: float) -> float:
    """Jump of the slope in the middle of energies at equal steps, by one-sided differences of second order."""
    middle = len(energies) // 2
    right = (-3 * energies[middle] + 4 * energies[middle + 1] - energies[middle + 2]) / (2 * step)
    left = (3 * energies[middle] - 4 * energies[middle - 1] + energies[middle - 2]) / (2 * step)
    return abs(right - left)


@pytest.mark.parametrize("smiles", LINEAR)
@pytest.mark.parametrize("field", ["class1", "class2"])
def test_the_energy_is_smooth_at_180_degrees(field, smiles):
    """The slope by the angle does not jump; without the setting it does [kcal/mol/rad]."""
    molecule, step = from_smiles(smiles), 1e-3
    xyz = swept(molecule, step * np.arange(-2, 3))
    jumps = []
    for made in (fields(field), field_model(field)):
        system = made.parametrize(molecule)
        ours = energy(system, torch.from_numpy(xyz), forces=False).energy[:, 0].numpy()
        if field == "class1" or smiles in LINEAR[:2]:  # OpenMM compiles couplings for seconds
            theirs = np.array([total for total, _ in evaluate_all(to_openmm(system), xyz[[0, 2, 4]])])
            np.testing.assert_allclose(theirs, ours[[0, 2, 4]], rtol=0.0, atol=1e-6)
        jumps.append(kink(ours, step))
    assert jumps[0] < 1e-3
    assert jumps[1] > 0.1


@pytest.mark.parametrize("field", ["class1", "class2"])
def test_another_order_of_atoms_has_the_same_energy(field):
    molecule = from_smiles(LINEAR[0])
    xyz = swept(molecule, np.array([0.1]))[0]
    order = np.random.default_rng(1).permutation(molecule.n_atoms)
    other = chem.from_rdkit(Chem.RenumberAtoms(chem.to_rdkit(molecule), order.tolist()))
    made = fields(field)
    one = energy(made.parametrize(molecule), torch.from_numpy(xyz[None])).energy
    two = energy(made.parametrize(other), torch.from_numpy(xyz[order][None])).energy
    torch.testing.assert_close(one, two, rtol=0.0, atol=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in PROGRAMS])
@pytest.mark.parametrize("smiles", LINEAR[:3])
def test_every_engine_has_the_energy(name, smiles, tmp_path):
    molecule = from_smiles(smiles)
    xyz = swept(molecule, np.array([0.15]))[0]
    xyz = np.round(xyz - xyz.min(0), 5)
    system = fields("class1").parametrize(molecule)
    actual, _ = PROGRAMS[name].run(system, xyz, tmp_path)
    expected = float(energy(system, torch.from_numpy(xyz[None])).energy)
    assert actual["total"] == pytest.approx(expected, rel=1e-8, abs=PROGRAMS[name].tolerance)


@pytest.mark.parametrize("name", ["ForceField", pytest.param("LAMMPS", marks=needs("LAMMPS"))])
def test_class_two_in_other_formats(name, tmp_path):
    molecule = from_smiles(LINEAR[0])
    xyz = swept(molecule, np.array([0.1]))[0]
    xyz = np.round(xyz - xyz.min(0), 5)
    system = fields("class2").parametrize(molecule)
    actual, _ = PROGRAMS[name].run(system, xyz, tmp_path)
    expected = float(energy(system, torch.from_numpy(xyz[None])).energy)
    assert actual["total"] == pytest.approx(expected, rel=1e-8, abs=PROGRAMS[name].tolerance)


def test_a_linear_mixture_rests_at_its_upper_centre():
    assert {p.name: p.linear for p in LinearMixtureAngle(straight=True).params} == {"k1": 0.0, "k2": None}


@pytest.mark.parametrize("term", [HarmonicAngle, QuarticAngle, LinearMixtureAngle, BondAngle])
def test_the_setting_is_part_of_the_term(term):
    assert issubclass(term, Straightened)
    assert repr(term()) == f"{term.__name__}()"
    assert repr(term(straight=True)) == f"{term.__name__}(straight=True)"
    assert all(param.linear is None for param in term().params)
    with pytest.raises(ValueError, match="straight is true or false; got 'yes'"):
        term(straight="yes")


def test_saved_models_keep_it(tmp_path):
    made = fields("class1")
    made.save(tmp_path / "straight.espalike")
    loaded = espalike.load(tmp_path / "straight.espalike")
    assert [repr(term) for term in loaded.terms] == [repr(term) for term in made.terms]
    assert "straight=True" in repr(loaded.terms)
    assert export.texts(loaded.parametrize(from_smiles("CC#N")), "system")

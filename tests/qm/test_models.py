"""Models as calculators: the exported system's energy and forces, means and disagreement of an ensemble."""

import shutil

import numpy as np
import openmm
import pytest
from openmm import unit
from rdkit import Chem
from scipy.spatial.transform import Rotation

from espalike.chem import embed, from_rdkit, from_smiles, to_rdkit
from espalike.export import to_openmm
from espalike.model import load, shipped
from espalike.qm.base import CalculatorError, batched, gives, labelled_batch, spread
from espalike.qm.models import EnsembleCalculator, ModelCalculator


def perturbed(smiles, k=1, size=0.05):
    molecule = from_smiles(smiles)
    return molecule, embed(molecule, seed=7) + np.random.default_rng(0).normal(0, size, (k, molecule.n_atoms, 3))


def in_openmm(name, molecule, xyz):
    system = to_openmm(load(name).parametrize(molecule))
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(xyz * unit.angstrom)
    state = context.getState(energy=True, forces=True)
    return (
        state.getPotentialEnergy().value_in_unit(unit.kilocalorie_per_mole),
        state.getForces(asNumpy=True).value_in_unit(unit.kilocalorie_per_mole / unit.angstrom),
    )


@pytest.mark.parametrize(
    ("smiles", "name"),
    [
        *(("CC(=O)NC", name) for name in sorted(shipped())),
        *(("CC(=O)[O-]", name) for name in ("espalike-1", "espalike-small")),  # OpenMM compiles the others for seconds
    ],
)
def test_a_model_gives_what_its_exported_system_gives(name, smiles):
    molecule, (xyz,) = perturbed(smiles)
    energy, forces = ModelCalculator(name)(molecule, xyz)
    expected, expected_forces = in_openmm(name, molecule, xyz)
    assert energy == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(forces, expected_forces, atol=1e-3)


def test_forces_are_the_negative_slope_of_the_energy():
    calculator = ModelCalculator()
    molecule, (xyz,) = perturbed("CC(=O)NC")
    direction = np.random.default_rng(2).normal(size=xyz.shape)
    up, down = (calculator(molecule, xyz + sign * 1e-5 * direction)[0] for sign in (1, -1))
    assert np.vdot(calculator(molecule, xyz)[1], direction) == pytest.approx((down - up) / 2e-5, rel=1e-6)


def test_the_parameters_are_those_of_the_molecule_at_hand():
    calculator = ModelCalculator()
    first, (xyz,) = perturbed("CO")
    other, (other_xyz,) = perturbed("CC")
    energy, forces = calculator(first, xyz)
    calculator(other, other_xyz)
    again, forces_again = calculator(first, xyz)
    assert again == energy
    np.testing.assert_array_equal(forces_again, forces)


def test_an_ensemble_gives_means_and_disagreement():
    names = ["espalike-class2", "espalike-small"]
    molecule, xyz = perturbed("CCO", k=3)
    single = [[ModelCalculator(name)(molecule, one) for one in xyz] for name in names]
    ensemble = EnsembleCalculator(names)
    assert ensemble.level == f"espalike:{names[0]}+{names[1]}"
    for k, one in enumerate(xyz):
        energy, forces = ensemble(molecule, one)
        assert energy == pytest.approx((single[0][k][0] + single[1][k][0]) / 2, abs=1e-9)
        np.testing.assert_allclose(forces, (single[0][k][1] + single[1][k][1]) / 2, atol=1e-9)
    # of two values, the standard deviation of a sample is their difference over the square root of two
    expected = [np.sqrt(np.mean((single[0][k][1] - single[1][k][1]) ** 2 / 2)) for k in range(3)]
    assert min(expected) > 0.1
    np.testing.assert_allclose(ensemble.disagreement(molecule, xyz), expected, rtol=1e-9)


def test_disagreement_grows_where_the_models_were_not_trained():
    molecule, xyz = perturbed("CC(=O)NC", k=6, size=0.01)
    _, far = perturbed("CC(=O)NC", k=6, size=0.15)
    ensemble = EnsembleCalculator(["espalike-class2", "espalike-small"])
    assert ensemble.disagreement(molecule, far).min() > ensemble.disagreement(molecule, xyz).max()


def test_the_same_model_twice_agrees_with_itself():
    molecule, xyz = perturbed("CCO", k=2)
    ensemble = EnsembleCalculator(["espalike-small", "espalike-small"])
    np.testing.assert_allclose(ensemble.disagreement(molecule, xyz), 0, atol=1e-12)


def test_what_is_spread():
    forces = np.zeros((2, 1, 2, 3))
    forces[1, 0, 0, 0] = 6.0  # one of six components, standard deviation 6/√2
    assert spread(forces) == pytest.approx([np.sqrt(18 / 6)])
    with pytest.raises(ValueError, match="two members"):
        spread(forces[:1])


def test_an_atom_feels_no_force():
    energy, forces = ModelCalculator()(from_smiles("[Cl-]"), np.zeros((1, 3)))
    assert np.isfinite(energy)
    np.testing.assert_array_equal(forces, np.zeros((1, 3)))


def test_errors_name_the_molecule_or_the_model():
    calculator = ModelCalculator()
    with pytest.raises(CalculatorError, match=r"my-zinc.*never trained on Zn") as caught:
        calculator(from_smiles("[Zn+2]", "my-zinc"), np.zeros((1, 3)))
    assert caught.value.reason == "outside the domain"
    with pytest.raises(CalculatorError, match=r"my-water.*\(3, 3\).*\(2, 3\)"):
        calculator(from_smiles("O", "my-water"), np.zeros((2, 3)))
    with pytest.raises(FileNotFoundError, match="espalike-small"):
        ModelCalculator("no-such-model")
    with pytest.raises(ValueError, match="at least one"):
        EnsembleCalculator([])


def test_frame_and_numbering_change_nothing():
    calculator = ModelCalculator("espalike-class2")
    molecule, (xyz,) = perturbed("CC(=O)NC")
    energy, forces = calculator(molecule, xyz)
    turn = Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix()
    turned, turned_forces = calculator(molecule, xyz @ turn.T + [5.0, -3.0, 2.0])
    assert turned == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(turned_forces, forces @ turn.T, atol=1e-9)
    order = np.random.default_rng(1).permutation(molecule.n_atoms)
    renumbered, renumbered_forces = calculator(
        from_rdkit(Chem.RenumberAtoms(to_rdkit(molecule, xyz), order.tolist())), xyz[order]
    )
    assert renumbered == pytest.approx(energy, abs=1e-6)
    np.testing.assert_allclose(renumbered_forces, forces[order], atol=1e-5)


def test_a_run_goes_by_the_name_of_its_folder(tmp_path, monkeypatch):
    shutil.copy(shipped()["espalike-small"], tmp_path / "model.espalike")
    monkeypatch.chdir(tmp_path)
    assert ModelCalculator("model.espalike").level == f"espalike:{tmp_path.name}"


def test_the_program_says_which_file_it_was():
    assert "espalike-1.espalike sha256 " in ModelCalculator().program


@pytest.mark.parametrize("models", [["espalike-small"], ["espalike-small", "espalike-class2"]])
def test_batches_equal_single_geometries(models):
    molecule = from_smiles("CC(=O)NC")
    xyz = embed(molecule, seed=1) + np.random.default_rng(0).normal(0, 0.05, (3, molecule.n_atoms, 3))
    calculator = EnsembleCalculator(models)
    energies, forces = batched(calculator, molecule, xyz)
    labels = labelled_batch(calculator, molecule, xyz)
    for k in range(3):
        energy, force = calculator(molecule, xyz[k])
        assert energies[k] == pytest.approx(energy, rel=1e-12)
        assert labels[k].energy == pytest.approx(energy, rel=1e-12)
        np.testing.assert_allclose(forces[k], force, rtol=1e-9, atol=1e-9)
    if len(models) == 1:
        assert labels[0].disagreement is None
        assert not gives(calculator, "disagreement")
    else:
        spread_over_atoms = np.sqrt((labels[0].disagreement ** 2).mean())
        assert spread_over_atoms == pytest.approx(calculator.disagreement(molecule, xyz[:1])[0])
        assert gives(calculator, "disagreement")

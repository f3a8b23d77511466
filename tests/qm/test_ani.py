"""ANI: absolute energies of its level of theory, forces, invariances, spread; what it cannot do is told."""

import functools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from espalike.chem import embed, from_smiles
from espalike.qm.ani import ANICalculator, _torchani
from espalike.qm.base import CalculatorError

try:
    RESOURCES = Path(_torchani().__file__).parent / "resources"
except ImportError:
    pytest.skip("needs torchani", allow_module_level=True)


MODELS = ("ANI-1x", "ANI-2x", "ANI-1ccx")


@functools.cache
def loaded(model):
    """The calculator, which takes a second to load, or None without weights."""
    try:
        return ANICalculator(model)
    except FileNotFoundError:
        return None


def made(model):
    return loaded(model) or pytest.skip(f"torchani lacks {model}'s weights")


def perturbed(smiles, k=1, size=0.05):
    molecule = from_smiles(smiles)
    return molecule, embed(molecule, seed=7) + np.random.default_rng(0).normal(0, size, (k, molecule.n_atoms, 3))


@pytest.mark.parametrize("model", MODELS)
def test_forces_are_the_negative_slope_of_the_energy(model):
    calculator = made(model)
    molecule, (xyz,) = perturbed("CC(=O)NC")
    direction = np.random.default_rng(2).normal(size=xyz.shape)
    up, down = (calculator(molecule, xyz + sign * 1e-5 * direction)[0] for sign in (1, -1))
    assert np.vdot(calculator(molecule, xyz)[1], direction) == pytest.approx((down - up) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_frame_and_numbering_change_nothing(model):
    calculator = made(model)
    molecule, (xyz,) = perturbed("CC(=O)NC")
    energy, forces = calculator(molecule, xyz)
    turn = Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix()
    turned, turned_forces = calculator(molecule, xyz @ turn.T + [5.0, -3.0, 2.0])
    assert turned == pytest.approx(energy, abs=1e-6)
    np.testing.assert_allclose(turned_forces, forces @ turn.T, atol=1e-6)
    order = np.random.default_rng(1).permutation(molecule.n_atoms)
    other = replace(molecule, numbers=molecule.numbers[order])
    renumbered, renumbered_forces = calculator(other, xyz[order])
    assert renumbered == pytest.approx(energy, abs=1e-6)
    np.testing.assert_allclose(renumbered_forces, forces[order], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS[:2])
@pytest.mark.parametrize("smiles", ["O", "CO", "CC=O"])
def test_it_is_close_to_the_level_it_was_trained_on(model, smiles):
    """Absolute energies and forces of ωB97X/6-31G* by PySCF: units, atomic energies and weights are all right."""
    pyscf = pytest.importorskip("espalike.qm.pyscf")
    molecule, (xyz,) = perturbed(smiles)
    energy, forces = made(model)(molecule, xyz)
    expected, expected_forces = pyscf.PySCFCalculator(xc="wb97x", basis="6-31g*", disp="", grid=3)(molecule, xyz)
    assert energy == pytest.approx(expected, abs=2.5)
    assert np.sqrt(np.mean((forces - expected_forces) ** 2)) < 4.0


@pytest.mark.parametrize("model", MODELS)
def test_ethanol_lies_below_dimethyl_ether(model):
    from scipy.optimize import minimize

    from espalike.qm.base import labelled

    calculator = made(model)

    def relaxed(smiles, seed=1):
        molecule = from_smiles(smiles)
        start = embed(molecule, seed=seed)[0]

        def function(x):
            label = labelled(calculator, molecule, x.reshape(-1, 3))
            return label.energy, -label.forces.ravel()

        return minimize(function, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 200}).fun

    ethanol, ether = relaxed("CCO"), relaxed("COC")
    assert 5 < ether - ethanol < 16  # 12 kcal/mol by experiment; ANI-1x says 7


@pytest.mark.parametrize("model", MODELS)
def test_members_average_to_the_energy_and_spread_far_from_minima(model):
    calculator = made(model)
    molecule, xyz = perturbed("CCO", k=3, size=0.02)
    energies, forces = calculator.members(molecule, xyz)
    assert energies.shape == (8, 3)
    assert forces.shape == (8, 3, molecule.n_atoms, 3)
    energy, force = calculator(molecule, xyz[1])
    assert energies[:, 1].mean() == pytest.approx(energy, abs=1e-6)
    np.testing.assert_allclose(forces[:, 1].mean(0), force, atol=1e-8)
    assert energies.std(0).min() > 0.001
    _, far = perturbed("CCO", k=3, size=0.3)
    assert calculator.disagreement(molecule, far).min() > 3 * calculator.disagreement(molecule, xyz).max()


def test_what_it_does_not_know_is_refused_by_name():
    calculator = made("ANI-1x")
    with pytest.raises(CalculatorError, match="my-boron: ANI-1x knows H, C, N, O, not B") as caught:
        calculator(from_smiles("CB(O)O", "my-boron"), np.zeros((9, 3)))
    assert caught.value.reason == "element not known"
    with pytest.raises(CalculatorError, match=r"my-ion.*neutral molecules, not charge -1") as caught:
        calculator(from_smiles("CC(=O)[O-]", "my-ion"), np.zeros((7, 3)))
    assert caught.value.reason == "charged"
    with pytest.raises(CalculatorError, match=r"my-water.*\(3, 3\)"):
        calculator(from_smiles("O", "my-water"), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="choose ANI-1x, ANI-2x, ANI-1ccx"):
        ANICalculator("ANI-3")


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing.*calculator\.weights"):
        ANICalculator("ANI-2x", weights=tmp_path)
    copy = shutil.copytree(RESOURCES / "ani-1x_8x", tmp_path / "copy")
    molecule, (xyz,) = perturbed("CO")
    assert ANICalculator("ANI-1x", weights=copy)(molecule, xyz)[0] == made("ANI-1x")(molecule, xyz)[0]
    (copy / "train5" / "networks" / "ANN-H.nnf").write_text("")
    with pytest.raises(FileNotFoundError, match=r"ANN-H\.nnf is empty"):
        ANICalculator("ANI-1x", weights=copy)


def test_nothing_is_printed_or_warned(capfd):
    molecule, (xyz,) = perturbed("CO")
    ANICalculator("ANI-1x")(molecule, xyz)
    assert capfd.readouterr() == ("", "")

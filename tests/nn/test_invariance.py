"""Parameters, energies and forces depend on neither the order of atoms nor the resonance form nor a batch's rest."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espalike.batch import batch_of
from espalike.chem import embed, from_smiles
from espalike.energy import energy
from tests.molecules import DRUGLIKE, RESONANCE_PAIRS
from tests.nn.common import F64, FORCE_FIELDS, by_tuple, model, renumbered

MODELS = {
    "class1": ("class1",),
    "increments": ("class1", "forcefield.term.coulomb.charges=increments"),
    "class2": ("class2",),
    "max": ("max",),
}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12, deadline=None)
@given(smiles=st.sampled_from(DRUGLIKE), seed=st.integers(0, 10_000))
def test_renumbering_changes_nothing(name, smiles, seed):
    """Tuples come out in another direction, and columns that belong to one end move with it."""
    molecule, rng, made = from_smiles(smiles), np.random.default_rng(seed), model(*MODELS[name])
    order = rng.permutation(molecule.n_atoms)
    systems = made.parametrize(molecule), made.parametrize(renumbered(molecule, order))
    first, second = by_tuple(systems[0], np.arange(molecule.n_atoms)), by_tuple(systems[1], order)
    assert first.keys() == second.keys()
    assert max(float((first[k] - second[k]).abs().max()) for k in first) < 1e-10
    xyz = embed(molecule, 1, seed=1) + 0.1 * rng.standard_normal((1, molecule.n_atoms, 3))
    a, b = energy(systems[0], torch.from_numpy(xyz)), energy(systems[1], torch.from_numpy(xyz[:, order]))
    torch.testing.assert_close(b.energy, a.energy, rtol=1e-10, atol=1e-8)
    torch.testing.assert_close(b.forces, a.forces[:, order], rtol=1e-9, atol=1e-8)


def test_columns_of_one_end_differ():
    """Else the test above would not see columns that stay behind."""
    bound = model("class2").parametrize(from_smiles("CC(=O)NC")).bound("BondAngle")
    assert (bound.values[:, 0] - bound.values[:, 1]).abs().max() > 1.0


@pytest.mark.parametrize("name", ["class1", "increments", "max"])
@pytest.mark.parametrize("pair", RESONANCE_PAIRS, ids=str)
def test_resonance_form_changes_nothing(name, pair):
    first, second = (model(*MODELS[name]).parametrize(from_smiles(s)) for s in pair)
    for a, b in zip(first.terms, second.terms, strict=True):
        assert torch.equal(a.tuples.idx, b.tuples.idx)
        torch.testing.assert_close(a.values, b.values, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", FORCE_FIELDS)
def test_batch_equals_singles(name):
    molecules = [from_smiles(s) for s in (*DRUGLIKE[:4], "C1C2CC12", "CC#CC(=O)N", "CC(C)(F)Cl", "O", "[Na+]")]
    with torch.no_grad():
        together = model(name)(batch_of(molecules, F64))
    singles = [model(name).parametrize(molecule) for molecule in molecules]
    for place, bound in enumerate(together.terms):
        alone = torch.cat([single.terms[place].values for single in singles])
        torch.testing.assert_close(bound.values, alone, rtol=1e-12, atol=1e-12)
    xyz = [embed(m, 2, seed=0) if m.n_atoms > 1 else np.zeros((2, 1, 3)) for m in molecules]
    joint, start = energy(together, torch.from_numpy(np.concatenate(xyz, axis=1))), 0
    for number, (single, x) in enumerate(zip(singles, xyz, strict=True)):
        alone, stop = energy(single, torch.from_numpy(x)), start + x.shape[1]
        scale = float(alone.forces.abs().max())
        torch.testing.assert_close(joint.energy[:, number], alone.energy[:, 0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(joint.forces[:, start:stop], alone.forces, rtol=1e-10, atol=1e-10 * max(1.0, scale))
        start = stop


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rotation_and_translation(seed):
    from scipy.spatial.transform import Rotation

    molecule = from_smiles("CC(=O)Nc1ccc(O)cc1")
    rotation = torch.from_numpy(Rotation.random(random_state=seed).as_matrix().copy())
    xyz = torch.from_numpy(embed(molecule, 1, seed=0))
    system = model("class1").parametrize(molecule)
    a, b = energy(system, xyz), energy(system, xyz @ rotation.T + 5.0)
    assert float(a.energy - b.energy) == pytest.approx(0.0, abs=1e-9)
    torch.testing.assert_close(b.forces, a.forces @ rotation.T, rtol=1e-9, atol=1e-8)
    assert float(a.forces.sum(1).abs().max()) < 1e-8
    assert float(torch.linalg.cross(xyz, a.forces).sum(1).abs().max()) < 1e-7

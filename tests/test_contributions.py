"""Contributions of terms: forces by finite differences of each term's energy, sums by numpy."""

import numpy as np
import pytest
import torch

from espalike.batch import batch_of
from espalike.chem import embed, from_smiles
from espalike.contributions import root_mean_squares, sums, term_forces
from espalike.energy import energy
from espalike.model import from_config
from tests.training.common import CONFIG

F64 = torch.float64


@pytest.fixture(scope="module")
def setup():
    torch.manual_seed(0)
    molecules = [from_smiles("CCO"), from_smiles("O")]
    xyz = np.concatenate([embed(molecule, 2, seed=1) for molecule in molecules], axis=1)
    xyz = torch.from_numpy(xyz + 0.05 * np.random.default_rng(0).standard_normal(xyz.shape))
    with torch.no_grad():
        return from_config(CONFIG).double()(batch_of(molecules, F64)), xyz


def test_forces_of_terms_are_slopes_of_their_energies(setup):
    system, xyz = setup
    forces, h = term_forces(system, xyz), 1e-5
    assert forces.shape == (len(system.terms), *xyz.shape)
    for atom, axis in ((0, 0), (2, 1), (8, 2), (10, 0)):
        step = torch.zeros_like(xyz)
        step[:, atom, axis] = h
        with torch.no_grad():
            up, down = (energy(system, xyz + s, forces=False).by_term for s in (step, -step))
        slope = torch.stack([(a - b).sum(1) for a, b in zip(up, down, strict=True)]) / (2 * h)
        torch.testing.assert_close(forces[:, :, atom, axis], -slope, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(forces.sum(0), energy(system, xyz).forces)


def test_root_mean_squares_equal_numpys():
    rng = np.random.default_rng(0)
    u, f = rng.standard_normal((2, 4, 3)) + 50.0, rng.standard_normal((2, 5, 6, 3))
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0]], dtype=bool)  # the third has one conformer
    u[:, ~mask] = np.nan  # these values do not count
    first = sums([torch.from_numpy(x) for x in u], torch.from_numpy(mask), torch.from_numpy(f))
    actual = root_mean_squares(first + first)
    for t in range(2):
        squares = np.concatenate([(u[t, mask[:, m], m] - u[t, mask[:, m], m].mean()) ** 2 for m in range(2)])
        expected = [squares.mean() ** 0.5, (f[t] ** 2).mean() ** 0.5]
        np.testing.assert_allclose(actual[t].numpy(), expected, rtol=1e-12)

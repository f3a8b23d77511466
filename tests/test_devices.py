"""Tensors are on the CPU, whatever torch's default device is; `meta`, which has no numbers, stands for a GPU."""

import numpy as np
import pytest
import torch

import espalike
from espalike.chem import embed
from espalike.energy import energy
from espalike.terms import fourier, priors


@pytest.fixture
def meta():
    """Another default device, as in a process where it was set first."""
    for cached in (priors._covalent_radii, priors._lj_table, fourier.chebyshev):
        cached.cache_clear()
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize("name", ["espalike-1", "espalike-2"])
def test_a_default_device_changes_neither_parameters_nor_files_nor_energies(name, meta):
    """The message was that the model file is damaged; priors that were computed first stayed on the device."""
    molecule = espalike.Molecule.from_smiles("CC(=O)NC")
    xyz = torch.from_numpy(np.asarray(embed(molecule)))
    results = []
    for device in ("meta", None):
        torch.set_default_device(device)
        system = espalike.load(name).parametrize(molecule)
        texts = [espalike.export.texts(system, format) for format in ("system", "ffxml", "lammps")]
        results.append((system, texts, energy(system, xyz).energy))
    (one, texts, u), (other, expected, v) = results
    assert all(torch.equal(a.values, b.values) for a, b in zip(one.terms, other.terms, strict=True))
    assert texts == expected
    assert torch.equal(u, v)


@pytest.mark.slow
def test_training_and_scores_do_not_need_the_default_device(meta, tmp_path):
    quick = {"max_epochs": 1, "enable_progress_bar": False}
    run = espalike.train("quickstart", out=tmp_path / "run", model="tiny", trainer=quick)
    scores = espalike.evaluate(run.model, baselines=["mmff94"], out=tmp_path / "scores", resamples=10)
    assert not scores.failures

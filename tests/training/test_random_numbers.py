"""A training leaves the random numbers of the program that calls it alone."""

import os
import random

import numpy as np
import pytest
import torch

from espalike import settings
from espalike.training import run


def _drawn():
    return random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002 - what callers may use


def test_a_caller_draws_the_same_numbers_with_and_without_a_training(tmp_path, monkeypatch):
    """All of several trainings in a loop that draws something got the same, since each one was seeded with 0."""

    def stop(*_):
        _drawn()
        raise ValueError("far enough")

    monkeypatch.setattr(run, "prepare", stop)  # after the seed is set
    monkeypatch.setenv("PL_GLOBAL_SEED", "5")
    monkeypatch.delenv("PL_SEED_WORKERS", raising=False)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    expected = _drawn()
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    with pytest.raises(ValueError, match="far enough"):
        run.train(settings.compose("train", ["experiment=quickstart", f"out={tmp_path}"]))
    assert _drawn() == expected
    assert os.environ["PL_GLOBAL_SEED"] == "5"
    assert "PL_SEED_WORKERS" not in os.environ

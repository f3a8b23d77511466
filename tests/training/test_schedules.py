"""Learning rates over training, against what they are said to be."""

import numpy as np
import pytest
import torch

from espalike.training.schedules import constant, plateau, warmup_cosine


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def rates(schedule, steps, **settings):
    """Learning rate in each step."""
    own = optimizer()
    config = schedule(own, steps, **settings)
    assert config["interval"] == "step"
    found = []
    for _ in range(steps):
        found.append(own.param_groups[0]["lr"])
        own.step()
        config["scheduler"].step()
    return np.array(found)


def test_cosine_rises_and_falls():
    found = rates(warmup_cosine, 100, warmup=0.1, last=0.05)
    np.testing.assert_allclose(found[:10], 2.0 * np.arange(1, 11) / 10)
    half = np.cos(np.pi * np.arange(10, 100) / 100)
    np.testing.assert_allclose(found[10:], 2.0 * (0.05 + 0.95 * (1 + half) / 2))
    assert found.argmax() == 9
    assert found[-1] == pytest.approx(2.0 * 0.05, rel=0.01)


def test_constant_stays():
    found = rates(constant, 50, warmup=0.1)
    np.testing.assert_allclose(found[:5], 2.0 * np.arange(1, 6) / 5)
    assert (found[5:] == 2.0).all()
    assert (rates(constant, 7, warmup=0.0) == 2.0).all()


def test_plateau_waits_and_has_a_floor():
    own = optimizer()
    config = plateau(own, 1, factor=0.5, patience=2, last=0.2)
    assert config["monitor"] == "val/loss"
    found = []
    for loss in [3.0, 2.0, 2.1, 2.1, 2.1, 1.0, *[1.5] * 9]:
        config["scheduler"].step(loss)
        found.append(own.param_groups[0]["lr"])
    assert found[:6] == [2.0] * 4 + [1.0] * 2
    assert found[-1] == pytest.approx(0.4)

"""Learning rates over training."""

import numpy as np
import pytest
import torch

from espalike.training.schedules import constant, plateau, warmup_cosine


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def rates(schedule, steps, **settings):
    """Learning rate in each step."""
    ours = optimizer()
    config = schedule(ours, steps, **settings)
    assert config["interval"] == "step"
    result = []
    for _ in range(steps):
        result.append(ours.param_groups[0]["lr"])
        ours.step()
        config["scheduler"].step()
    return np.array(result)


def test_cosine_rises_and_falls():
    result = rates(warmup_cosine, 100, warmup=0.1, last=0.05)
    np.testing.assert_allclose(result[:10], 2.0 * np.arange(1, 11) / 10)
    half = np.cos(np.pi * np.arange(10, 100) / 100)
    np.testing.assert_allclose(result[10:], 2.0 * (0.05 + 0.95 * (1 + half) / 2))
    assert result.argmax() == 9
    assert result[-1] == pytest.approx(2.0 * 0.05, rel=0.01)


def test_constant_stays():
    result = rates(constant, 50, warmup=0.1)
    np.testing.assert_allclose(result[:5], 2.0 * np.arange(1, 6) / 5)
    assert (result[5:] == 2.0).all()
    assert (rates(constant, 7, warmup=0.0) == 2.0).all()


def test_plateau_waits_and_has_a_floor():
    ours = optimizer()
    config = plateau(ours, 1, factor=0.5, patience=2, last=0.2)
    assert config["monitor"] == "val/loss"
    result = []
    for loss in [3.0, 2.0, 2.1, 2.1, 2.1, 1.0, *[1.5] * 9]:
        config["scheduler"].step(loss)
        result.append(ours.param_groups[0]["lr"])
    assert result[:6] == [2.0] * 4 + [1.0] * 2
    assert result[-1] == pytest.approx(0.4)

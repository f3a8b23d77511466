"""Settings of `espalike train` that are numbers, and the least that each may be."""

from __future__ import annotations

from typing import Any

LEAST = {
    "seed": 0,
    "ensemble": 1,
    "ema": 0,
    "patience": 1,
    "threads": 1,
    "model.width": 1,
    "model.layers": 0,  # atoms as their features alone
    "model.hidden": 1,
    "optimizer.lr": 0,
    "optimizer.weight_decay": 0,
    "data.batch_size": 1,
    "data.conformers": 1,
    "data.workers": 0,
    "data.cache": 0,
    "trainer.max_epochs": -1,  # without end
    "trainer.gradient_clip_val": 0,
    "objective.energy": 0,
    "objective.forces": 0,
    "objective.charge": 0,
    "objective.lj": 0,
    "objective.torsion": 0,
    "objective.pull": 0,
}


def check_numbers(settings: Any) -> None:
    """Whether each is there as a number, and not too small; null stands for a default of its own.

    Args:
        settings: the configuration, `omegaconf.DictConfig`.

    Raises:
        ValueError: naming the setting, with what was expected and what came.
    """
    from omegaconf import OmegaConf

    for name, least in LEAST.items():
        value = OmegaConf.select(settings, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
            raise ValueError(f"{name}={value}: expected a number, {least} or more")

"""Several training processes on this machine, started with torch's `torchrun`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment


def to_start(trainer: dict[str, Any]) -> int:
    """Number of processes to start for a trainer; 0 when this is one of them, or the only one.

    Raises:
        ValueError: for several processes without `trainer=ddp`: Lightning would start this program anew, and cannot.
    """
    if "LOCAL_RANK" in os.environ or SLURMEnvironment.detect() or (number := _devices(trainer)) < 2:
        return 0
    if trainer.get("strategy") != "ddp":
        raise ValueError(
            f"trainer.devices={trainer['devices']}: several processes need trainer=ddp, for instance "
            "trainer=ddp trainer.accelerator=cpu trainer.devices=2"
        )
    return number


def environment_of(trainer: dict[str, Any]) -> dict[str, Any]:
    """The plug-in for a training of one process in a SLURM job of several tasks, as in a notebook or without `srun`.

    Lightning would take the process for one of these tasks, and refuse it. Empty for all others.
    """
    tasks, nodes, here = (int(os.environ.get(f"SLURM_{name}", 1)) for name in ("NTASKS", "NNODES", "STEP_NUM_TASKS"))
    is_alone = here == 1 and "LOCAL_RANK" not in os.environ and trainer.get("strategy") != "ddp"
    if max(tasks, nodes) == 1 or not is_alone or "plugins" in trainer or _devices(trainer) != 1:
        return {}
    return {"plugins": [LightningEnvironment()]}


def _devices(trainer: dict[str, Any]) -> int:
    """Number of devices that a trainer asks for."""
    devices = trainer["devices"]
    if devices in ("auto", -1, "-1"):
        return 1 if trainer.get("accelerator") == "cpu" else torch.cuda.device_count()
    return len(devices) if isinstance(devices, list) else int(devices)


def start(number: int, config: Path) -> None:
    """Run `espalike train` with a configuration in several processes on this machine and wait until all have ended.

    Args:
        number: number of processes.
        config: the YAML file with the settings.

    Raises:
        RuntimeError: when a process fails; it has printed the reason.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    how = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id="espalike",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    command = ("-m", "espalike.cli.main", "train", "--config-dir", str(config.parent), "--config-name", config.stem)
    try:
        elastic_launch(how, sys.executable)(*command)
    except ChildFailedError as error:
        raise RuntimeError(f"one of {number} processes failed; its message is above") from error

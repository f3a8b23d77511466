"""Checkpoints from which a killed run goes on exactly, and the end of a SLURM job's time."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from espalike.train.processes import summed


class Resumed(Protocol):
    """A sampler that can begin an epoch in its middle."""

    start: tuple[int, int]
    """An epoch, and how many batches of each process are left out of it."""

    def set_epoch(self, epoch: int) -> None:
        """Draw this epoch from now on."""


class OutOfTime(RuntimeError):
    """The job's time is over; it was put back into the queue."""


class SaveResumable(Checkpoint):
    """Writes a checkpoint between two steps: after each epoch, every so many steps, at the end, and when told to stop.

    At the start of a step all that belongs to the step before is over: optimizer, average, validation, the end of an
    epoch, callbacks, learning rate. (`ModelCheckpoint` writes amid these; a resumed run lacks what comes after it.)

    In a SLURM job, SIGUSR1 (`sbatch --signal=USR1@120`) ends the step, writes the checkpoint, and requeues the job.

    Args:
        path: the file; written under another name first, by Lightning.
        sampler: whose position is kept.
        every: steps between checkpoints, None for one an epoch.
    """

    def __init__(self, path: Path, sampler: Resumed, every: int | None = None):
        if every is not None and every < 1:
            raise ValueError(f"a checkpoint every {every} steps: expected at least 1, or null for one an epoch")
        self.path, self.sampler, self.every = path, sampler, every
        self._position, self._saved = (0, 0), -1  # before the first step too: there is always something to go back to
        self._out_of_time = False

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Listen to SLURM. Lightning's own handler would write its checkpoint in the middle of a step."""
        if "SLURM_JOB_ID" in os.environ:
            signal.signal(signal.SIGUSR1, self._warned)

    def _warned(self, signum: int, frame: Any) -> None:
        self._out_of_time = True

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Write when it is due."""
        step = trainer.global_step
        stop = "SLURM_JOB_ID" in os.environ and bool(
            summed(torch.tensor(int(self._out_of_time), device=module.device)) > 0
        )
        due = batch_idx == 0 or (self.every is not None and step % self.every == 0)
        if stop or (due and step > self._saved):
            self._save(trainer, batch_idx)
        if stop:
            if trainer.is_global_zero:
                subprocess.run(["scontrol", "requeue", _job()], check=True)
            raise OutOfTime(f"the SLURM job's time is over; it was requeued and goes on from {self.path}")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Forget that the run was resumed: Lightning leaves out the step of a plateau schedule in a resumed epoch."""
        trainer.fit_loop._restarting = False

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write, so that a finished run can be made longer."""
        self._save(trainer, 0)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Write when Lightning ended a step because of SIGTERM; after other exceptions a step may be half done."""
        if isinstance(exception, SIGTERMException) and trainer.world_size == 1:
            progress = trainer.fit_loop.epoch_loop.batch_progress
            self._save(trainer, 0 if progress.is_last_batch else progress.current.completed)

    def _save(self, trainer: pl.Trainer, done: int) -> None:
        self._position, self._saved = (trainer.current_epoch, done), trainer.global_step
        trainer.save_checkpoint(self.path, weights_only=False)

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batches of it that are done, and the step."""
        return {"position": self._position, "saved": self._saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind them."""
        self._saved = state_dict["saved"]
        self.sampler.start = tuple(state_dict["position"])
        self.sampler.set_epoch(self.sampler.start[0])  # worker processes draw before Lightning says which epoch it is


def _job() -> str:
    """What `scontrol` calls this job."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]

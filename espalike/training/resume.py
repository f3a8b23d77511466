"""Checkpoints from which a killed run goes on exactly, and the end of a SLURM job's time."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from espalike.training.processes import summed


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
        settings: of the run, plain data that is kept.
    """

    def __init__(
        self, path: Path, sampler: Resumed, every: int | None = None, settings: Mapping[str, Any] | None = None
    ):
        if every is not None and every < 1:
            raise ValueError(f"save_every={every}: expected at least 1, or null for one checkpoint per epoch")
        self.path, self.sampler, self.every, self.settings = path, sampler, every, dict(settings or {})
        self._position, self._saved = (0, 0), -1  # before the first step too: there is always something to go back to
        self._out_of_time = self._ended = False

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
        self._ended = True
        self._save(trainer, 0)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Write when Lightning ended a step because of SIGTERM; after other exceptions a step may be half done."""
        if isinstance(exception, SIGTERMException) and trainer.world_size == 1:
            progress = trainer.fit_loop.epoch_loop.batch_progress
            self._save(trainer, 0 if progress.is_last_batch else progress.current.completed)

    def _save(self, trainer: pl.Trainer, done: int) -> None:
        self._position, self._saved = (trainer.current_epoch, done), trainer.global_step
        trainer.save_checkpoint(self.path, weights_only=False)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the settings, for `changed_settings`, and whether the run has ended, for `was_interrupted`."""
        checkpoint["settings"], checkpoint["ended"] = self.settings, self._ended

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batches of it that are done, and the step."""
        return {"position": self._position, "saved": self._saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on behind them."""
        self._saved = state_dict["saved"]
        self.sampler.start = tuple(state_dict["position"])
        self.sampler.set_epoch(self.sampler.start[0])  # worker processes draw before Lightning says which epoch it is


_CARRIED = ("start", "forcefield", "conv", "model", "optimizer", "schedule", "ema")
"""Settings that a checkpoint decides: its weights, and what optimizer, learning rate and average have become."""
_OF_A_CALL = ("resume", "overwrite", "out")
_ABSENT = object()


def was_interrupted(checkpoint: Path) -> bool:
    """Whether a file is the checkpoint of a run that has not ended; False where that cannot be known."""
    try:
        content = torch.load(checkpoint, weights_only=True, map_location="cpu")
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError):
        return False
    return isinstance(content, dict) and content.get("ended") is False


def changed_settings(checkpoint: Path, settings: Mapping[str, Any]) -> list[str]:
    """How the settings of a run differ from those of its checkpoint, each as `trainer.max_epochs: 4 (was 2)`.

    Raises:
        ValueError: when the file is damaged or no checkpoint, or when a setting differs that it decides.
    """
    try:
        found = torch.load(checkpoint, weights_only=True, map_location="cpu")
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:  # all of them with words for programmers
        raise ValueError(
            f"{checkpoint} is damaged, or no checkpoint; start without resume, or begin another run from the best "
            "model so far: start=OUT/model.espalike out=ANOTHER"
        ) from error
    if not isinstance(found, dict) or "state_dict" not in found:
        raise ValueError(f"{checkpoint} is no checkpoint of `espalike train`; start without resume")
    before = found.get("settings")
    if not before:  # of an earlier version
        return []
    own, other = (dict(_leaves({k: v for k, v in side.items() if k not in _OF_A_CALL})) for side in (settings, before))
    names = [name for name in {**own, **other} if own.get(name, _ABSENT) != other.get(name, _ABSENT)]
    said = {name: f"{name}: {own.get(name, 'not set')} (was {other.get(name, 'not set')})" for name in names}
    if fixed := [text for name, text in said.items() if name.split(".")[0] in _CARRIED]:
        raise ValueError(
            f"a resumed run goes on with the model, optimizer, schedule and average of {checkpoint}; these settings "
            f"differ: {'; '.join(fixed)}. Leave them as they were, or begin another run from what was learned: "
            "start=OUT/model.espalike out=ANOTHER"
        )
    return list(said.values())


def _leaves(settings: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted path."""
    if not isinstance(settings, Mapping) or not settings:
        yield path, settings
        return
    for name, value in settings.items():
        yield from _leaves(value, f"{path}.{name}" if path else str(name))


def _job() -> str:
    """What `scontrol` calls this job."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]

"""Checkpoints: a killed run that is resumed gives the same result; a SLURM job is requeued when its time is over."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

from espalike import files, modelfile
from espalike.model import ForceFieldModel, ModelFileError
from espalike.training.checkpoint import load
from espalike.training.processes import summed


class Resumed(Protocol):
    """A sampler that can start in the middle of an epoch."""

    start: tuple[int, int]
    """An epoch, and the number of batches of each process that are skipped in it."""

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch."""


_SHORT = 5.0
"""Epochs shorter than this [s] have no checkpoint each, which would take a tenth of the time of a small training."""


class OutOfTime(RuntimeError):
    """The time of the job is over; the job was requeued."""


class SaveResumable(Checkpoint):
    """Writes a checkpoint between two steps: after epochs, every `every` steps, at the end, and on SIGTERM.

    After an epoch, it is written if the last one is at least `_SHORT` seconds old.

    When a step starts, everything that belongs to the step before has been done: optimizer, average, validation, end of
    the epoch, callbacks, learning rate. (`ModelCheckpoint` writes between these; a resumed run would lack the rest.)

    In a SLURM job, SIGUSR1 (`sbatch --signal=USR1@120`) ends the step, writes the checkpoint and requeues the job.

    Args:
        path: the file. It is written beside it and renamed: Lightning would copy it from the folder of temporary files,
            and a full disk or a kill in between would cost the checkpoint that is there.
        sampler: its position is kept in the checkpoint.
        every: steps between checkpoints, None for those after epochs alone.
        settings: the settings of the run, kept in the checkpoint.

    Raises:
        ValueError: when `every` is less than 1.
    """

    def __init__(
        self, path: Path, sampler: Resumed, every: int | None = None, settings: Mapping[str, Any] | None = None
    ):
        if every is not None and every < 1:
            raise ValueError(f"save_every={every}: expected at least 1, or null for checkpoints after epochs alone")
        self.path, self.sampler, self.every, self.settings = path, sampler, every, dict(settings or {})
        self._position, self._saved = (0, 0), -1  # the first checkpoint comes before the first step
        self._written = -math.inf
        self._out_of_time = self._ended = False

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Handle SLURM's signal. Lightning's own handler would write its checkpoint in the middle of a step.

        Only the main thread can.
        """
        if "SLURM_JOB_ID" in os.environ and current_thread() is main_thread():
            signal.signal(signal.SIGUSR1, self._warned)

    def _warned(self, signum: int, frame: Any) -> None:
        self._out_of_time = True

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Write a checkpoint when it is due, or when the time of the job is over."""
        step = trainer.global_step
        stop = "SLURM_JOB_ID" in os.environ and _any(self._out_of_time, module)
        due = (self.every is not None and step % self.every == 0) or (
            batch_idx == 0 and _any(time.monotonic() - self._written >= _SHORT, module)
        )
        stop = stop and not _accumulates(trainer, batch_idx)  # the step that was begun is finished first
        if stop or (due and step > self._saved):
            self._save(trainer, batch_idx)
        if stop:
            if trainer.is_global_zero:
                subprocess.run(["scontrol", "requeue", _job()], check=True)
            raise OutOfTime(f"the SLURM job's time is over; it was requeued and will continue from {self.path}")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Clear Lightning's flag for a resumed run, which would skip the step of a plateau schedule."""
        trainer.fit_loop._restarting = False

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write a last checkpoint, from which a finished run can be continued."""
        self._ended = True
        self._save(trainer, 0)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Write after SIGTERM, when Lightning has ended the batch; after other exceptions a step may be half done.

        So it may be between the batches of one step, whose gradients no checkpoint has: then the earlier one is kept.
        """
        if isinstance(exception, SIGTERMException) and trainer.world_size == 1:
            progress = trainer.fit_loop.epoch_loop.batch_progress
            done = 0 if progress.is_last_batch else progress.current.completed
            if not _accumulates(trainer, done):
                self._save(trainer, done)

    def _save(self, trainer: pl.Trainer, done: int) -> None:
        self._position, self._saved = (trainer.current_epoch, done), trainer.global_step
        part = self.path.with_name(f".{self.path.name}.tmp")
        try:
            with files.named(self.path):
                trainer.save_checkpoint(part, weights_only=False)
                if trainer.is_global_zero:
                    os.replace(part, self.path)
            self._written = time.monotonic()
        finally:
            if trainer.is_global_zero:
                part.unlink(missing_ok=True)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the settings and hashes, for `changed_settings` and `changed_data`, and whether the run has ended."""
        checkpoint["settings"], checkpoint["ended"] = self.settings, self._ended
        checkpoint["hashes"] = _hashes(module.model)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        """Epoch, its number of finished batches, and the step."""
        return {"position": self._position, "saved": self._saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after them."""
        self._saved = state_dict["saved"]
        self.sampler.start = tuple(state_dict["position"])
        self.sampler.set_epoch(self.sampler.start[0])  # worker processes draw before Lightning sets the epoch


def _any(here: bool, module: pl.LightningModule) -> bool:
    """Whether something holds in any process."""
    return bool(summed(torch.tensor(int(here), device=module.device)) > 0)


def _accumulates(trainer: pl.Trainer, done: int) -> bool:
    """Whether gradients of earlier batches wait for those of the next ones (`trainer.accumulate_grad_batches`)."""
    return done % trainer.accumulate_grad_batches != 0


_CARRIED = ("start", "forcefield", "conv", "model", "optimizer", "schedule", "ema")
"""Settings that cannot change: weights, optimizer, learning rate and average come from the checkpoint."""
_OF_A_CALL = ("resume", "overwrite", "out")
_ABSENT = object()


def was_interrupted(checkpoint: Path) -> bool:
    """Whether a file is the checkpoint of a run that has not ended; False when that is unknown."""
    content = load(checkpoint)
    return content is not None and content.get("ended") is False


def changed_settings(checkpoint: Path, settings: Mapping[str, Any]) -> list[str]:
    """The settings that differ from those of a checkpoint, each as `trainer.max_epochs: 4 (was 2)`.

    Raises:
        ValueError: when the file is damaged or not a checkpoint, or when a setting of `_CARRIED` differs.
    """
    content = load(checkpoint)
    if content is None:
        raise ValueError(
            f"{checkpoint} is damaged, was changed, or is not a checkpoint; start without resume, or begin another "
            "run from the best model so far: start=OUT/model.espalike out=ANOTHER"
        )
    if "state_dict" not in content:
        raise ValueError(f"{checkpoint} is not a checkpoint of `espalike train`; start without resume")
    saved = content.get("settings")
    if not saved:  # a checkpoint of an earlier version
        return []
    now, before = _compared(settings), _compared(saved)
    names = [name for name in {**now, **before} if now.get(name, _ABSENT) != before.get(name, _ABSENT)]
    changes = {name: f"{name}: {now.get(name, 'not set')} (was {before.get(name, 'not set')})" for name in names}
    if fixed := [text for name, text in changes.items() if name.split(".")[0] in _CARRIED]:
        raise ValueError(
            f"a resumed run continues with the model, optimizer, schedule and average of {checkpoint}; these settings "
            f"differ: {'; '.join(fixed)}. Leave them as they were, or begin another run from the trained model: "
            "start=OUT/model.espalike out=ANOTHER"
        )
    return list(changes.values())


def changed_data(checkpoint: Path, model: ForceFieldModel) -> list[str]:
    """The stores whose content is another one than that which a checkpoint was trained on, by name.

    Args:
        checkpoint: the checkpoint.
        model: the model as it was made for the resumed run, with its provenance.

    Raises:
        ValueError: when the model that training started from is another one by the same name: what is frozen, folded
            into the labels or pulled to would not be what the checkpoint has.
    """
    before, now = (load(checkpoint) or {}).get("hashes"), _hashes(model)
    if before is None:  # a checkpoint of an earlier version
        return []
    if before["start"] != now["start"]:
        raise ValueError(
            f"{checkpoint} is of a run that started from another model: the file of start= has changed since. Put the "
            "earlier file back, or begin another run: overwrite=true"
        )
    known = {digest for _, digest in before["data"]}
    return [name for name, digest in now["data"] if digest not in known]


def lacks_best(checkpoint: Path, model: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the best model of a run that is resumed is missing, so that the best of the next epochs is written.

    Args:
        checkpoint: the checkpoint.
        model: the file of the best model.
        settings: the settings of the resumed run.

    Raises:
        ValueError: when the file is damaged, or the model of another run, whose errors would be reported.
    """
    content = load(checkpoint) or {}
    figures = content.get("callbacks", {}).get("SaveBestModel", {}).get("figures")
    if not figures:  # no validation was finished, or it is a checkpoint of an earlier version
        return False
    if not model.exists():
        return True
    try:
        header, _ = modelfile.read(model)
        same = header["figures"].get("validation") == figures
    except ModelFileError:
        header, same = {"notes": {}}, False
    # a run that was killed may have written a model after its last checkpoint
    given = _compared(header["notes"].get("training", {}))
    if not same and given not in (_compared(settings), _compared(content.get("settings", {}))):
        raise ValueError(
            f"{model} is not the best model of the run of {checkpoint}: it is damaged, or of another run. Move it "
            "away, and resume=true writes the best model of the next epochs; or put the earlier file back"
        )
    return False


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their dotted paths, without those of one call, as JSON has them."""
    leaves = _leaves({name: value for name, value in settings.items() if name not in _OF_A_CALL})
    return {name: json.loads(json.dumps(value)) for name, value in leaves}


def _hashes(model: ForceFieldModel) -> dict[str, Any]:
    """Hash of the model that training starts from, empty if there is none, and names and hashes of the stores."""
    if model.provenance is None:
        return {"start": "", "data": []}
    start = model.provenance.notes.get("start", {}).get("sha256", "")
    return {"start": start, "data": [[store["name"], store["hash"]] for store in model.provenance.data]}


def _leaves(settings: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Settings and their dotted paths."""
    if not isinstance(settings, Mapping) or not settings:
        yield path, settings
        return
    for name, value in settings.items():
        yield from _leaves(value, f"{path}.{name}" if path else str(name))


def _job() -> str:
    """The number of this job for `scontrol`."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]

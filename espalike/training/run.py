"""A training run: from settings to a model file, as `espalike train` and `espalike.train` do it."""

from __future__ import annotations

import logging
import os
import random
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from hydra.utils import instantiate
from pytorch_lightning import callbacks, loggers
from pytorch_lightning.utilities import rank_zero_only
from torch import distributed

from espalike import files
from espalike.bounds import check_number
from espalike.model import ForceFieldModel, describe, find, load
from espalike.training import launch
from espalike.training.callbacks import Average, History, Hyperparameters, SaveBestModel
from espalike.training.diagnosis import Diagnosis, StopOnFault
from espalike.training.ensemble import assembled, validate, with_members
from espalike.training.memory import keep_freed_memory
from espalike.training.prepare import Say, prepare
from espalike.training.report import WriteReport
from espalike.training.resume import SaveResumable, changed_data, changed_settings, lacks_best, was_interrupted
from espalike.training.start import with_force_field_of

MODEL, CHECKPOINT = "model.espalike", "last.ckpt"
_WRITTEN = (MODEL, CHECKPOINT, "metrics.csv", "worst.csv", "report.html")
"""Files of a run that would be mistaken for those of another run in the same folder."""


@dataclass(frozen=True)
class TrainedRun:
    """The result of a training run.

    Attributes:
        model: the model file, the best model on the validation split.
        epoch: epoch of the best model, counted from 0; None for an ensemble, whose members have their own.
        loss: validation loss of the model.
        errors: validation errors by data source: root mean square of energies about each molecule's mean [kcal/mol],
            and of force components [kcal/mol/Å].
        interaction: root mean square errors of interaction energies of complexes by data source [kcal/mol].
    """

    model: Path
    epoch: int | None
    loss: float
    errors: Mapping[str, tuple[float, float]]
    interaction: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def of(model: str | Path) -> TrainedRun:
        """The result in a model file."""
        header = describe(model)
        figures: Mapping[str, float] = header["figures"]["validation"]
        sources = dict.fromkeys(
            name.split("/")[1] for name in figures if name.endswith(("/energy_rmse", "/forces_rmse"))
        )
        nan = float("nan")
        errors = {
            source: (figures.get(f"val/{source}/energy_rmse", nan), figures.get(f"val/{source}/forces_rmse", nan))
            for source in sources
        }
        ends = "/interaction_rmse"
        interaction = {name.split("/")[1]: figure for name, figure in figures.items() if name.endswith(ends)}
        return TrainedRun(Path(model), header["notes"].get("epoch"), figures["val/loss"], errors, interaction)

    def load(self) -> ForceFieldModel:
        """The model."""
        return load(self.model)

    @property
    def summary(self) -> str:
        """Validation errors in one line."""
        units = ("kcal/mol", "kcal/mol/Å")
        errors = [
            f"{' and '.join(f'{v:.2f} {unit}' for v, unit in zip(of_source, units, strict=True) if v == v)} ({source})"
            for source, of_source in self.errors.items()
        ]
        best = "mean of the members" if self.epoch is None else f"best epoch {self.epoch}"
        between = [f"{e:.2f} kcal/mol ({source})" for source, e in self.interaction.items()]
        text = f"; of interaction energies {'; '.join(between)}" if between else ""
        return f"{best}: validation errors of energies and forces {'; '.join(errors)}{text}"

    def __repr__(self) -> str:
        return f"TrainedRun({self.model}, {self.summary})"


def train(settings: Mapping[str, Any], chosen: Sequence[str] = (), say: Say = print) -> TrainedRun:
    """Train a model, or an ensemble, and write `model.espalike` and all else to the folder `settings["out"]`.

    Args:
        settings: the settings of `configs/train.yaml`, resolved to plain data (dicts, lists, numbers, text).
        chosen: dotted paths of the settings that the user chose (`model.width`): with `start`, an error when they
            differ from the model that training starts from; all other settings of the model are replaced.
        say: takes messages for the user. In a run of several processes only the first one calls it.

    Returns:
        The model file, its best epoch and its validation errors.

    Raises:
        ValueError: when settings and data do not fit together, molecules leak across the split, the folder holds a
            finished run, something that training computes is not finite, or no validation took place.
        InterruptedError: when training is stopped (SIGTERM); the message says how to continue.
    """
    for name, least in (("seed", 0), ("threads", 1)):
        check_number(name, settings[name], least)
    if not settings["start"]:
        _refuse_without_start(settings)
    else:
        settings = with_force_field_of(settings["start"], dict(settings), chosen)
    if getattr(rank_zero_only, "rank", 0) != 0:
        say = _silent
    settings = with_members(settings, say)
    refuse_finished(settings)
    with _threads(settings["threads"]), _quiet(), _own_random_numbers():
        return _train_ensemble(settings, say) if settings["ensemble"] > 1 else _train_one(settings, say)


def _refuse_without_start(settings: Mapping[str, Any]) -> None:
    """Refuse settings that say what becomes of the model that training starts from, where there is none.

    Raises:
        ValueError: naming the setting.
    """
    if settings["freeze"]:
        raise ValueError(
            f"freeze={settings['freeze']}: without start=MODEL, frozen parts keep their random weights; give a start"
        )
    if settings["convert"]:
        raise ValueError("convert=true says what is taken from the model that training starts from; give start=MODEL")


def refuse_finished(settings: Mapping[str, Any]) -> None:
    """Refuse to write over a finished run.

    A folder with a model file holds a finished run, unless a checkpoint beside it says that the run was interrupted.

    Raises:
        ValueError: naming the settings that continue or replace it.
    """
    out = Path(settings["out"])
    if settings["resume"] not in (True, False, "auto"):
        raise ValueError(f"resume={settings['resume']}: expected true, false, or auto")
    if settings["resume"] or settings["overwrite"] or not (out / MODEL).is_file():
        return
    if not was_interrupted(out / CHECKPOINT):
        raise ValueError(
            f"{out} holds a finished run ({out / MODEL}). Choose another folder with out=DIR, train it further with "
            "resume=true (and a larger trainer.max_epochs), or replace it with overwrite=true"
        )


def _silent(message: str) -> None:
    """Discard a message: in a run of several processes, only the first one reports."""


def _train_one(settings: Mapping[str, Any], say: Say) -> TrainedRun:
    """Train one model in a folder that no other run writes to; processes of one run share it."""
    out = Path(settings["out"])
    out.mkdir(parents=True, exist_ok=True)
    if "LOCAL_RANK" in os.environ or getattr(rank_zero_only, "rank", 0) != 0:
        return _train_alone(settings, say)
    with files.only_one(out, "training"):
        return _train_alone(settings, say)


def _train_alone(settings: Mapping[str, Any], say: Say) -> TrainedRun:
    out, first = Path(settings["out"]), getattr(rank_zero_only, "rank", 0) == 0
    checkpoint, changed = _to_resume(settings)
    if checkpoint and lacks_best(Path(checkpoint), out / MODEL, settings):
        say(f"{out / MODEL} is missing: it will be the best model of the epochs to come")
    if first:
        files.write(out / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False))
    if number := launch.to_start(settings["trainer"]):
        launch.start(number, out / "config.yaml")
        return TrainedRun.of(out / MODEL)
    keep_freed_memory()
    pl.seed_everything(settings["seed"], workers=True, verbose=False)
    if changed:
        say(f"continuing from {checkpoint} with other settings: {'; '.join(changed)}")
    module, training, validation = prepare(settings, say)
    if checkpoint and (other := changed_data(Path(checkpoint), module.model)):
        say(f"continuing from {checkpoint} with other data: {', '.join(other)}")
    if first and checkpoint is None:
        _clear(out)
    trainer = _trainer(settings, out, training.batch_sampler)
    try:
        trainer.fit(module, training, validation, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as stop:  # Lightning exits with status 0 on SIGTERM
        raise InterruptedError(f"training was stopped; continue with resume=true out={out}") from stop
    return _finished(trainer, settings, say)


def _clear(out: Path) -> None:
    """Remove what an earlier run left in the folder, TensorBoard's curves included."""
    for name in _WRITTEN:
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "tensorboard", ignore_errors=True)


def _to_resume(settings: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """The checkpoint to continue from, or None, and the settings that differ from the checkpoint's."""
    resume, checkpoint = settings["resume"], Path(settings["out"]) / CHECKPOINT
    if resume is True and not checkpoint.is_file():
        raise ValueError(f"resume=true, but there is no {checkpoint}; start without resume")
    if not resume or not checkpoint.is_file():
        return None, []
    return str(checkpoint), changed_settings(checkpoint, settings)


def _finished(trainer: pl.Trainer, settings: Mapping[str, Any], say: Say) -> TrainedRun:
    """Say how training ended, and return the result."""
    out = Path(settings["out"])
    if not (out / MODEL).is_file():
        more = "; the run had all its epochs: trainer.max_epochs=N gives it more" if settings["resume"] else ""
        raise ValueError(f"no model was written: training ended before the first validation{more}")
    stopped, patience = trainer.early_stopping_callback.stopped_epoch, settings["patience"]  # type: ignore[union-attr]
    if 0 < stopped == trainer.current_epoch - 1:
        say(f"stopped early after epoch {stopped}: no lower validation loss in patience={patience} validations")
    result = TrainedRun.of(out / MODEL)
    names = [MODEL, "metrics.csv", "config.yaml", CHECKPOINT]
    names += ["worst.csv"] * settings["diagnosis"] + ["report.html"] * settings["report"]
    say("wrote " + ", ".join(str(out / name) for name in names))
    say(result.summary)
    return result


def _train_ensemble(settings: Mapping[str, Any], say: Say) -> TrainedRun:
    """Train members one after the other, each with its own seed and folder, and write one model of them all."""
    out, number = Path(settings["out"]), settings["ensemble"]
    members = [
        {**settings, "ensemble": 1, "seed": settings["seed"] + n, "out": str(out / f"member-{n + 1}")}
        for n in range(number)
    ]
    several = settings["start"] and describe(find(settings["start"]))["members"] > 1
    for n, member in enumerate(members, start=1):
        member["resume"] = "auto" if settings["resume"] else False
        member["member"] = n if several else None
        refuse_finished(member)
    for n, member in enumerate(members, start=1):
        say(f"member {n} of {number}")
        _train_one(member, say)
    if distributed.is_available() and distributed.is_initialized():  # the rest is for one process
        distributed.destroy_process_group()
    if getattr(rank_zero_only, "rank", 0) != 0:
        return TrainedRun.of(Path(members[0]["out"]) / MODEL)
    files.write(out / "config.yaml", yaml.safe_dump(dict(settings), sort_keys=False))
    module, _, validation = prepare({**settings, "fold": False, "freeze": []}, _silent)
    ensemble = assembled([Path(member["out"]) / MODEL for member in members], dict(settings))
    validate(ensemble, module, validation)
    ensemble.save(out / MODEL)
    result = TrainedRun.of(out / MODEL)
    say(f"wrote {result.model} of {number} members")
    say(result.summary)
    return result


def _trainer(settings: Mapping[str, Any], out: Path, sampler: Any) -> pl.Trainer:
    """Lightning's trainer with the logs, checkpoints and the early stop of a run."""
    check_number("patience", settings["patience"], 1)
    check_number("trainer.max_epochs", settings["trainer"].get("max_epochs"), -1)
    check_number("trainer.check_val_every_n_epoch", settings["trainer"].get("check_val_every_n_epoch"), 1)
    if settings["trainer"].get("limit_val_batches") == 0:
        raise ValueError("trainer.limit_val_batches=0: without validation no model is written; leave it out")
    epochs, every = (settings["trainer"].get(name) for name in ("max_epochs", "check_val_every_n_epoch"))
    if isinstance(epochs, int) and isinstance(every, int) and 0 < epochs < every:
        raise ValueError(
            f"trainer.max_epochs={epochs} ends before the first validation, and no model would be written; give "
            f"trainer.check_val_every_n_epoch={epochs} or less ({every} now)"
        )
    check_number("trainer.gradient_clip_val", settings["trainer"].get("gradient_clip_val"), 0)
    best = SaveBestModel(out / MODEL)
    return instantiate(
        settings["trainer"],
        **launch.environment_of(settings["trainer"]),
        default_root_dir=str(out),
        use_distributed_sampler=False,  # `EpochSampler` deals out an epoch without repetitions
        enable_model_summary=False,
        logger=[loggers.TensorBoardLogger(str(out), name="tensorboard", version="", default_hp_metric=False)],
        callbacks=[
            StopOnFault(out / CHECKPOINT),
            *([Diagnosis(out / "worst.csv")] if settings["diagnosis"] else []),
            best,
            *([Average(decay=settings["ema"])] if settings["ema"] else []),
            History(out / "metrics.csv"),
            SaveResumable(out / CHECKPOINT, sampler, settings["save_every"], settings),
            Hyperparameters(settings, best),
            *([WriteReport(out)] if settings["report"] else []),
            callbacks.EarlyStopping("val/loss", patience=settings["patience"]),
            callbacks.LearningRateMonitor("epoch"),
            *([callbacks.RichProgressBar(leave=False)] if settings["trainer"]["enable_progress_bar"] else []),
        ],
        _convert_="all",
    )


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """Let torch use this many threads for a while; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Give the caller's random numbers back at the end: Lightning seeds those of Python, NumPy and torch."""
    names = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the global generator, which is seeded
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(kept)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's remarks on the machine and on choices made on purpose, unless `--verbose` asks for them."""
    if logging.getLogger().isEnabledFor(logging.INFO):
        yield
        return
    names = ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.callbacks", "lightning_fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        for message in (
            "Experiment logs directory",
            ".*does not have many workers",
            ".*treespec, LeafSpec",
            "The number of training batches",
            ".*sync_dist=True",  # every process validates on everything
            ".*dataloader is not resumable",  # its sampler is
            "Detected call of .lr_scheduler.step",  # in float16 the first step may be left out
        ):
            warnings.filterwarnings("ignore", message)
        try:
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)

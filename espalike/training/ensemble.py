"""Ensembles: models trained one after the other, written as one model file with its own figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from espalike.batch import LabelledBatch
from espalike.bounds import check_number
from espalike.model import Ensemble, describe, find, load
from espalike.training.lightning import TrainingModule


def with_members(settings: Mapping[str, Any], say: Callable[[str], object]) -> dict[str, Any]:
    """The settings with the number of models to train; from an ensemble, each member is trained further.

    Args:
        settings: the settings of a run.
        say: takes a note where the number follows from `start`.

    Raises:
        ValueError: when `ensemble` or `member` do not fit the model that training starts from.
    """
    for name in ("ensemble", "member"):
        check_number(name, settings.get(name), 1)
    start, number, member = settings["start"], settings["ensemble"], settings.get("member")
    count = describe(find(start))["members"] if start else 1
    if member is not None and (member > count or count == 1 or number not in (None, 1)):
        raise ValueError(
            f"member={member}: expected the number of a model of an ensemble, without ensemble=; start={start} holds "
            f"{count} model{'s' * (count > 1)}"
        )
    if count > 1 and member is None and number not in (None, count):
        raise ValueError(
            f"ensemble={number}, but start={start} is an ensemble of {count} models. Leave ensemble out to train each "
            f"of them further, or train one of them: member=1 (to {count})"
        )
    if count > 1 and member is None:
        say(f"{start} is an ensemble: each of its {count} models is trained further")
    return {**settings, "ensemble": 1 if member else number or count}


def assembled(files: Sequence[Path], training: dict[str, Any]) -> Ensemble:
    """The ensemble of trained models.

    Args:
        files: model files of runs that differ only in their seed.
        training: the settings of the run.
    """
    members = [load(file) for file in files]
    ensemble = Ensemble(members)
    first = ensemble.provenance
    assert first is not None
    each = [{"seed": training["seed"] + i, **m.provenance.figures} for i, m in enumerate(members) if m.provenance]
    notes = {**first.notes, "training": training, "members": each}
    notes.pop("epoch", None)  # each member has its own
    ensemble.provenance = replace(first, figures={}, notes=notes)
    return ensemble


def validate(ensemble: Ensemble, module: TrainingModule, batches: DataLoader) -> None:
    """Add the validation errors and the spread of an ensemble to its figures.

    Args:
        ensemble: the ensemble.
        module: the training module of a member; the ensemble takes the place of its model.
        batches: validation batches.
    """
    assert ensemble.provenance is not None
    module.model = ensemble
    trainer = pl.Trainer(
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        devices=1,
        inference_mode=False,  # some forces are computed by autograd
    )
    (metrics,) = trainer.validate(module, batches, verbose=False)
    ensemble.to("cpu")
    ensemble.provenance.figures["validation"] = {
        name: round(value, 4) for name, value in metrics.items() if name == "val/loss" or name.endswith("_rmse")
    }
    ensemble.provenance.figures["spread"] = spread_over(ensemble, batches)


def spread_over(ensemble: Ensemble, batches: Iterable[LabelledBatch]) -> dict[str, float]:
    """Standard deviation of each parameter (`HarmonicBond.k`) over the members: its root mean square over batches."""
    sums: dict[str, list[float]] = {}
    for batch in batches:
        for bound in ensemble.deviation(replace(batch, level=torch.zeros_like(batch.level))).terms:
            for param, column in zip(bound.term.params, bound.values.double().unbind(-1), strict=True):
                total = sums.setdefault(f"{bound.term.name}.{param.name}", [0.0, 0.0])
                total[0] += float(column.square().sum())
                total[1] += len(column)
    return {name: float(f"{(square / count) ** 0.5:.4g}") for name, (square, count) in sums.items() if count}

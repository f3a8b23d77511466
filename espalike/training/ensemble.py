"""Ensembles: models trained from different seeds become one file, with figures of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from espalike.batch import Batch
from espalike.model import Ensemble, load
from espalike.training.lightning import TrainingModule


def assembled(files: Sequence[Path], training: dict[str, Any]) -> Ensemble:
    """The ensemble of trained models.

    Args:
        files: model files of runs that differ in their seed only.
        training: the configuration.
    """
    members = [load(file) for file in files]
    ensemble = Ensemble(members)
    first = ensemble.provenance
    assert first is not None
    each = [{"seed": training["seed"] + i, **m.provenance.figures} for i, m in enumerate(members) if m.provenance]
    notes = {**first.notes, "training": training, "members": each}
    notes.pop("epoch", None)  # each has its own
    ensemble.provenance = replace(first, figures={}, notes=notes)
    return ensemble


def validate(ensemble: Ensemble, module: TrainingModule, batches: DataLoader) -> None:
    """Add to an ensemble's figures its validation errors and how far its members lie apart.

    Args:
        ensemble: the ensemble.
        module: that of one of its members, whose model the ensemble replaces.
        batches: of validation.
    """
    assert ensemble.provenance is not None
    module.model = ensemble
    trainer = pl.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, devices=1
    )
    (found,) = trainer.validate(module, batches, verbose=False)
    ensemble.to("cpu")
    ensemble.provenance.figures["validation"] = {
        name: round(value, 4) for name, value in found.items() if name == "val/loss" or name.endswith("_rmse")
    }
    ensemble.provenance.figures["spread"] = spread_over(ensemble, batches)


def spread_over(ensemble: Ensemble, batches: Iterable[Batch]) -> dict[str, float]:
    """Root mean square over batches of the standard deviation of each parameter, `HarmonicBond.k`, in its unit."""
    sums: dict[str, list[float]] = {}
    for batch in batches:
        for bound in ensemble.deviation(replace(batch, level=None)).terms:
            for param, column in zip(bound.term.params, bound.values.double().unbind(-1), strict=True):
                total = sums.setdefault(f"{bound.term.name}.{param.name}", [0.0, 0.0])
                total[0] += float(column.square().sum())
                total[1] += len(column)
    return {name: float(f"{(square / count) ** 0.5:.4g}") for name, (square, count) in sums.items() if count}

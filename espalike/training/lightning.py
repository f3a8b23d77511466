"""The training module: losses of a batch, validation errors, optimizer and checkpoints, for Lightning's trainer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from espalike.batch import LabelledBatch
from espalike.energy import energy
from espalike.model import ForceFieldModel
from espalike.system import MMSystem, Prediction
from espalike.training.checkpoint import seal
from espalike.training.fold import with_zeros, without
from espalike.training.interactions import interaction_energies
from espalike.training.losses import centred, comparable
from espalike.training.objective import Objective
from espalike.training.processes import Means
from espalike.training.schedules import warmup_cosine

_MOST_ROWS = 2**16
"""Most conformers × atoms that validation computes at once: 2 kB of memory each."""


def sliced_energy(system: MMSystem, xyz: Tensor) -> Prediction:
    """Energies and forces of any number of conformers `xyz (K, N, 3)` [Å] in bounded memory, not differentiable."""
    most = max(1, _MOST_ROWS // xyz.shape[1])
    parts = [energy(system, part) for part in xyz.split(most)]
    if len(parts) == 1:
        return parts[0]
    forces = [part.forces for part in parts if part.forces is not None]
    by_term = zip(*(part.by_term for part in parts), strict=True)
    return Prediction(
        torch.cat([part.energy for part in parts]), torch.cat(forces), tuple(torch.cat(u) for u in by_term)
    )


def _named(total: Tensor, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses by the names under which they are logged."""
    return {"loss": total, **{f"{name}_loss": value for name, value in losses.items()}}


def _physics(batch: LabelledBatch) -> torch.autocast:
    """A context without mixed precision: energies, forces and losses have the precision of the coordinates."""
    return torch.autocast(batch.x.device.type, enabled=False)


class TrainingModule(pl.LightningModule):
    """Trains a `ForceFieldModel` on batches of labelled conformers.

    Args:
        model: the model.
        objective: the loss.
        optimizer: makes an optimizer from parameters, e.g. a `functools.partial` of `torch.optim.Adam`.
        sources: names of the data sources, in the order of `LabelledBatch.source`.
        schedule: learning rate over training, a function of `espalike.training.schedules`.
        folded: names of the terms that are subtracted from the labels of training batches, see
            `espalike.training.fold`.
        untrained: names of the terms that are not pulled towards their parameters at the start, since these are those
            of no model.

    Attributes:
        means: mean losses of the current epoch, of training (`train`) and validation (`val`).
    """

    def __init__(
        self,
        model: ForceFieldModel,
        objective: Objective,
        optimizer: Callable[[Iterable[torch.nn.Parameter]], Optimizer],
        sources: Sequence[str],
        schedule: Callable[[Optimizer, int], dict[str, Any]] = warmup_cosine,
        folded: Sequence[str] = (),
        untrained: Sequence[str] = (),
    ):
        super().__init__()
        self.model, self.objective, self.make_optimizer = model, objective, optimizer
        self.sources, self.schedule, self.folded = tuple(sources), schedule, tuple(folded)
        self.factors = objective.source_factors(self.sources)
        self.untrained = tuple(untrained)
        self.start = copy.deepcopy(model).requires_grad_(False) if objective.pull else None
        self.means = {"train": Means(), "val": Means()}
        self._sums: dict[tuple[str, str], list[float]] = {}
        self._steps = 1

    def predict(self, batch: LabelledBatch, training: bool = True) -> tuple[MMSystem, Prediction]:
        """Parameters, energies and forces of a batch; differentiable in training."""
        system = self.model(batch)
        with _physics(batch):
            if training:
                learned = without(system, self.folded)
                prediction = energy(learned, batch.xyz, create_graph=True)
                prediction = with_zeros(prediction, system, self.folded)
            else:
                prediction = sliced_energy(system, batch.xyz)
        return system, prediction

    def losses(self, system: MMSystem, prediction: Prediction, batch: LabelledBatch) -> dict[str, Tensor]:
        """Unweighted losses of a batch."""
        start = None if self.start is None else without(self.start(batch), self.untrained)
        with _physics(batch):
            return self.objective.losses(system, prediction, batch, self.factors, start)

    def _step(self, batch: LabelledBatch, training: bool) -> tuple[dict[str, Tensor], Tensor, MMSystem, Prediction]:
        system, prediction = self.predict(batch, training)
        losses = self.losses(system, prediction, batch)
        # validation takes the final weights of the losses, so that its losses can be compared
        return losses, self.objective.total(losses, self.progress() if training else 1.0), system, prediction

    def progress(self) -> float:
        """Share of training that is done, from 0 to 1."""
        return min(self.global_step / self._steps, 1.0)

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Tensor:
        """Loss of one batch; the callback `StopOnFault` checks that it is finite."""
        losses, total, *_ = self._step(batch, training=True)
        self.means["train"].add(_named(total, losses))
        self.log("loss", total, prog_bar=True, logger=False)
        return total

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Any]:
        """Losses and, per source, squared errors of one batch; the prediction is returned for the callbacks."""
        losses, total, system, prediction = self._step(batch, training=False)
        self.means["val"].add(_named(total, losses), batch.n_mols)
        self._add_errors(batch, system, prediction)
        return {"loss": total, "system": system, "prediction": prediction}

    def _add_errors(self, batch: LabelledBatch, system: MMSystem, prediction: Prediction) -> None:
        assert prediction.forces is not None
        known = comparable(batch)
        errors = {"energy": (centred(prediction.energy, known) - batch.energy, known, batch.source.expand_as(known))}
        known = batch.mask[:, batch.mol].unsqueeze(-1) & batch.forces.isfinite()
        source = batch.source[batch.mol].unsqueeze(-1).expand_as(known)
        errors["forces"] = (prediction.forces - batch.forces, known, source)
        if batch.interaction is not None:
            known = batch.mask & batch.interaction.isfinite()
            error = sum(interaction_energies(system, batch)) - batch.interaction
            errors["interaction"] = (error, known, batch.source.expand_as(known))
        for quantity, (error, where, of) in errors.items():
            for index, name in enumerate(self.sources):
                chosen = error[where & (of == index)].double()
                total = self._sums.setdefault((name, quantity), [0.0, 0.0])
                total[0] += float((chosen**2).sum())
                total[1] += chosen.numel()

    def on_validation_epoch_end(self) -> None:
        """Log losses and, per source, root mean square errors of energies, forces and interaction energies."""
        for name, value in self.means["val"].pop().items():
            self.log(f"val/{name}", value, prog_bar=name == "loss")
        for (source, quantity), (square, count) in self._sums.items():
            if count:
                self.log(f"val/{source}/{quantity}_rmse", (square / count) ** 0.5)
        self._sums = {}

    def configure_optimizers(self) -> Any:
        """The optimizer, and its learning rate over all steps."""
        optimizer = self.make_optimizer(self.model.parameters())
        steps = self.trainer.estimated_stepping_batches
        if steps == math.inf:
            raise ValueError("trainer.max_epochs=-1: the learning rate needs an end; give it, or trainer.max_steps")
        steps = self._steps = max(int(steps), 1)
        return {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer, steps)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the means of an unfinished epoch, the model's levels of theory, and the hash of all."""
        checkpoint["means"] = {stage: means.state() for stage, means in self.means.items()}
        checkpoint["levels"] = list(self.model.levels)
        seal(checkpoint)  # Lightning adds nothing after this

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the means.

        Raises:
            ValueError: when the data has other levels of theory than the checkpoint's model, or it has other weights.
        """
        levels, before = list(self.model.levels), checkpoint.get("levels", list(self.model.levels))
        if levels != before:
            raise ValueError(
                f"the checkpoint's model has levels of theory {', '.join(before)}, the data {', '.join(levels)}: give "
                "the same data.stores and data.level, or begin another run with start=OUT/model.espalike out=ANOTHER"
            )
        states = self.state_dict(), checkpoint["state_dict"]
        expected, given = ({name: tuple(value.shape) for name, value in state.items()} for state in states)
        if odd := next((name for name in {**expected, **given} if expected.get(name) != given.get(name)), None):
            raise ValueError(
                f"the checkpoint's weights are not those of this model: {odd} has shape {given.get(odd)}, expected "
                f"{expected.get(odd)}; it is of another version of espalike. Begin another run with "
                "start=OUT/model.espalike out=ANOTHER"
            )
        for stage, state in checkpoint.get("means", {}).items():
            self.means[stage].restore(state)

    def transfer_batch_to_device(
        self, batch: LabelledBatch, device: torch.device, dataloader_idx: int
    ) -> LabelledBatch:
        """Move a batch field by field."""
        return batch.to(device)

"""Callbacks that watch a run: they stop it at numbers that are not finite, log gradients and terms, list molecules."""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from espalike.batch import LabelledBatch
from espalike.chem.picture import plain_smiles
from espalike.contributions import root_mean_squares, sums, term_forces
from espalike.data.sampler import EpochSampler, Picks, WholeEntries
from espalike.model import ForceFieldModel
from espalike.system import Prediction
from espalike.training.faults import find_fault
from espalike.training.lightning import TrainingModule
from espalike.training.losses import centred, comparable
from espalike.training.processes import gathered, n_processes
from espalike.training.tables import read_rows, write_rows

_FRAMES, _EVERY = 2, 4
"""Forces of each term are expensive: computed for `_FRAMES` conformers per entry, in one of `_EVERY` batches."""


class NotFinite(ValueError):
    """Something that training computes is not a finite number."""


def entries_of(loader: Any) -> Any:
    """The `StoreDataset` of a loader."""
    data = getattr(loader, "dataset", None)
    return getattr(data, "dataset", data)


def _scaled(trainer: pl.Trainer) -> bool:
    """Whether the loss is multiplied by a scale, so that gradients do not vanish in float16.

    Then infinite gradients are not a fault: the trainer skips the step and reduces the scale.
    """
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler is not None and scaler.get_scale() > 1.0


def _gradients(parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


class StopOnFault(pl.Callback):
    """Stops the run before a step that is not finite, with a message about molecule, term and stage.

    The weights and the checkpoint remain those before the step.

    Args:
        checkpoint: the checkpoint, for the message.
    """

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint
        self._batches: list[
            tuple[int, LabelledBatch]
        ] = []  # since the last step; several when gradients are accumulated
        self._losses: list[Tensor] = []
        self._weights: list[torch.nn.Parameter] = []
        self._message: str | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the batches of this step."""
        self._batches.append((batch_idx, batch))

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss; it is checked once per step."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Stop when loss or gradients are not finite.

        Raises:
            NotFinite: in all processes; gradients are means over the processes, so that all see it. A loss that is not
                finite while its gradients are does no harm, and is checked only in runs of one process.
        """
        assert isinstance(module, TrainingModule)
        self._weights = self._weights or list(module.parameters())
        norm = get_total_norm(_gradients(self._weights))
        loss = sum(self._losses if n_processes() == 1 else [], torch.zeros_like(norm))  # empty after a skipped step
        if not bool((norm + loss).isfinite()) and not (bool(loss.isfinite()) and _scaled(trainer)):
            messages = (
                _described(trainer, module, trainer.train_dataloader, number, batch) for number, batch in self._batches
            )
            self._raise(trainer, next((f"training {message}" for message in messages if message), None))
        self._batches, self._losses = [], []

    def _raise(self, trainer: pl.Trainer, message: str | None) -> None:
        """Raise the messages of all processes in every process."""
        messages = [each for each in gathered(message) if each] or ["the norm of the gradients overflows"]
        raise NotFinite(
            f"epoch {trainer.current_epoch}, {'; '.join(messages)}\nThe checkpoint {self.checkpoint} is from before: "
            "correct or remove the data, or lower the learning rate, and continue with resume=true"
        )

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Look for a fault where the loss is not finite; all processes validate on the same batches."""
        assert isinstance(module, TrainingModule)
        if self._message is None and not bool(outputs["loss"].isfinite()):
            message = _described(trainer, module, trainer.val_dataloaders, batch_idx, batch, training=False)
            self._message = f"validation {message or f'batch {batch_idx}: the loss is not finite'}"

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop when validation was not finite.

        Raises:
            NotFinite: in all processes.
        """
        if any(gathered(self._message)):
            self._raise(trainer, self._message)


def _described(
    trainer: pl.Trainer, module: TrainingModule, loader: Any, number: int, batch: Any, training: bool = True
) -> str | None:
    """A message about the fault in a batch of a loader; None when all numbers are finite."""
    precision, picks = trainer.precision_plugin.forward_context, _picks(loader, number)
    if picks is not None:
        parts = picks.split(np.ones(len(picks), int))
        alone = ((loader.dataset.__getitems__(part).to(module.device), part.conformers.tolist()) for part in parts)
        if fault := find_fault(module, alone, precision, training):
            return f"batch {number}: {fault.message([entries_of(loader).name_of(entry) for entry in picks.entries])}"
    whole = (batch, range(batch.mask.shape[0]))  # sums over several molecules may overflow
    if fault := find_fault(module, [whole], precision, training):
        return f"batch {number}: {fault.message(['all molecules of the batch together'])}"
    return None


def _picks(loader: Any, number: int) -> Picks | None:
    """Entries and conformers of a loader's batch in this epoch; None when the loader does not draw from a data set."""
    sampler = getattr(loader, "batch_sampler", None)
    if not isinstance(sampler, EpochSampler | WholeEntries):
        return None
    epoch, done = getattr(sampler, "start", (None, 0))  # in a resumed epoch, the sampler skips the first batches
    skipped = done if epoch == getattr(sampler, "epoch", -1) else 0
    return next(islice(sampler, number - skipped, None))


def heads(model: ForceFieldModel) -> dict[str, list[torch.nn.Parameter]]:
    """Weights by part of the model: `encoder`, each head (named by its terms), each universal parameter."""
    parts = {"encoder": list(model.encoder.parameters())}
    parts |= {name: list(head.parameters()) for name, head in zip(model.heads.names, model.heads, strict=True)}
    parts |= {name: [parameter] for name, parameter in model.heads.named_parameters(recurse=False)}
    return {name: weights for name, weights in parts.items() if weights}


class Diagnosis(pl.Callback):
    """Logs gradients of heads and contributions of terms, and lists the worst molecules of each validation.

    For each epoch, `metrics.csv` has `train/grad/HEAD`, the mean norm of the gradients of a head's weights before
    clipping, and `val/term/TERM/energy_rms` [kcal/mol] and `val/term/TERM/forces_rms` [kcal/mol/Å]: the root mean
    square contribution of a term to energy differences between conformers and to forces. Forces are sampled: two
    conformers of each entry in every fourth batch.

    Args:
        worst: the file with the worst molecules.
        count: number of molecules per validation.
    """

    def __init__(self, worst: Path, count: int = 10):
        self.worst, self.count = worst, count
        self._heads: dict[str, list[torch.nn.Parameter]] = {}
        self._terms: Tensor | None = None
        self._entries: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Norms of this step's gradients, averaged over the epoch with the losses."""
        assert isinstance(module, TrainingModule)
        self._heads = self._heads or heads(module.model)
        norms = {f"grad/{name}": get_total_norm(_gradients(of)) for name, of in self._heads.items()}
        if not _scaled(trainer) or bool(torch.stack([*norms.values()]).isfinite().all()):
            module.means["train"].add(norms)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Add up contributions of terms and errors of entries."""
        system, prediction = outputs["system"], outputs["prediction"]
        forces = prediction.forces.new_zeros(len(system.terms), 0)
        if batch_idx % _EVERY == 0:
            forces = term_forces(system, _frames(batch))
        part = sums(prediction.by_term, batch.mask, forces)
        self._terms = part if self._terms is None else self._terms + part
        self._entries.append(entry_errors(batch, prediction).cpu())

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log contributions and list the worst entries."""
        assert isinstance(module, TrainingModule)
        if self._terms is not None:
            for term, (of_energy, of_forces) in zip(
                module.model.terms, root_mean_squares(self._terms).tolist(), strict=True
            ):
                module.log(f"val/term/{term.name}/energy_rms", of_energy)
                module.log(f"val/term/{term.name}/forces_rms", of_forces)
        if self._entries and trainer.is_global_zero and not trainer.sanity_checking:
            self._list_worst(trainer, module, torch.cat(self._entries).numpy())
        self._terms, self._entries = None, []

    def _list_worst(self, trainer: pl.Trainer, module: TrainingModule, entries: np.ndarray) -> None:
        """Append the rows of this epoch to those of earlier epochs; `entries` are `entry_errors`."""
        scales = module.objective.scales
        errors = np.nansum((entries[:, 3:] / [scales.energy, scales.forces]) ** 2, axis=1)
        data = entries_of(trainer.val_dataloaders)
        rows = self._earlier(trainer.current_epoch)
        for rank, position in enumerate(np.argsort(-errors, kind="stable")[: self.count], start=1):
            entry, source, conformers = entries[position, :3].astype(int).tolist()
            energy, forces = ("" if np.isnan(error) else f"{error:.4f}" for error in entries[position, 3:])
            row = {
                "epoch": trainer.current_epoch,
                "rank": rank,
                "entry": data.name_of(entry),
                "smiles": plain_smiles(data.molecule(entry)),
                "source": module.sources[source],
                "conformers": conformers,
                "energy_rmse": energy,
                "forces_rmse": forces,
            }
            rows.append({name: str(value) for name, value in row.items()})
        write_rows(self.worst, rows)

    def _earlier(self, epoch: int) -> list[dict[str, str]]:
        """The rows of epochs before one; none where the file is not such a table, which ends no training."""
        try:
            return [row for row in read_rows(self.worst) if int(row["epoch"]) < epoch and None not in row]
        except (ValueError, KeyError, TypeError, csv.Error):
            rank_zero_warn(f"{self.worst} is not the table of worst molecules that was written; it begins anew")
            return []


def _frames(batch: LabelledBatch) -> Tensor:
    """Some conformers of each molecule, evenly spaced in their order [Å], shape `(_FRAMES, N, 3)`; none is masked."""
    counts, atoms = batch.mask.sum(0)[batch.mol], torch.arange(len(batch.mol), device=batch.mol.device)
    return torch.stack([batch.xyz[counts * i // _FRAMES, atoms] for i in range(_FRAMES)])


def entry_errors(batch: LabelledBatch, prediction: Prediction) -> Tensor:
    """Errors of each molecule, shape `(M, 5)`, float64.

    The columns are the entry, the index of its source, the number of conformers, and the root mean square errors of
    energies [kcal/mol] and of forces [kcal/mol/Å], which are NaN where nothing can be compared.
    """
    assert prediction.forces is not None
    known = comparable(batch)
    error = centred(prediction.energy, known) - torch.where(known, batch.energy, 0.0)
    energy = ((error.double() ** 2).sum(0) / known.sum(0)).sqrt()
    known = batch.mask[:, batch.mol].unsqueeze(-1) & batch.forces.isfinite()
    squares = torch.where(known, prediction.forces - batch.forces, 0.0).double() ** 2
    zero = torch.zeros(batch.n_mols, dtype=torch.float64, device=squares.device)
    square = zero.index_add(0, batch.mol, squares.sum((0, 2)))
    number = zero.index_add(0, batch.mol, known.sum((0, 2)).double())
    columns = (batch.entry, batch.source, batch.mask.sum(0), energy, (square / number).sqrt())
    return torch.stack([column.double() for column in columns], dim=1)

"""What happens beside training: the best model is written at once, curves are drawn at the end."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging

from espalike.training.lightning import TrainingModule


class SaveBestModel(pl.Callback):
    """Writes the self-contained model file whenever the validation loss is the best so far.

    Args:
        path: where to write.
        monitor: the logged value to minimise.
    """

    def __init__(self, path: Path, monitor: str = "val/loss"):
        self.path, self.monitor, self.best = path, monitor, float("inf")

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save when better; Lightning's sanity check does not count."""
        assert isinstance(module, TrainingModule)
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or value is None or not trainer.is_global_zero or float(value) >= self.best:
            return
        self.best = float(value)
        assert module.model.provenance is not None
        module.model.provenance.figures["validation"] = {
            name: round(float(metric), 4)
            for name, metric in trainer.callback_metrics.items()
            if name == self.monitor or name.endswith("_rmse")
        }
        module.model.provenance.notes["epoch"] = trainer.current_epoch
        module.model.save(self.path)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, kept in checkpoints so that a resumed run does not overwrite a better model."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value."""
        self.best = state_dict["best"]


class Average(EMAWeightAveraging):
    """Lightning's moving average of the weights, in place as long as validation lasts, for `SaveBestModel` too.

    It comes behind the callbacks that use the average. After training the weights stay as they were trained, so that
    the last checkpoint can be gone on from.
    """

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the average for a little longer."""

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Put the trained weights back."""
        super().on_validation_epoch_end(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the trained weights."""


class History(pl.Callback):
    """Writes `metrics.csv`, one row an epoch: losses, validation errors, learning rate.

    The rows are part of checkpoints: a resumed run writes the file that an uninterrupted one would have written.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._rows: list[dict[str, float]] = []
        self._validation: dict[str, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take what validation found."""
        metrics = trainer.callback_metrics.items()
        self._validation = {name: float(value) for name, value in metrics if name.startswith("val/")}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Add a row and write the file."""
        assert isinstance(module, TrainingModule)
        train = {f"train/{name}": value for name, value in module.means["train"].pop().items()}
        module.log_dict(train)  # for other loggers
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": rate, **train, **self._validation}
        self._rows, self._validation = [*self._rows, row], {}
        if trainer.is_global_zero:
            _write_table(self.path, self._rows)

    def state_dict(self) -> dict[str, Any]:
        """All rows so far."""
        return {"rows": self._rows, "validation": self._validation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the rows of the run that is resumed."""
        self._rows, self._validation = list(state_dict["rows"]), dict(state_dict["validation"])


def _write_table(path: Path, rows: list[dict[str, float]]) -> None:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def draw_curves(metrics: Path, figure: Path) -> None:
    """Losses and validation errors against epochs, from `metrics.csv`."""
    from matplotlib.figure import Figure

    with open(metrics, newline="") as file:
        rows = list(csv.DictReader(file))

    def series(name: str) -> tuple[list[float], list[float]]:
        pairs = [(float(row["epoch"]), float(row[name])) for row in rows if row.get(name)]
        return [epoch for epoch, _ in pairs], [value for _, value in pairs]

    names = sorted({name for row in rows for name in row})
    panels = [
        ("loss", [name for name in names if name.endswith("/loss")]),
        ("energy RMSE [kcal/mol]", [name for name in names if name.endswith("energy_rmse")]),
        ("force RMSE [kcal/mol/Å]", [name for name in names if name.endswith("forces_rmse")]),
    ]
    drawing = Figure(figsize=(13, 4), layout="constrained")
    for axes, (title, columns) in zip(drawing.subplots(1, 3), panels, strict=True):
        for column in columns:
            axes.plot(
                *series(column), label=column.removesuffix("_rmse").removesuffix("/energy").removesuffix("/forces")
            )
        axes.set(xlabel="epoch", ylabel=title, yscale="log")
        if columns:
            axes.legend(fontsize=7)
    drawing.savefig(figure, dpi=120)

"""Callbacks of a training run: the best model, the average of the weights, metrics, hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EMAWeightAveraging

from espalike.bounds import check_number
from espalike.training.lightning import TrainingModule
from espalike.training.tables import write_rows


class SaveBestModel(pl.Callback):
    """Writes the self-contained model file whenever the validation loss is the best so far.

    Args:
        path: where to write.
        monitor: the logged value to minimise.

    Attributes:
        best: the lowest value so far.
        figures: validation loss and errors of that model; empty before the first validation.
    """

    def __init__(self, path: Path, monitor: str = "val/loss"):
        self.path, self.monitor, self.best = path, monitor, float("inf")
        self.figures: dict[str, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save when the loss is the lowest; Lightning's sanity check does not count."""
        assert isinstance(module, TrainingModule)
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or value is None or float(value) >= self.best:
            return
        self.best = float(value)
        self.figures = {
            name: round(float(metric), 4)
            for name, metric in trainer.callback_metrics.items()
            if name == self.monitor or name.endswith("_rmse")
        }
        if not trainer.is_global_zero:
            return
        assert module.model.provenance is not None
        module.model.provenance.figures["validation"] = self.figures
        module.model.provenance.notes["epoch"] = trainer.current_epoch
        module.model.save(self.path)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, so that a resumed run does not overwrite a better model."""
        return {"best": self.best, "figures": self.figures}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value, if its model is still there."""
        if self.path.is_file():
            self.best, self.figures = state_dict["best"], state_dict.get("figures", {})


class Average(EMAWeightAveraging):
    """Lightning's moving average of the weights, in use during validation and while `SaveBestModel` writes.

    It must come after the callbacks that use the average. After training, the module keeps the trained weights, so that
    training can continue from the last checkpoint.

    Args:
        decay: share of the average that is kept at each step, above 0 and below 1 (`ema`).
    """

    def __init__(self, decay: float):
        check_number("ema", decay, 0, 1)
        if decay >= 1:
            raise ValueError(f"ema={decay}: expected a number below 1, e.g. 0.999, or null for no average")
        super().__init__(decay=decay)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the average in place: callbacks after validation use it, too."""

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Put the trained weights back."""
        super().on_validation_epoch_end(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the trained weights."""


class History(pl.Callback):
    """Writes `metrics.csv`, one row per epoch: losses, validation errors, learning rate.

    The rows are part of checkpoints: a resumed run writes the file that an uninterrupted one would have written.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._rows: list[dict[str, float]] = []
        self._validation: dict[str, float] = {}

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the figures of this validation."""
        metrics = trainer.callback_metrics.items()
        self._validation = {name: float(value) for name, value in metrics if name.startswith("val/")}

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Add a row and write the file."""
        assert isinstance(module, TrainingModule)
        train = {f"train/{name}": value for name, value in module.means["train"].pop().items()}
        module.log_dict(train)  # for TensorBoard
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step, "lr": rate, **train, **self._validation}
        self._rows, self._validation = [*self._rows, row], {}
        if trainer.is_global_zero:
            write_rows(self.path, self._rows)

    def state_dict(self) -> dict[str, Any]:
        """All rows so far."""
        return {"rows": self._rows, "validation": self._validation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of a run that is resumed."""
        self._rows, self._validation = list(state_dict["rows"]), dict(state_dict["validation"])


class Hyperparameters(pl.Callback):
    """Logs the settings to TensorBoard, with the best model's loss and errors as their metrics.

    Args:
        settings: of the run, plain data.
        best: the callback that knows the best model.
    """

    def __init__(self, settings: Mapping[str, Any], best: SaveBestModel):
        self.settings, self.best = settings, best

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log the settings; the metrics are not known yet."""
        assert isinstance(module, TrainingModule)
        names = [f"val/{source}/{quantity}_rmse" for source in module.sources for quantity in ("energy", "forces")]
        if trainer.logger is not None:
            trainer.logger.log_hyperparams(dict(self.settings), self._metrics([self.best.monitor, *names]))  # type: ignore[call-arg]

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log the metrics of the best model."""
        if trainer.logger is not None:
            trainer.logger.log_metrics(self._metrics(list(self.best.figures)), trainer.global_step)

    def _metrics(self, names: list[str]) -> dict[str, float]:
        return {f"best/{name.removeprefix('val/')}": self.best.figures.get(name, float("nan")) for name in names}

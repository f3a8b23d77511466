"""What the trainer costs beside the training steps.

python benchmarks/train_loop.py [--epochs 20] [--rounds 5] [SETTINGS]

Trains the quickstart's model, or that of SETTINGS (hydra overrides), with three loops over the same batches, in turns,
on one thread: a bare loop of steps and validations, which keeps the best model; Lightning's trainer alone; and the
trainer of `espalike train` with its checkpoints, tables, curves and diagnosis. Times are medians of the processor per
epoch, without the preparation of the data.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from espalike.batch import LabelledBatch
from espalike.data.sampler import EpochSampler
from espalike.settings import compose
from espalike.training import run
from espalike.training.lightning import TrainingModule
from espalike.training.memory import keep_freed_memory
from espalike.training.prepare import prepare

Loader = DataLoader[LabelledBatch]
Loop = Callable[[dict, Path, TrainingModule, Loader, Loader], None]


def bare(settings: dict, out: Path, module: TrainingModule, training: Loader, validation: Loader) -> None:
    """Steps, validations and the best model."""
    epochs, sampler = settings["trainer"]["max_epochs"], training.batch_sampler
    assert isinstance(sampler, EpochSampler)
    steps, step, best = epochs * len(sampler), 0, float("inf")
    optimizer = module.make_optimizer(module.model.parameters())
    scheduler = module.schedule(optimizer, steps)["scheduler"]
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        module.train()
        for batch in training:
            system, prediction = module.predict(batch)
            total = module.objective.total(module.losses(system, prediction, batch), step / steps)
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), settings["trainer"]["gradient_clip_val"])
            optimizer.step()
            scheduler.step()
            step += 1
        module.eval()
        loss = count = 0.0
        with torch.no_grad():
            for number, batch in enumerate(validation):
                loss += float(module.validation_step(batch, number)["loss"]) * batch.n_mols
                count += batch.n_mols
        module.means["val"].pop()
        if loss / count < best:
            best = loss / count
            module.model.save(out / run.MODEL)


def lightning(settings: dict, out: Path, module: TrainingModule, training: Loader, validation: Loader) -> None:
    """Lightning's trainer with the settings of the run, but without loggers and callbacks."""
    own = {name: value for name, value in settings["trainer"].items() if name != "_target_"}
    own |= {"enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False, "logger": False}
    pl.Trainer(**own, use_distributed_sampler=False).fit(module, training, validation)


def whole(settings: dict, out: Path, module: TrainingModule, training: Loader, validation: Loader) -> None:
    """The trainer of `espalike train`."""
    run._trainer(settings, out, training.batch_sampler).fit(module, training, validation)


LOOPS: dict[str, Loop] = {"bare loop": bare, "Lightning alone": lightning, "espalike train": whole}


def seconds(loop: Loop, overrides: list[str], out: Path) -> float:
    """Time of the processor of one training in a new folder [s]."""
    out.mkdir()
    settings = compose("train", [*overrides, f"out={out}"])
    pl.seed_everything(settings["seed"], workers=True, verbose=False)
    parts = prepare(settings, lambda _: None)
    begin = time.process_time()
    with run._quiet():
        loop(settings, out, *parts)
    return time.process_time() - begin


def main() -> None:
    """Train in turns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("settings", nargs="*", default=["experiment=quickstart"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    keep_freed_memory()
    quiet = ["trainer.enable_progress_bar=false", f"trainer.max_epochs={arguments.epochs}"]
    times: dict[str, list[float]] = {name: [] for name in LOOPS}
    for number in range(arguments.rounds + 1):
        for name, loop in LOOPS.items():
            with tempfile.TemporaryDirectory() as folder:
                took = seconds(loop, [*arguments.settings, *quiet], Path(folder) / "run")
            if number:  # the first round warms up
                times[name].append(took / arguments.epochs)
    table = Table("loop", "CPU [ms/epoch]", "ratio", title=" ".join(arguments.settings))
    reference = statistics.median(times["bare loop"])
    for name, of in times.items():
        table.add_row(name, f"{1e3 * statistics.median(of):.0f}", f"{statistics.median(of) / reference:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()

"""The cost of diagnosis: python benchmarks/diagnosis.py [--rounds 9] [--json FILE]

Processor time of one thread, median over rounds; 32 drug-like molecules (43 atoms on average) with 32 geometries each,
single precision, a network of about 0.5 million weights, class I.

  stop       check of every step for numbers that are not finite, as a share of the step
  gradients  gradient norms of heads, as a share of the step
  terms      contributions of terms and errors of molecules, as a share of the validation step
  epoch      all of these as a share of an epoch in which one conformer in ten is validated on
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from train_step import CONFORMERS, MOLECULES, labelled, network

from espalike.training.diagnosis import Diagnosis, StopOnFault
from espalike.training.lightning import TrainingModule
from espalike.training.objective import Objective


def seconds(of: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = of()
    return time.process_time() - start, result


def round_of(module: TrainingModule, optimizer: torch.optim.Optimizer, batch: Any, stop: Any, diagnosis: Any) -> dict:
    """Times of a training and a validation step and of their diagnosis [s]."""
    trainer: Any = SimpleNamespace(precision_plugin=None)  # more is needed only when a number is not finite

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = module.training_step(batch, 0)
        loss.backward()
        optimizer.step()
        return loss

    def watch(loss: torch.Tensor) -> None:
        stop.on_train_batch_start(trainer, module, batch, 0)
        stop.on_before_backward(trainer, module, loss)
        stop.on_before_optimizer_step(trainer, module, optimizer)

    times = {}
    times["step"], loss = seconds(step)
    times["stop"], _ = seconds(lambda: watch(loss))
    times["gradients"], _ = seconds(lambda: diagnosis.on_before_optimizer_step(trainer, module, optimizer))
    with torch.no_grad():
        times["validation"], outputs = seconds(lambda: module.validation_step(batch, 0))
        four = range(4)  # batches; forces of terms are computed for one of them
        times["terms"], _ = seconds(
            lambda: [diagnosis.on_validation_batch_end(trainer, module, outputs, batch, i) for i in four]
        )
        times["terms"] /= len(four)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", ".*self.log.*")
    torch.set_num_threads(1)
    batch = labelled(MOLECULES, CONFORMERS, torch.float32, "cpu")
    module = TrainingModule(network("class1", 128, folded=False), Objective(), torch.optim.Adam, ["all"])
    optimizer = torch.optim.Adam(module.parameters(), 1e-4)
    stop, diagnosis = StopOnFault(Path("last.ckpt")), Diagnosis(Path("worst.csv"))
    rounds = [round_of(module, optimizer, batch, stop, diagnosis) for _ in range(options.rounds + 1)][1:]
    middle = {name: statistics.median(r[name] for r in rounds) for name in rounds[0]}
    extra = middle["stop"] + middle["gradients"] + 0.1 * middle["terms"]
    figures = {
        "step_ms": 1e3 * middle["step"],
        "stop_share": middle["stop"] / middle["step"],
        "gradients_share": middle["gradients"] / middle["step"],
        "validation_ms": 1e3 * middle["validation"],
        "terms_share": middle["terms"] / middle["validation"],
        "epoch_share": extra / (middle["step"] + 0.1 * middle["validation"]),
    }
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name, f"{value:.1f}" if name.endswith("_ms") else f"{100 * value:.2f} %")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

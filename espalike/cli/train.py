"""`espalike train`: composes the settings, trains, and says where the results are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

HELP = """usage: espalike train [key=value ...]

Train a force field: a graph network that predicts its parameters from the molecular graph.

  espalike train experiment=quickstart trainer.max_epochs=50
  espalike train experiment=quickstart conv=gat model.width=64 optimizer.lr=1e-3 out=runs/gat
  espalike train 'data.stores=[store/mine,sample]' out=runs/mine
  espalike train experiment=quickstart out=runs/quickstart resume=true
  espalike train experiment=quickstart optimizer.lr=1e-3,2e-3 model=tiny,small out=runs/sweep --multirun

Writes to out=DIR: model.espalike (the best model on the validation split), metrics.csv, config.yaml, last.ckpt (to
resume from), worst.csv (the worst validation molecules of each epoch) and TensorBoard logs (tensorboard --logdir DIR).
A folder that holds a finished run is refused; overwrite=true replaces the run, resume=true continues it.

  data.epoch=entries|conformers  an epoch contains a sample of each entry (default), or each conformer exactly once
  data.batch_size=, data.conformers=   numbers of entries per step, and of conformers (at most) of each entry
  data.workers=N                 processes that load batches; useful where a step takes milliseconds, as on a GPU
  trainer=cpu|gpu|ddp|slurm      hardware; trainer.precision=bf16-mixed runs the network, not the physics, in bfloat16
  threads=N                      CPU threads of torch (default 1; null: torch's choice)
  schedule=warmup_cosine|constant|plateau   learning rate over training
  report=true                    also write report.html: curves, terms, worst molecules, parameters
  start=MODEL, freeze=[...]      train a model further, some parts fixed; see experiment=finetune, experiment=bespoke
  convert=true                   with start: keep the model's network, but take the force field from forcefield=
  objective.half_weight_at=E     geometries E kcal/mol above the lowest of their entry count half, higher ones less
  ensemble=N                     train N models with different seeds and write all of them to one file; if start= is an
                                 ensemble, each of its models is trained (member=1: only the first)
  save_every=N, resume=true|auto write a checkpoint every N steps; continue from it (auto: if there is one)

Groups: forcefield, term, conv (sage, gin, gat, dgl_sage, ...), model, objective, optimizer, schedule, data, trainer,
experiment.
"""


def run(cfg: DictConfig) -> int:
    """Train as configured and say where the results are.

    Raises:
        ValueError: see `espalike.training.run.train`.
    """
    from espalike.training.run import train

    train(cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True)), _chosen(), print)
    return 0


def objective(out: str | Path) -> float:
    """The lowest validation loss of a run, or the mean over the members of an ensemble; sweeps minimise it."""
    from espalike.training.tables import read_rows

    folder = Path(out)
    tables = [folder / "metrics.csv"] if (folder / "metrics.csv").is_file() else folder.glob("member-*/metrics.csv")
    lowest = [min(float(row["val/loss"]) for row in read_rows(table) if row["val/loss"]) for table in tables]
    return sum(lowest) / len(lowest)


def _chosen() -> list[str]:
    """Dotted paths of the settings on the command line, if there is one."""
    from hydra.core.hydra_config import HydraConfig

    from espalike.settings import chosen

    return chosen(list(HydraConfig.get().overrides.task)) if HydraConfig.initialized() else []

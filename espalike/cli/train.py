"""`espalike train`: stores and a configuration to a model file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf

from espalike.cli.numbers import check_numbers

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from espalike.data.dataset import StoreDataset
    from espalike.data.store import Store
    from espalike.model import ForceFieldModel
    from espalike.training.lightning import TrainingModule

HELP = """
Train a force field: a graph network that reads class I parameters off the molecular graph.

  espalike train experiment=quickstart trainer.max_epochs=50
  espalike train experiment=quickstart conv=gat model.width=64 optimizer.lr=1e-3 out=runs/gat
  espalike train 'data.stores=[store/mine,sample]' out=runs/mine
  espalike train experiment=quickstart out=runs/quickstart resume=true
  espalike train experiment=quickstart optimizer.lr=1e-3,2e-3 model=tiny,small out=runs/sweep --multirun

Writes to out=DIR: model.espalike (best on the validation split), metrics.csv, curves.png, config.yaml,
last.ckpt (to resume from), worst.csv (the worst validation molecules of each epoch) and TensorBoard logs
(tensorboard --logdir DIR).

  data.epoch=entries|conformers  an epoch has a sample of every entry (default), or every conformer exactly once
  data.batch_size=, data.conformers=   entries in a step, and most conformers of each
  data.workers=N                 processes that load batches; they pay off where a step takes milliseconds, on a GPU
  trainer=cpu|gpu|ddp|slurm      where; trainer.precision=bf16-mixed runs the network, not the physics, in bfloat16
  schedule=warmup_cosine|constant|plateau   learning rate over training
  report=true                    also report.html: curves, terms, worst molecules drawn, parameters, on one page
  start=MODEL, freeze=[...]      go on from a model, some of it as it is; experiment=finetune, experiment=bespoke
  ensemble=N                     N models from different seeds, as one model file with their spread
  save_every=N, resume=true|auto checkpoint every N steps too; go on from it (auto: where there is one)

Groups: forcefield, term, conv (sage, gin, gat, dgl_sage, ...), model, objective, optimizer, schedule, data, trainer,
experiment.
"""


def run(cfg: DictConfig) -> int:
    """Train as configured and say where the results are.

    Raises:
        ValueError: when configuration and data do not fit, or data leaks across the split.
    """
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.utilities import rank_zero_only

    from espalike.training import launch
    from espalike.training.memory import keep_freed_memory

    check_numbers(cfg)
    if cfg.ensemble != 1:
        return _ensemble(cfg)
    out = Path(cfg.out)
    out.mkdir(parents=True, exist_ok=True)
    plain = _plain(cfg)
    first = getattr(rank_zero_only, "rank", 0) == 0  # of several processes, the one that speaks and writes
    checkpoint, changed = _to_resume(out, plain)
    if first:
        _write_config(out / "config.yaml", plain)
    if number := launch.to_start(plain["trainer"]):
        launch.start(number, out / "config.yaml")
        return 0
    keep_freed_memory()
    if cfg.threads:
        torch.set_num_threads(cfg.threads)
    seed = pl.seed_everything(cfg.seed, workers=True, verbose=False)
    with nullcontext() if first else redirect_stdout(io.StringIO()):
        if changed:
            print(f"going on from {checkpoint} with other settings: {'; '.join(changed)}")
        module, loaders = _prepared(plain, seed)
    trainer = _trainer(plain, out, loaders[0].batch_sampler)
    try:
        trainer.fit(module, *loaders, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as stop:  # Lightning leaves by the front door, status 0, when it is told to stop
        raise InterruptedError(f"training was stopped; go on with resume=true out={out}") from stop
    if first:
        _finish(trainer, out, plain)
    return 0


def _ensemble(cfg: DictConfig) -> int:
    """Train the members one after the other, each with a seed and a folder of its own, and make one model of them."""
    from pytorch_lightning.utilities import rank_zero_only
    from torch import distributed

    from espalike.training.ensemble import assembled, validate

    out, files = Path(cfg.out), []
    first = getattr(rank_zero_only, "rank", 0) == 0
    for number in range(cfg.ensemble):
        folder = out / f"member-{number + 1}"
        own = {"ensemble": 1, "seed": cfg.seed + number, "out": str(folder), "resume": "auto" if cfg.resume else False}
        if first:
            print(f"member {number + 1} of {cfg.ensemble}", flush=True)
        run(cast("DictConfig", OmegaConf.merge(cfg, own)))
        files.append(folder / "model.espalike")
    if distributed.is_available() and distributed.is_initialized():  # started by torchrun or SLURM: the rest is for one
        distributed.destroy_process_group()
    if first:
        plain = _plain(cfg)
        _write_config(out / "config.yaml", plain)
        with redirect_stdout(io.StringIO()):
            module, (_, validation) = _prepared(plain, cfg.seed)
        ensemble = assembled(files, plain)
        validate(ensemble, module, validation)
        ensemble.save(out / "model.espalike")
        print(f"wrote {out / 'model.espalike'} of {cfg.ensemble} members; validation of their mean:")
        assert ensemble.provenance is not None
        for name, value in ensemble.provenance.figures["validation"].items():
            print(f"  {name} {value:g}")
    return 0


def objective(out: str | Path) -> float:
    """The lowest validation loss of a run; of an ensemble, the mean of the members'. What sweeps minimise."""
    folder = Path(out)
    tables = [folder / "metrics.csv"] if (folder / "metrics.csv").is_file() else folder.glob("member-*/metrics.csv")
    lowest = []
    for table in tables:
        with open(table, newline="") as file:
            lowest.append(min(float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]))
    return sum(lowest) / len(lowest)


def _prepared(plain: dict[str, Any], seed: int) -> tuple[TrainingModule, tuple[Any, Any]]:
    """What is trained, and the loaders of training and validation."""
    from hydra.utils import instantiate

    from espalike.data.dataset import levels_of
    from espalike.data.store import open_stores
    from espalike.training.fold import constant_terms
    from espalike.training.lightning import TrainingModule

    stores = open_stores(plain["data"]["stores"])
    levels = levels_of(stores, plain["data"]["level"])
    train, val = _datasets(stores, levels, plain["data"])
    model = _model(plain, levels, stores, train, val)
    settings = {name: plain[name] for name in ("objective", "optimizer", "schedule")}
    if "mixed" in str(plain["trainer"].get("precision")) and "fused" in plain["optimizer"]:
        settings["optimizer"] = {**plain["optimizer"], "fused": False}
    objective, optimizer, schedule = (instantiate(each, _convert_="all") for each in settings.values())
    fold = plain["fold"] and not objective.profile  # Boltzmann weights are of whole energies
    folded = constant_terms(model) if fold else ()
    module = TrainingModule(model, objective, optimizer, train.sources, schedule, folded)
    print(
        f"{len(train)} training and {len(val)} validation entries ({train.counts.sum():,} and {val.counts.sum():,} "
        f"conformers) from {', '.join(train.sources)}; "
        f"{sum(p.numel() for p in model.parameters()):,} parameters"
    )
    return module, _loaders(train, val, module, plain["data"], seed)


def _to_resume(out: Path, plain: dict[str, Any]) -> tuple[str | None, list[str]]:
    """The checkpoint to go on from, or None, and which settings are others now."""
    from espalike.training.resume import changed_settings

    resume, checkpoint = plain["resume"], out / "last.ckpt"
    if resume not in (True, False, "auto"):
        raise ValueError(f"resume={resume}: expected true, false, or auto")
    if resume is True and not checkpoint.is_file():
        raise ValueError(f"resume=true, but there is no {checkpoint}; start without resume")
    if not resume or not checkpoint.is_file():
        return None, []
    return str(checkpoint), changed_settings(checkpoint, plain)


def _finish(trainer: pl.Trainer, out: Path, plain: dict[str, Any]) -> None:
    """Draw what training wrote, and say where it is."""
    from espalike.training.callbacks import SaveBestModel, draw_curves

    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    if not any(
        isinstance(c, SaveBestModel) and c.best < float("inf") for c in callbacks
    ):  # a file may be an older run's
        raise ValueError("no model was written: training ended before the first validation")
    draw_curves(out / "metrics.csv", out / "curves.png")
    names = ["model.espalike", "metrics.csv", "curves.png", "config.yaml", "last.ckpt"]
    names += ["worst.csv"] * plain["diagnosis"] + ["report.html"] * plain["report"]
    print("wrote " + ", ".join(str(out / name) for name in names))


def _plain(cfg: DictConfig) -> dict[str, Any]:
    """The settings, with force field and network of the model that training starts from in place of their own."""
    plain = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))
    if not plain["start"]:
        return plain
    from espalike.training.start import with_force_field_of

    return with_force_field_of(plain["start"], plain, _asked())


def _asked() -> list[str]:
    """Dotted paths of the settings on the command line; none where there is no command line."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not HydraConfig.initialized():
        return []
    given = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    return [override.package or override.key_or_group for override in given]


def _datasets(stores: Sequence[Store], levels: list[str], data: dict[str, Any]) -> tuple[StoreDataset, StoreDataset]:
    """Training and validation entries, the split checked or resolved."""
    from espalike.data.dataset import StoreDataset
    from espalike.data.split import check_leakage, resolve_splits

    on_leak = data["on_leak"]
    if on_leak not in {"error", "resolve"}:
        raise ValueError(f"data.on_leak={on_leak!r}: expected error or resolve")
    splits = None
    if on_leak == "resolve":
        resolution = resolve_splits(stores)
        splits = resolution.splits
        for move, count in resolution.moved.items():
            print(f"{count} entries moved {move}, where another store has the same connectivity")
    else:
        check_leakage(stores)
    sources = sorted({source for store in stores for source in store.manifest["sources"]})
    training, validation = ("train", "val") if data["held_out"] else (None, None)
    train = StoreDataset(stores, training, levels, sources, splits)
    used = set(train.refs[:, 0].tolist())
    for number, store in enumerate(stores):
        if number not in used:
            print(f"note: {store.name} has no entries in the training split ({len(store)} in all)")
    return train, StoreDataset(stores, validation, levels, sources, splits)


def _model(
    plain: dict[str, Any], levels: list[str], stores: Sequence[Store], train: StoreDataset, val: StoreDataset
) -> ForceFieldModel:
    """The model before training, with where it comes from."""
    from espalike.model import ChemicalDomain, from_config, load
    from espalike.training.start import add_history, copied, freeze, seen_before

    if plain["objective"].get("pull") and not plain["start"]:
        raise ValueError("objective.pull pulls towards the model that training starts from; give start=MODEL")
    config = {
        "terms": list(plain["forcefield"]["term"].values()),
        "conv": plain["conv"],
        "levels": levels,
        **plain["model"],
    }
    start = load(plain["start"]) if plain["start"] else None
    model = copied(start, levels) if start else from_config(config)
    assert model.provenance is not None
    model.provenance.domain = ChemicalDomain.of([train.molecule(i) for i in train.distinct()])
    trained = set(train.keys())
    model.provenance.split = {"train": sorted(trained), "val": sorted(set(val.keys()) - trained)}
    model.provenance.data = [
        {"name": store.name, "hash": store.hash, **{k: store.manifest.get(k) for k in ("sources", "levels", "licence")}}
        for store in stores
    ]
    model.provenance.notes = {"forcefield": plain["forcefield"]["name"], "training": plain}
    if start:
        known = seen_before(start, val.keys())
        print(
            f"from {plain['start']}" + (f", which was trained on {known} of the validation molecules" if known else "")
        )
        add_history(model, start, plain["start"])
    freeze(model, plain["freeze"])
    return model


def _loaders(
    train: StoreDataset,
    val: StoreDataset,
    module: TrainingModule,
    data: dict[str, Any],
    seed: int,
) -> tuple[Any, Any]:
    """Loaders of training batches, whose samplers know of processes and epochs themselves, and of validation."""
    from rich.console import Console
    from rich.progress import track

    from espalike.data.batches import Batches, loader_of
    from espalike.data.coordinates import Coordinates
    from espalike.data.sampler import EpochSampler, WholeEntries
    from espalike.training.fold import folded_labels

    size, cache = data["batch_size"], data["cache"] * 2**20
    model, folded = module.model, module.folded
    options = {name: data[name] for name in ("every_source", "bucketed")}
    planned = EpochSampler(train.counts, size, data["conformers"], data["epoch"], seed, sources=train.source, **options)
    whole = WholeEntries(val.counts, val.atoms, size)
    folder, console = data["coordinates_dir"] and Path(data["coordinates_dir"]), Console(stderr=True)
    shown = partial(track, description="measuring", console=console, transient=True)
    terms = [term for term in model.terms if term.name not in folded]
    stored = Coordinates.of(train, terms, data["coordinates"], folder, progress=shown)
    if stored is not None:
        print(f"internal coordinates: {stored.nbytes / 1e6:,.1f} MB in {stored.path}")
    labels = folded_labels(train, model, folded, folder, shown) if folded else {}
    if folded:
        print(f"folded into the labels: {', '.join(folded)}")
    return (
        loader_of(Batches(train, cache=cache, coordinates=stored, instead=labels), planned, data["workers"]),
        loader_of(Batches(val, cache=cache), whole, data["workers"]),
    )


def _trainer(plain: dict[str, Any], out: Path, sampler: Any) -> pl.Trainer:
    """Lightning's trainer with our logs, checkpoints and early stop."""
    from hydra.utils import instantiate
    from pytorch_lightning import callbacks, loggers

    from espalike.training.callbacks import Average, History, SaveBestModel
    from espalike.training.diagnosis import Diagnosis, StopOnFault
    from espalike.training.report import WriteReport
    from espalike.training.resume import SaveResumable

    _quiet_lightning()
    return instantiate(
        plain["trainer"],
        default_root_dir=str(out),
        use_distributed_sampler=False,  # ours deals out the epoch itself, without repetitions
        enable_model_summary=False,
        logger=[loggers.TensorBoardLogger(str(out), name="tensorboard", version="")],
        callbacks=[
            StopOnFault(out / "last.ckpt"),
            *([Diagnosis(out / "worst.csv")] if plain["diagnosis"] else []),
            SaveBestModel(out / "model.espalike"),
            *([Average(decay=plain["ema"])] if plain["ema"] else []),
            History(out / "metrics.csv"),
            SaveResumable(out / "last.ckpt", sampler, plain["save_every"], plain),
            *([WriteReport(out)] if plain["report"] else []),
            callbacks.EarlyStopping("val/loss", patience=plain["patience"]),
            callbacks.LearningRateMonitor("epoch"),
            *([callbacks.RichProgressBar(leave=False)] if plain["trainer"]["enable_progress_bar"] else []),
        ],
        _convert_="all",
    )


def _quiet_lightning() -> None:
    """Silence what Lightning says of the machine and of folders that we know about."""
    import logging
    import warnings

    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.callbacks", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
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


def _write_config(path: Path, plain: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump(plain, sort_keys=False))
    os.replace(temporary, path)

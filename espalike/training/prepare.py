"""From the settings of a run to its parts: data sets, model, training module and loaders of batches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader

from espalike.batch import LabelledBatch
from espalike.bounds import check_number
from espalike.chem.molecule import Molecule
from espalike.data.absurd import check_labels
from espalike.data.batches import Batches, loader_of
from espalike.data.dataset import StoreDataset, levels_of
from espalike.data.sampler import EpochSampler, WholeEntries
from espalike.data.split import check_leakage, hash_split, resolve_splits
from espalike.data.store import Store, open_stores
from espalike.data.twice import refuse_same, repeated
from espalike.model import ChemicalDomain, ForceFieldModel, from_config, load
from espalike.tables import counted
from espalike.training.fold import constant_terms, folded_labels
from espalike.training.lightning import TrainingModule
from espalike.training.start import add_history, copied, freeze, seen_before

Say = Callable[[str], object]
"""Takes messages for the user, for instance `print`."""


def prepare(
    settings: Mapping[str, Any], say: Say
) -> tuple[TrainingModule, DataLoader[LabelledBatch], DataLoader[LabelledBatch]]:
    """The module to train, and the loaders of training and validation batches.

    Args:
        settings: the settings of `configs/train.yaml`, resolved to plain data.
        say: takes notes about the data and the model.

    Raises:
        ValueError: when settings and data do not fit together, labels are implausible, or molecules leak across the
            split.
    """
    data = settings["data"]
    stores = open_stores(data["stores"] or [])
    if not stores:
        raise ValueError("data.stores is empty; expected names of stores, for instance data.stores=[sample]")
    refuse_same(stores)
    levels = levels_of(stores, data["level"])
    train, val = _datasets(stores, levels, data, say)
    for part in (train, val):
        check_labels(part)
    for store in stores:
        for verdict in store.manifest.get("audits", ()):
            if verdict["outcome"] in ("warning", "failed"):  # failed: it was stored with audit=warn
                say(f"warning: store {store.name}, {verdict['where']}: {verdict['message']}")
    twice, example = repeated(train)
    if twice:
        say(
            f"warning: {twice} of {train.counts.sum():,} training geometries are in another store, too, with the same "
            f"energy, and count twice: {example}. Leave one store out, or ingest one again with against=[the other]"
        )
    model = _model(settings, levels, stores, train, val, say)
    module = _module(settings, model, train)
    bare = int((train.complexes & ~train.referenced).sum())
    if bare and module.objective.interaction:
        say(
            f"note: {counted(bare, 'complex', 'complexes')} without reference charges. Interaction energies "
            "alone do not determine charges: those of molecules that occur in no other entry can become absurd. "
            "Ingest complexes with reference=openff"
        )
    if alone := int(train.alone.sum()):
        say(
            f"note: {alone} entries of other levels of theory have elements that are rare at {levels[0]}; their "
            "equilibrium geometries count as those of that level"
        )
    say(
        f"{len(train)} training and {len(val)} validation entries ({train.counts.sum():,} and {val.counts.sum():,} "
        f"conformers) from {', '.join(train.sources)}; "
        f"{sum(p.numel() for p in model.parameters()):,} parameters"
    )
    return module, _training_batches(train, module, data, settings["seed"], say), _validation_batches(val, data)


def _datasets(
    stores: Sequence[Store], levels: list[str], data: Mapping[str, Any], say: Say
) -> tuple[StoreDataset, StoreDataset]:
    """Training and validation entries; leakage between them is refused or resolved (`data.on_leak`)."""
    on_leak = data["on_leak"]
    if on_leak not in {"error", "resolve"}:
        raise ValueError(f"data.on_leak={on_leak}: expected error or resolve")
    splits = None
    if on_leak == "resolve":
        resolution = resolve_splits(stores)
        splits = resolution.splits
        for move, count in resolution.moved.items():
            say(f"{counted(count, 'entry', 'entries')} moved {move}, where another store has the same connectivity")
    else:
        check_leakage(stores)
    share = data.get("share", 1.0)
    check_number("data.share", share, 0, 1)
    if share < 1.0:
        if not data["held_out"]:
            raise ValueError(f"data.share={share} is of the training split, and data.held_out=false takes all entries")
        splits = _thinned(stores, splits, share)
        if "train" not in splits.values():
            names = ", ".join(store.name for store in stores)
            raise ValueError(
                f"no entries in split 'train' of {names}: data.share={share} leaves no molecule; take a larger share"
            )
    sources = sorted({source for store in stores for source in store.manifest["sources"]})
    training, validation = ("train", "val") if data["held_out"] else (None, None)
    train = StoreDataset(stores, training, levels, sources, splits)
    used = set(train.refs[:, 0].tolist())
    for number, store in enumerate(stores):
        if number not in used:
            say(f"note: {store.name} has no entries in the training split ({len(store)} in all)")
    return train, StoreDataset(stores, validation, levels, sources, splits)


def _thinned(stores: Sequence[Store], splits: Mapping[str, str] | None, share: float) -> dict[str, str]:
    """Split by connectivity key, without all but a share of the training keys; a smaller share is part of a larger."""
    if splits is None:
        splits = {
            key: split
            for store in stores
            for key, split in zip(store.column("key"), store.column("split"), strict=True)
            if split
        }
    fractions = {"train": share, "test": 1.0 - share}
    return {
        key: split
        for key, split in splits.items()
        if split != "train" or hash_split(key, seed=1, fractions=fractions) == "train"
    }


def _molecules_and_complexes(train: StoreDataset) -> tuple[list[Molecule], list[Molecule]]:
    """The distinct molecules that were computed alone, and the distinct complexes."""
    entries = np.array(train.distinct(), dtype=int)
    rigid = train.complexes[entries]
    return [train.molecule(i) for i in entries[~rigid]], [train.molecule(i) for i in entries[rigid]]


def _terms(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Settings of the force field's terms."""
    lines = "NAME:\n  _target_: PACKAGE.CLASS"
    terms = settings["forcefield"]["term"].items()
    return [_described(f"forcefield.term.{name}", term, "term/NAME.yaml", lines) for name, term in terms]


def _described(key: str, described: Any, file: str, lines: str) -> Mapping[str, Any]:
    """Settings of a term or a layer.

    Raises:
        ValueError: for settings that name no class, as those of a YAML file in the layout of the other kind.
    """
    needed = re.findall(r"_[a-z]+_", lines)
    if not isinstance(described, Mapping) or not set(needed) <= set(described):
        raise ValueError(f"{key}: expected {' and '.join(needed)}; a file {file} has these lines:\n{lines}")
    return described


def _model(
    settings: Mapping[str, Any],
    levels: list[str],
    stores: Sequence[Store],
    train: StoreDataset,
    val: StoreDataset,
    say: Say,
) -> ForceFieldModel:
    """The model before training, with its provenance."""
    if settings["objective"].get("pull") and not settings["start"]:
        raise ValueError("objective.pull pulls towards the model that training starts from; give start=MODEL")
    start = load(settings["start"]) if settings["start"] else None
    if start is not None and (member := settings.get("member")):
        start = start.members[member - 1]
    if start is None:
        terms, lines = _terms(settings), "_target_: PACKAGE.CLASS\n_partial_: true"
        conv = _described("conv", settings["conv"], "conv/NAME.yaml", lines)
        model = from_config({"terms": terms, "conv": conv, "levels": levels, **settings["model"]})
    else:
        model = copied(start, levels, _terms(settings))
    provenance = model.provenance
    assert provenance is not None
    provenance.domain = ChemicalDomain.of(*_molecules_and_complexes(train))
    trained = set(train.keys())
    provenance.split = {"train": sorted(trained), "val": sorted(set(val.keys()) - trained)}
    provenance.data = [
        {"name": store.name, "hash": store.hash, **{k: store.manifest.get(k) for k in ("sources", "levels", "licence")}}
        for store in stores
    ]
    provenance.notes = {"forcefield": settings["forcefield"]["name"], "training": settings}
    if start is not None:
        known = seen_before(start, val.keys())
        note = f", which was trained on {known} of the validation molecules" if known else ""
        add_history(model, start, settings["start"])
        new = ", ".join(provenance.notes["start"]["untrained"])
        of = f"model {member} of " if member else ""
        say(f"from {of}{settings['start']}{note}" + (f"; it has no weights for {new}" if new else ""))
    freeze(model, settings["freeze"])
    return model


def _module(settings: Mapping[str, Any], model: ForceFieldModel, train: StoreDataset) -> TrainingModule:
    """The model with its objective, optimizer and learning rate."""
    optimizer = dict(settings["optimizer"])
    for name in ("lr", "weight_decay"):
        check_number(f"optimizer.{name}", optimizer.get(name), 0)
    if "mixed" in str(settings["trainer"].get("precision")) and "fused" in optimizer:
        optimizer["fused"] = False
    weights = dict(settings["objective"])
    if weights.get("interaction", 0.0) is None:
        weights["interaction"] = float(train.complexes.any())
    parts = (weights, optimizer, settings["schedule"])
    objective, make_optimizer, schedule = (instantiate(part, _convert_="all") for part in parts)
    fold = settings["fold"] and not objective.profile  # Boltzmann weights are those of whole energies
    folded = constant_terms(model) if fold else ()
    assert model.provenance is not None
    new = model.provenance.notes.get("start", {}).get("untrained", ())
    return TrainingModule(model, objective, make_optimizer, train.sources, schedule, folded, new)


def _training_batches(
    train: StoreDataset, module: TrainingModule, data: Mapping[str, Any], seed: int, say: Say
) -> DataLoader[LabelledBatch]:
    """A loader whose sampler deals out the batches of an epoch among the processes."""
    sampler = EpochSampler(
        train.counts,
        data["batch_size"],
        data["conformers"],
        data["epoch"],
        seed,
        sources=train.source,
        every_source=data["every_source"],
        bucketed=data["bucketed"],
    )
    model, folded = module.model, module.folded
    folder = data["labels_dir"] and Path(data["labels_dir"])
    console = Console(stderr=True)
    quiet = not console.is_terminal  # a notebook would show the bar as an output
    progress = partial(track, description="computing", console=console, transient=True, disable=quiet)
    labels = folded_labels(train, model, folded, folder, progress) if folded else {}
    if folded:
        say(f"folded into the labels: {', '.join(folded)}")
    batches = Batches(train, cache=_cache(data), instead=labels)
    return loader_of(batches, sampler, data["workers"])


def _validation_batches(val: StoreDataset, data: Mapping[str, Any]) -> DataLoader[LabelledBatch]:
    """A loader of all conformers of all entries."""
    entries = WholeEntries(val.counts, val.atoms, data["batch_size"])
    return loader_of(Batches(val, cache=_cache(data)), entries, data["workers"])


def _cache(data: Mapping[str, Any]) -> int:
    """Bytes of molecular graphs to keep in memory."""
    check_number("data.cache", data["cache"], 0)
    check_number("data.workers", data["workers"], 0)
    return int(data["cache"] * 2**20)

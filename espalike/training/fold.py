"""Terms that training cannot change: their energies and forces are computed once and subtracted from the labels.

With the encoder and the heads of some terms frozen (`start=MODEL freeze=[encoder,pair]`), these terms' energies and
forces are constant for each conformer. The other terms are trained on the difference, which gives the same gradients,
and a step no longer computes the nonbonded pairs, which are most of its cost.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from espalike import batch as graphs
from espalike import energy as energies
from espalike import features, files, geometry, internal, topology
from espalike.data.batches import Batches
from espalike.data.columns import MappedColumn
from espalike.data.dataset import StoreDataset
from espalike.data.sampler import Picks
from espalike.data.shards import file_checksum
from espalike.energy import energy
from espalike.model import ForceFieldModel
from espalike.nn import links, orbits
from espalike.system import MMSystem, Prediction
from espalike.terms import primitives

_MOST = 2**18
"""Most conformers × tuples that are computed at once: 200 bytes of memory each."""
_MODULES = (sys.modules[__name__], graphs, energies, features, geometry, internal, topology, links, orbits, primitives)
"""Modules that decide the value of a folded label, beside those of the model's parts."""


def constant_terms(model: ForceFieldModel) -> tuple[str, ...]:
    """Names of the terms whose parameters training cannot change: frozen, and equal at all levels of theory."""
    if any(p.requires_grad for p in model.encoder.parameters()):
        return ()
    frozen: set[str] = set()
    for served, head in zip(model.heads.names, model.heads, strict=True):
        if not any(p.requires_grad for p in head.parameters()):
            frozen |= set(served.split("+"))
    return tuple(term.name for term in model.terms if term.name in frozen and _stays(model, term.name))


def _stays(model: ForceFieldModel, name: str) -> bool:
    """Whether no parameter of a term with a frozen head depends on anything that is trained."""
    (term,) = (term for term in model.terms if term.name == name)
    if any(p.borrows is not None or (p.shifts and len(model.levels) > 1) for p in term.params):
        return False
    universal = [model.heads.get_parameter(f"{name}_{p.name}") for p in term.params if p.universal]
    return not any(weight.requires_grad for weight in universal)


def only(system: MMSystem, names: Iterable[str]) -> MMSystem:
    """The part of a system that has these terms."""
    chosen = set(names)
    return MMSystem(tuple(b for b in system.terms if b.term.name in chosen), system.numbers, system.mol)


def without(system: MMSystem, names: Iterable[str]) -> MMSystem:
    """The part of a system that has all terms but these."""
    return only(system, {b.term.name for b in system.terms} - set(names))


def with_zeros(prediction: Prediction, system: MMSystem, names: Iterable[str]) -> Prediction:
    """A prediction of all terms but `names`, completed by zero energies of these."""
    left_out = set(names)
    by_term = iter(prediction.by_term)
    zero = torch.zeros_like(prediction.energy)
    parts = tuple(zero if b.term.name in left_out else next(by_term) for b in system.terms)
    return replace(prediction, by_term=parts)


def _modules_of(model: ForceFieldModel) -> list[ModuleType]:
    """The modules of the classes that a model's network and terms are made of, base classes included."""
    classes = [base for part in (*model.modules(), *model.terms) for base in type(part).__mro__]
    names = sorted({each.__module__ for each in classes})
    return [sys.modules[name] for name in names if hasattr(sys.modules[name], "__file__")]


def folded_labels(
    dataset: StoreDataset,
    model: ForceFieldModel,
    names: tuple[str, ...],
    folder: Path | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[str, MappedColumn]:
    """Energies and forces of a data set without those of constant terms, mapped from files.

    Computed and subtracted in float64, unless the files exist and are whole. The files' names are a digest of the data,
    the frozen weights, the terms, the settings of force field and network, and the code.

    Args:
        dataset: the entries.
        model: the model.
        names: those of `constant_terms`.
        folder: of the files; None for the user's cache.
        progress: wraps the iteration over entries.

    Returns:
        Columns `energy` [kcal/mol] and `forces` [kcal/mol/Å] that replace the stores' in `Batches`.

    Raises:
        ValueError: naming an entry for which a constant term is not finite, or a folder that cannot be made.
    """
    folder = folder or files.cache_folder("labels")
    code = files.digest_of(*_MODULES, *_modules_of(model))
    assert model.provenance is not None
    settings = json.dumps(model.provenance.config, sort_keys=True)  # equal weights may have another mixing rule
    known = repr([code, [s.hash for s in dataset.stores], names, settings])
    digest = hashlib.sha256(known.encode() + dataset.refs.tobytes())
    for name, weight in sorted(model.named_parameters()):
        if not weight.requires_grad:
            digest.update(name.encode() + weight.detach().cpu().numpy().tobytes())
    paths = {name: folder / f"{digest.hexdigest()[:20]}.{name}.npy" for name in ("energy", "forces")}
    record = folder / f"{digest.hexdigest()[:20]}.json"
    if not _are_whole(paths, record):
        _make(folder)
        double, batches = copy.deepcopy(model).double().eval(), Batches(dataset, torch.float64)
        parts = [_rest(batches, double, names, entry) for entry in progress(range(len(dataset)))]
        for name, values in zip(paths, zip(*parts, strict=True), strict=True):
            with files.replacing(paths[name]) as temporary, open(temporary, "wb") as file:
                np.save(file, np.concatenate(values))
        files.write(record, json.dumps(files.sealed(_checksums(paths), record.name)))
    sizes = {"energy": dataset.counts, "forces": 3 * dataset.counts * dataset.atoms}
    return {name: MappedColumn(path, np.cumsum(sizes[name]) - sizes[name]) for name, path in paths.items()}


def _make(folder: Path) -> None:
    """Make the folder of the files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{folder}, for labels without frozen terms, cannot be made ({error.strerror}): data.labels_dir=FOLDER "
            "takes another one"
        ) from error


def _are_whole(paths: Mapping[str, Path], record: Path) -> bool:
    """Whether files have the checksums that were recorded when they were written."""
    if not all(path.is_file() for path in (record, *paths.values())):
        return False
    return files.unsealed(record.read_bytes(), record.name) == _checksums(paths)


def _checksums(paths: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of files, by the names of their columns."""
    return {name: file_checksum(path) for name, path in paths.items()}


@torch.no_grad()
def _rest(
    batches: Batches, model: ForceFieldModel, names: tuple[str, ...], entry: int
) -> tuple[np.ndarray, np.ndarray]:
    """An entry's energies `(C,)` and forces `(C × A × 3,)` without those of the constant terms, in float64."""
    stored, count = batches.dataset.record(entry).conformers, int(batches.dataset.counts[entry])
    batch = batches.__getitems__(Picks(np.array([entry]), np.array([count]), np.arange(count)))
    system = only(model(batch), names)
    most = max(1, _MOST // max(1, sum(len(b.tuples.idx) for b in system.terms)))
    parts = [energy(system, xyz) for xyz in batch.xyz.split(most)]
    constant = torch.cat([part.energy for part in parts])[:, 0].numpy()
    forces = torch.cat([part.forces for part in parts if part.forces is not None]).numpy()
    wrong = ~(np.isfinite(constant) & np.isfinite(forces).all((1, 2)))
    if wrong.any():
        raise ValueError(
            f"{batches.dataset.name_of(entry)}: conformer {int(np.argmax(wrong))} has no finite energy or forces of "
            f"{', '.join(names)}: check its geometry, or remove the entry"
        )
    label = np.full_like(forces, np.nan) if stored.forces is None else stored.forces
    return stored.energy - constant, (label - forces).reshape(-1)

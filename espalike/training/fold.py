"""Terms that training cannot change are computed once and taken off the labels.

With the encoder and the heads of some terms frozen (`start=MODEL freeze=[encoder,pair]`), the energies and forces of
these terms are numbers a conformer, whatever is learned. What is left for the other terms is as exact as before, and a
step no longer passes over the nonbonded pairs, which are most of its cost.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from espalike.data.batches import Batches
from espalike.data.columns import MappedColumn, code_digest, write_whole
from espalike.data.coordinates import default_folder
from espalike.data.dataset import StoreDataset
from espalike.data.sampler import Picks
from espalike.energy import energy
from espalike.model import ForceFieldModel
from espalike.system import MMSystem, Prediction

_MOST = 2**18
"""Conformers × tuples that are computed at once, some 200 bytes of memory each."""


def constant_terms(model: ForceFieldModel) -> tuple[str, ...]:
    """Names of the terms whose parameters no training step changes: frozen, and at every level of theory the same."""
    if any(p.requires_grad for p in model.encoder.parameters()):
        return ()
    frozen: set[str] = set()
    for served, head in zip(model.heads.names, model.heads, strict=True):
        if not any(p.requires_grad for p in head.parameters()):
            frozen |= set(served.split("+"))
    return tuple(term.name for term in model.terms if term.name in frozen and _stays(model, term.name))


def _stays(model: ForceFieldModel, name: str) -> bool:
    """Whether a term on frozen weights has no parameter from elsewhere that may move."""
    (term,) = (term for term in model.terms if term.name == name)
    if any(p.borrows is not None or (p.shifts and len(model.levels) > 1) for p in term.params):
        return False
    universal = [model.heads.get_parameter(f"{name}_{p.name}") for p in term.params if p.universal]
    return not any(weight.requires_grad for weight in universal)


def only(system: MMSystem, names: Iterable[str]) -> MMSystem:
    """The terms of these names."""
    chosen = set(names)
    return MMSystem(tuple(b for b in system.terms if b.term.name in chosen), system.numbers, system.mol)


def without(system: MMSystem, names: Iterable[str]) -> MMSystem:
    """The other terms."""
    return only(system, {b.term.name for b in system.terms} - set(names))


def with_zeros(prediction: Prediction, system: MMSystem, names: Iterable[str]) -> Prediction:
    """A prediction by some terms of a system, with zero as the energies of the others, which are in the labels."""
    left_out = set(names)
    found = iter(prediction.by_term)
    zero = torch.zeros_like(prediction.energy)
    parts = tuple(zero if b.term.name in left_out else next(found) for b in system.terms)
    return replace(prediction, by_term=parts)


def folded_labels(
    dataset: StoreDataset,
    model: ForceFieldModel,
    names: tuple[str, ...],
    folder: Path | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> dict[str, MappedColumn]:
    """Energies and forces of a data set less those of constant terms, mapped from a file that is made if need be.

    Computed and subtracted in float64. The file's name says of which data, weights and terms it is.

    Args:
        dataset: the entries.
        model: the model.
        names: those of `constant_terms`.
        folder: where the files are; None = the user's cache.
        progress: wraps the iteration over entries.

    Returns:
        Columns `energy` [kcal/mol] and `forces` [kcal/mol/Å], for `Batches` to take instead of the stores'.

    Raises:
        ValueError: naming an entry at which a constant term is not finite.
    """
    folder = folder or default_folder()
    digest = hashlib.sha256(
        repr([code_digest(), [s.hash for s in dataset.stores], names]).encode() + dataset.refs.tobytes()
    )
    for name, weight in sorted(model.named_parameters()):
        if not weight.requires_grad:
            digest.update(name.encode() + weight.detach().cpu().numpy().tobytes())
    paths = {name: folder / f"{digest.hexdigest()[:20]}.{name}.npy" for name in ("energy", "forces")}
    if not all(path.exists() for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        double, batches = copy.deepcopy(model).double().eval(), Batches(dataset, torch.float64)
        parts = [_rest(batches, double, names, entry) for entry in progress(range(len(dataset)))]
        for name, values in zip(paths, zip(*parts, strict=True), strict=True):
            write_whole(paths[name], np.concatenate(values))
    sizes = {"energy": dataset.counts, "forces": 3 * dataset.counts * dataset.atoms}
    return {name: MappedColumn(path, np.cumsum(sizes[name]) - sizes[name]) for name, path in paths.items()}


@torch.no_grad()
def _rest(
    batches: Batches, model: ForceFieldModel, names: tuple[str, ...], entry: int
) -> tuple[np.ndarray, np.ndarray]:
    """Energies `(C,)` and forces `(C × A × 3,)` of an entry that the constant terms leave to the others, float64."""
    item, count = batches.dataset[entry], int(batches.dataset.counts[entry])
    batch = batches.__getitems__(Picks(np.array([entry]), np.array([count]), np.arange(count)))
    assert batch.xyz is not None
    system = only(model(batch), names)
    most = max(1, _MOST // max(1, sum(len(b.tuples.idx) for b in system.terms)))
    parts = [energy(system, xyz) for xyz in batch.xyz.split(most)]
    constant = torch.cat([part.energy for part in parts])[:, 0].numpy()
    forces = torch.cat([part.forces for part in parts if part.forces is not None]).numpy()
    wrong = ~(np.isfinite(constant) & np.isfinite(forces).all((1, 2)))
    if wrong.any():
        raise ValueError(
            f"{batches.dataset.name_of(entry)}: conformer {int(np.argmax(wrong))} has no finite energy or forces of "
            f"{', '.join(names)}: look at its geometry, or leave the entry out"
        )
    known = np.full_like(forces, np.nan) if item.forces is None else np.asarray(item.forces, np.float64)
    return np.asarray(item.energy, np.float64) - constant, (known - forces).reshape(-1)

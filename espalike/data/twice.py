"""Geometries that several stores hold: in training they would count twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from espalike.data.columns import Column, ranges
from espalike.data.dataset import StoreDataset
from espalike.data.store import Store


def refuse_same(stores: Sequence[Store]) -> None:
    """Refuse a store that is given twice, also as a copy.

    Raises:
        ValueError: naming both.
    """
    known: dict[str, Store] = {}
    for store in stores:
        other = known.setdefault(store.hash, store)
        if other is not store:
            raise ValueError(f"{other.path} and {store.path} have the same content, which would count twice; give one")


def repeated(data: StoreDataset) -> tuple[int, str]:
    """Number of geometries that an earlier store has, too, and the names of two entries with one of them.

    They have the same molecule, level, energy, and place of the first atom. Geometries without an energy do not count.
    """
    if len(data.stores) < 2 or (energies := Column.of(data.stores, "energy", data.refs)) is None:
        return 0, ""
    entry = np.repeat(np.arange(len(data)), data.counts)
    place = ranges(np.zeros_like(data.counts), data.counts)
    energy = energies.gather(entry, 1, place[None])[0]
    order = np.lexsort([data.refs[entry, 0], energy])
    order = order[np.isfinite(energy[order])]
    same = np.flatnonzero(np.diff(energy[order]) == 0.0)
    first, second = order[same], order[same + 1]
    alike = (data.refs[entry[first], 0] != data.refs[entry[second], 0]) & (
        data.level[entry[first]] == data.level[entry[second]]
    )
    first, second = first[alike], second[alike]
    if not len(first):
        return 0, ""
    xyz = Column.of(data.stores, "xyz", data.refs)
    assert xyz is not None  # the schema forbids it
    corners = [
        xyz.gather(entry[k], 1, (3 * place[k] * data.atoms[entry[k]])[None] + np.arange(3)[:, None])
        for k in (first, second)
    ]
    keys = np.array(data.keys())
    equal = (corners[0] == corners[1]).all(axis=0) & (keys[entry[first]] == keys[entry[second]])
    if not equal.any():
        return 0, ""
    pair = int(np.argmax(equal))
    return int(equal.sum()), f"{data.name_of(int(entry[first[pair]]))} and {data.name_of(int(entry[second[pair]]))}"

"""Molecules to the part of a batch that needs no coordinates: features, edges and tuples, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from espalike.features import featurize, orbits
from espalike.topology import enumerate_tuples
from espalike.types import Batch, Kind, Molecule, Tuples


@dataclass(frozen=True, eq=False)
class Graph:
    """What a batch needs of one molecule, as arrays; integers are as short as the number of atoms allows.

    Attributes:
        x: atom features, shape `(A, F)`, float32.
        numbers: atomic numbers, shape `(A,)`.
        edges: directed edges, both directions of each bond, shape `(2, E)`.
        orbit: of each atom the first one that the network cannot tell from it, shape `(A,)`.
        net_charge: formal net charge [e].
        tuples: atom indices by kind, each `(T, k)`.
        is14: which pairs are exactly three bonds apart, shape `(T,)`.
    """

    x: np.ndarray
    numbers: np.ndarray
    edges: np.ndarray
    orbit: np.ndarray
    net_charge: int
    tuples: dict[Kind, np.ndarray]
    is14: np.ndarray


def featurized(molecule: Molecule) -> Graph:
    """Features, edges and tuples of a molecule. Not cached here: `table.GraphTable` keeps those of a data set."""
    topology = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders)
    index = np.min_scalar_type(-molecule.n_atoms)
    tuples = {
        Kind.ATOM: np.arange(molecule.n_atoms)[:, None],
        Kind.BOND: topology.bonds,
        Kind.ANGLE: topology.angles,
        Kind.PROPER: topology.propers,
        Kind.IMPROPER: topology.impropers,
        Kind.ANGLE_PAIR: topology.angle_pairs,
        Kind.PROPER_PAIR: topology.proper_pairs,
        Kind.PAIR: topology.pairs,
    }
    x = featurize(molecule, topology)
    return Graph(
        x=x,
        numbers=molecule.numbers.astype(np.uint8),
        edges=np.concatenate([molecule.bonds, molecule.bonds[:, ::-1]]).T.astype(index),
        orbit=orbits(x, molecule.bonds).astype(index),
        net_charge=molecule.net_charge,
        tuples={kind: idx.astype(index) for kind, idx in tuples.items()},
        is14=topology.is14,
    )


def joined(graphs: Sequence[Graph], dtype: torch.dtype) -> dict[str, Any]:
    """Fields of a `Batch` that need no coordinates, atoms and tuples of all graphs one after the other.

    Raises:
        ValueError: when there are no graphs.
    """
    if not graphs:
        raise ValueError("a batch needs at least one molecule")
    sizes = np.array([len(g.numbers) for g in graphs])
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    index = np.arange(len(graphs))
    tuples = {}
    for kind in graphs[0].tuples:
        parts = [g.tuples[kind] for g in graphs]
        counts = [len(part) for part in parts]
        idx = np.concatenate(parts, dtype=np.int64)
        idx += np.repeat(offsets, counts)[:, None]
        is14 = torch.from_numpy(np.concatenate([g.is14 for g in graphs])) if kind is Kind.PAIR else None
        tuples[kind] = Tuples(torch.from_numpy(idx), torch.from_numpy(np.repeat(index, counts)), is14)
    edges = np.concatenate([g.edges for g in graphs], axis=1, dtype=np.int64)
    edges += np.repeat(offsets, [g.edges.shape[1] for g in graphs])
    return {
        "x": torch.from_numpy(np.concatenate([g.x for g in graphs])).to(dtype),
        "numbers": torch.from_numpy(np.concatenate([g.numbers for g in graphs], dtype=np.int64)),
        "edges": torch.from_numpy(edges),
        "mol": torch.from_numpy(np.repeat(index, sizes)),
        "orbit": torch.from_numpy(
            np.concatenate([g.orbit for g in graphs], dtype=np.int64) + np.repeat(offsets, sizes)
        ),
        "net_charge": torch.tensor([g.net_charge for g in graphs], dtype=dtype),
        "tuples": tuples,
    }


def batch_of(molecules: Sequence[Molecule], dtype: torch.dtype = torch.float32) -> Batch:
    """Batch of molecules without coordinates, for parametrization.

    Raises:
        ValueError: when there are no molecules.
    """
    return Batch(**joined([featurized(molecule) for molecule in molecules], dtype))

"""Graphs of many molecules as flat arrays, filled as molecules are first used, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from espalike.batch import Graph
from espalike.data.columns import ranges
from espalike.features import FEATURES
from espalike.tuples import Kind, Tuples

_GROWTH = 1.125
"""Factor by which an array grows; at most an eighth of it is unused."""

_VALUES = ("numbers", "component", "component_charge", "is14")
"""Parts of a graph that are numbers, one per row."""
_ATOMS: dict[str, int] = {"edges": 2} | {kind.value: kind.size for kind in Kind}
"""Parts of a graph that are rows of atom indices, with the number of atoms per row."""
_WIDTH = np.array([1] * len(_VALUES) + list(_ATOMS.values()))


class _Rows:
    """Rows that are added at the end of one array that grows.

    Attributes:
        values: shape `(≥ used, width)`.
        used: number of rows in use.
    """

    def __init__(self, width: int, dtype: np.dtype | type):
        self.values, self.used = np.empty((0, width), dtype), 0

    def add(self, rows: np.ndarray) -> None:
        """Append rows."""
        stop = self.used + len(rows)
        if stop > len(self.values):  # in place: a copy would take the memory twice
            self.values.resize((int(_GROWTH * stop) + 1, self.values.shape[1]), refcheck=False)
        self.values[self.used : stop] = rows
        self.used = stop

    @property
    def nbytes(self) -> int:
        """Memory of the rows in use [byte]."""
        return self.values[: self.used].nbytes


class GraphTable:
    """Graphs of a data set's molecules, up to a limit of memory, and batches of them by index arithmetic.

    When it is full, the graph of a further molecule is computed each time. What is cached stays: for epochs in random
    order this is no worse than dropping the least recently used graph.

    Args:
        molecules: number of molecules.
        most_atoms: number of atoms of the largest one.
        limit: limit on the memory of cached graphs [byte].
        graph_of: makes the graph of a molecule from its number.
    """

    def __init__(self, molecules: int, most_atoms: int, limit: int, graph_of: Callable[[int], Graph]):
        self.limit, self._graph_of = limit, graph_of
        self._place = np.full(molecules, -1, np.int32)  # row of each molecule, −1: not cached
        self._words = _Rows(1, np.min_scalar_type(-max(most_atoms, 127)))  # parts, one after the other, as integers
        self._x = _Rows(len(FEATURES), np.float32)
        self._first = _Rows(2, np.int64)  # of a molecule: its first row in the two above
        self._count = _Rows(len(_WIDTH), np.int32)  # rows of each of its parts

    def __len__(self) -> int:
        """Number of cached molecules."""
        return self._first.used

    @property
    def nbytes(self) -> int:
        """Memory of the cached graphs [byte]."""
        return sum(rows.nbytes for rows in (self._words, self._x, self._first, self._count))

    def fields(self, molecules: np.ndarray, dtype: torch.dtype) -> dict[str, Any]:
        """Fields of a `Batch` but `level`: atoms and tuples of all molecules one after the other.

        Args:
            molecules: their numbers, shape `(M,)`, at least one.
            dtype: of floating tensors.
        """
        absent = np.unique(molecules[self._place[molecules] < 0])
        arrays = (self._words, self._x, self._first, self._count)
        before = [rows.used for rows in arrays]
        for number in absent.tolist():
            self._place[number] = len(self)
            self._add(self._graph_of(number))
        fields = self._gather(self._place[molecules], dtype)
        if len(absent) and self.nbytes > self.limit:
            self._place[absent] = -1
            for rows, used in zip(arrays, before, strict=True):
                rows.used = used
        return fields

    def _add(self, graph: Graph) -> None:
        values = (graph.numbers, graph.component, graph.component_charge, graph.is14)
        atoms = (graph.edges.T, *(graph.tuples[kind] for kind in Kind))
        parts = [np.ravel(part) for part in (*values, *atoms)]
        self._first.add(np.array([[self._words.used, self._x.used]]))
        self._count.add(np.array([[len(part) for part in parts]]) // _WIDTH)
        self._words.add(np.concatenate(parts, dtype=np.int64)[:, None])
        self._x.add(graph.x)

    def _gather(self, graphs: np.ndarray, dtype: torch.dtype) -> dict[str, Any]:
        first_word, first_x = self._first.values[graphs].T
        rows = self._count.values[graphs].T.astype(np.int64)  # (parts, M): all molecules of a part together
        words = rows * _WIDTH[:, None]
        flat = self._words.values[:, 0].take(ranges((first_word + words.cumsum(0) - words).ravel(), words.ravel()))
        flat = flat.astype(np.int64)
        sizes, values = rows[0], int(words[: len(_VALUES)].sum())
        offset = np.cumsum(sizes) - sizes
        flat[values:] += np.repeat(np.tile(offset, len(_ATOMS)), words[len(_VALUES) :].ravel())
        numbers, component, component_charge, is14, *atoms = torch.from_numpy(flat).split(words.sum(1).tolist())
        mol = torch.from_numpy(np.repeat(np.tile(np.arange(len(graphs)), len(rows)), rows.ravel()))
        of = dict(zip((*_VALUES, *_ATOMS), mol.split(rows.sum(1).tolist()), strict=True))
        n_components = rows[2]
        component += torch.from_numpy(np.repeat(np.cumsum(n_components) - n_components, sizes))
        net_charge = torch.zeros(len(graphs), dtype=torch.int64).index_add(0, of["component_charge"], component_charge)
        part = {name: values.view(-1, width) for values, (name, width) in zip(atoms, _ATOMS.items(), strict=True)}
        return {
            "x": torch.from_numpy(self._x.values.take(ranges(first_x, sizes), axis=0)).to(dtype),
            "numbers": numbers,
            "edges": part["edges"].T.contiguous(),
            "mol": of["numbers"],
            "net_charge": net_charge.to(dtype),
            "component": component,
            "component_charge": component_charge.to(dtype),
            "tuples": {
                kind: Tuples(part[kind.value], of[kind.value], is14.bool() if kind is Kind.PAIR else None)
                for kind in Kind
            },
        }

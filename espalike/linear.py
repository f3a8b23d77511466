"""Linear centres of a molecular graph, the same for every resonance form of it.

Most forms agree on them by the rules of `_linear_as_drawn`. Forms of many charges do not: an azide that is drawn as
`C[N+]#[N+][N-2]` has a triple bond where `CN=[N+]=[N-]` and `C[N-][N+]#N` have none. So a charged drawing is turned
into the usual form first: lone pairs move along alternating bonds while that lowers the price of the formal charges.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

_SP = (6, 7)  # elements that can be linear at two neighbours: C, N
_ANION_VALENCE = np.full(18, -1)  # sum of bond orders at which an element is an anion; −1: not asked
_ANION_VALENCE[[6, 7, 8, 16]] = 3, 2, 1, 1
_VALENCE = {6: 4, 7: 3, 8: 2, 15: 3, 16: 2}
"""Valence of a neutral atom that has an octet; each unit of charge adds one bond."""
_PRICES = {
    6: {-1: 3.0, 0: 0.0, 1: 4.0},
    7: {-2: 4.0, -1: 1.05, 0: 0.0, 1: 1.0},
    8: {-1: 1.0, 0: 0.0, 1: 2.0},
    15: {-1: 2.0, 0: 0.0, 1: 1.2},
    16: {-1: 0.9, 0: 0.0, 1: 1.5},
}
"""Price of each formal charge of an atom that has an octet, and of a carbocation; close to `espalike.chem.lewis`."""
_LONGEST = 12
"""Number of atoms along which a lone pair moves at once."""


def linear_centres(numbers: np.ndarray, bonds: np.ndarray, orders: np.ndarray, charges: np.ndarray) -> np.ndarray:
    """Carbons and nitrogens whose two bonds lie in a line, shape `(A,)`, bool, whichever resonance form is drawn.

    Args:
        numbers: atomic numbers, shape `(A,)`.
        bonds: pairs of atoms, shape `(B, 2)`.
        orders: Kekulé bond orders, shape `(B,)`.
        charges: formal charges [e], shape `(A,)`.
    """
    linear = _linear_as_drawn(numbers, bonds, orders, charges)
    if not charges.any():
        return linear
    ends = np.concatenate([bonds, bonds[:, ::-1]])
    single, degree = (np.bincount(ends[:, 0], np.tile(w, 2), len(numbers)) for w in (orders, np.ones(len(bonds))))
    carbanion = (numbers == 6) & (degree == 2) & (single == 3)
    if not (linear | carbanion).any():
        return linear
    return _linear_as_drawn(numbers, bonds, *usual_form(numbers, bonds, orders, charges))


def usual_form(
    numbers: np.ndarray, bonds: np.ndarray, orders: np.ndarray, charges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bond orders and formal charges [e] of the usual resonance form, from those of any; arguments as above."""
    return _Drawing(numbers, bonds, orders, charges).usual()


class _Drawing:
    """Bond orders and formal charges of one resonance form, to be changed into others."""

    def __init__(self, numbers: np.ndarray, bonds: np.ndarray, orders: np.ndarray, charges: np.ndarray):
        self.bonds = [(i, j) for i, j in bonds.tolist()]
        self.numbers, self.charges = numbers.tolist(), charges.tolist()
        self.orders = dict(zip(self.bonds, orders.tolist(), strict=True))
        self.orders |= {(j, i): order for (i, j), order in self.orders.items()}
        self.near: dict[int, list[int]] = {}
        valence = [0] * len(self.numbers)
        for i, j in self.orders:
            self.near.setdefault(i, []).append(j)
            valence[i] += self.orders[i, j]
        states = list(zip(self.numbers, valence, self.charges, strict=True))
        self.octet = [q in _PRICES.get(z, ()) and v == _VALENCE[z] + q for z, v, q in states]
        self.sextet = [(z, v, q) == (6, 3, 1) for z, v, q in states]

    def usual(self) -> tuple[np.ndarray, np.ndarray]:
        """Bond orders and charges of the form from which no move lowers the price any more."""
        while True:
            donors = [a for a, octet in enumerate(self.octet) if octet and self._step(a, 1) is not None]
            moves = [move for a in donors for move in self._moves(a)]
            if not moves:
                return np.array([self.orders[bond] for bond in self.bonds]), np.array(self.charges)
            _, path = max(moves)
            for n, (i, j) in enumerate(pairwise(path)):
                self.orders[i, j] = self.orders[j, i] = self.orders[i, j] + (1 if n % 2 == 0 else -1)
            self.charges[path[0]] += 1
            self.charges[path[-1]] -= 1
            if self.sextet[path[-1]]:
                self.sextet[path[-1]], self.octet[path[-1]] = False, True

    def _step(self, atom: int, change: int) -> float | None:
        """Price of a change of an atom's charge; None where it cannot be."""
        z, before = self.numbers[atom], self.charges[atom]
        if z == 6 and change > 0 and before == 0:
            return None  # a carbon without charge has no lone pair
        after = _PRICES[z].get(before + change)
        return None if after is None else after - _PRICES[z][before]

    def _moves(self, donor: int) -> Iterator[tuple[float, tuple[int, ...]]]:
        """Moves of a lone pair of the donor that lower the price: by how much, and along which atoms.

        A move ends at an atom that takes the lone pair, or at a carbocation, which takes it into a bond.
        """
        paths: list[tuple[int, ...]] = [(donor,)]
        while paths:
            path = paths.pop()
            for j in self.near.get(path[-1], ()):
                if j in path or self.orders[path[-1], j] > 2:
                    continue
                if self.sextet[j]:
                    yield from self._worthwhile((*path, j))
                for k in self.near[j]:
                    if k in path or self.orders[j, k] < 2:
                        continue
                    if self.octet[k]:
                        yield from self._worthwhile((*path, j, k))
                    if len(path) < _LONGEST:
                        paths.append((*path, j, k))

    def _worthwhile(self, path: tuple[int, ...]) -> Iterator[tuple[float, tuple[int, ...]]]:
        given, taken = self._step(path[0], 1), self._step(path[-1], -1)
        if given is not None and taken is not None and given + taken < -1e-6:
            yield -(given + taken), path


def _linear_as_drawn(numbers: np.ndarray, bonds: np.ndarray, orders: np.ndarray, charges: np.ndarray) -> np.ndarray:
    """Carbons and nitrogens with two neighbours and a triple or two double bonds, shape `(A,)`, bool.

    So is a carbocation with two neighbours, as in the vinyl cation `C=[C+]C`; its anion is bent.

    Three corrections make the answer the same for every drawing: the end of a cumulene drawn as a carbanion is linear
    (`[C-]=[N+]=O` is the nitrile oxide `C#[N+][O-]`), the nitrogen of a heterocumulene drawn with a triple bond is not
    (`[N+]#C[O-]` is the isocyanate `N=C=O`), and nor is that of an azo group drawn with two double bonds
    (`[C-]-C=[N+]=N-C` is `C=C-N=N-C`): a linear nitrogen is beside the end of its chain (`C=[N+]=[N-]`).
    """
    n_atoms = len(numbers)
    source = np.concatenate([bonds[:, 0], bonds[:, 1]])
    target = np.concatenate([bonds[:, 1], bonds[:, 0]])
    order = np.concatenate([orders, orders])

    def count(edges: np.ndarray) -> np.ndarray:
        return np.bincount(source, weights=edges, minlength=n_atoms)

    valence, degree = count(order), count(source >= 0)
    two = np.isin(numbers, _SP) & (degree == 2)
    ends_cumulene = (degree == 1) | ((numbers == 6) & (degree == 2))
    allenic = (count(order == 2) == 2) & ((numbers == 6) | (count(ends_cumulene[target]) > 0))
    linear = two & ((count(order == 3) > 0) | allenic)
    linear |= two & (numbers == 6) & (valence == 3) & (charges > 0)
    carbanion = two & (numbers == 6) & (valence == 3) & (charges <= 0)
    anion = valence == _ANION_VALENCE[np.minimum(numbers, len(_ANION_VALENCE) - 1)]
    before_anion = (numbers == 6) & (count((order == 1) & anion[target]) > 0)
    heterocumulene = (numbers == 7) & (count((order == 3) & before_anion[target]) > 0)
    return (linear & ~heterocumulene) | (carbanion & (count((order == 2) & linear[target]) > 0))

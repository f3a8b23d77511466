"""Parameters of a whole force field from atom representations: which head gives a column, and which are borrowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from espalike.batch import Batch
from espalike.features import FEATURES
from espalike.nn.charges import CHARGE_HEADS
from espalike.nn.forms import check_form, is_foreign
from espalike.nn.heads import TermHead
from espalike.nn.links import find
from espalike.nn.orbits import Orbits
from espalike.terms.base import Borrow, Param, Term

_TAKEN = 0.5
"""Largest share of a bond's force constant that its angles may take away.

Angles of force constants kᵢ, coupled to a bond of force constant k by κᵢ and free to follow it, leave k (1 − S) of it,
with S = Σᵢ κᵢ² / (k kᵢ). The slope of a quartic bond ½ k d² (1 − a d + 7/12 a² d²) is then
k d (1 − S − 3/2 a d + 7/6 a² d²), which vanishes at d = 0 alone while S < 29/56: no barrier behind which it breaks.
"""


def _sorted_rows(tuples: Tensor, listed: Tensor, n_atoms: int) -> Tensor:
    """For each bond or angle, read in either direction, its row in `listed`, which is sorted; shape `(T,)`."""
    flipped = (tuples[:, 0] > tuples[:, -1]).unsqueeze(-1)
    tuples = torch.where(flipped, tuples.flip(1), tuples)
    power = n_atoms ** torch.arange(tuples.shape[1] - 1, -1, -1, device=tuples.device)
    return torch.searchsorted((listed * power).sum(-1), (tuples * power).sum(-1))


class Readout(nn.ModuleList):
    """One head for all terms on the same tuples, one for the charges, one number for each universal parameter.

    Args:
        terms: functional forms of the force field.
        width: size of an atom's representation.
        hidden: size of the heads' hidden layers.
        n_levels: levels of theory in training.
        readout: `lean` or `deep`, see `espalike.nn.heads.SymmetricHead`.

    Attributes:
        names: names of the heads, in order: their terms, joined by `+`.
        places: head, and column of it, by term and column of the term.
    """

    def __init__(self, terms: Sequence[Term], width: int, hidden: int, n_levels: int, readout: str = "deep"):
        super().__init__()
        self.terms = tuple(terms)
        for term in filter(is_foreign, self.terms):
            check_form(term)
        self.places: dict[tuple[int, int], tuple[int, int]] = {}
        self._charge: dict[int, int] = {}  # term -> charge head
        learned = [self._learned(term) for term in self.terms]
        groups: dict[object, list[int]] = {}
        for t, term in enumerate(self.terms):
            if any(p.link == "charge" for p in term.params):
                groups["charge", t] = [t]
            elif learned[t]:
                groups.setdefault((term.param_kind, frozenset(op.atoms for op in term.symmetry)), []).append(t)
            for p in term.params:
                if p.universal:
                    self.register_parameter(f"{term.name}_{p.name}", nn.Parameter(torch.zeros(())))
        self.names = ["+".join(self.terms[t].name for t in members) for members in groups.values()]
        for key, members in groups.items():
            if isinstance(key, tuple) and key[0] == "charge":
                self._charge[members[0]] = len(self)
                self.append(CHARGE_HEADS[self.terms[members[0]].charges](width, hidden, readout))  # type: ignore[attr-defined]
                continue
            columns = [(t, c) for t in members for c in learned[t]]
            self.places |= {place: (len(self), n) for n, place in enumerate(columns)}
            shared, of_each = [self.terms[t] for t in members], [learned[t] for t in members]
            self.append(TermHead(shared, of_each, width, hidden, n_levels, readout))

    def _learned(self, term: Term) -> list[int]:
        """Columns of a term that are learned for each of its tuples."""
        return [
            c
            for c, p in enumerate(term.params)
            if p.link != "charge" and not p.universal and (p.borrows is None or self._lender(p.borrows) is None)
        ]

    def _lender(self, borrow: Borrow) -> tuple[int, int] | None:
        """Term and column that a parameter is borrowed from; None where the force field has no such term."""
        for t, term in enumerate(self.terms):
            for c, p in enumerate(term.params):
                same = term.kind is borrow.kind and p.name == borrow.name and borrow.unit in ("", p.unit)
                if same and p.borrows is None:
                    return t, c
        return None

    def forward(self, h: Tensor, batch: Batch, orbits: Orbits) -> list[Tensor]:
        """Values of each term, shape `(T, P)`, in the order of the terms; `h` represents classes of atoms."""
        shifted = torch.is_grad_enabled() or bool(batch.level.any())  # nothing shifts at the target level
        level = batch.level[batch.mol[orbits.atom]] if shifted else None
        learned: dict[int, Tensor] = {}
        for number, head in enumerate(self):
            if isinstance(head, TermHead):
                learned[number] = head(h, batch.tuples[head.kind].idx, orbits, level)
            else:
                learned[number] = head(h, batch, orbits)
        columns = [
            [self._column(t, c, batch, learned) for c in range(len(term.params))] for t, term in enumerate(self.terms)
        ]
        return self.stacked(columns, batch)

    def _column(self, t: int, c: int, batch: Batch, learned: dict[int, Tensor]) -> Tensor | None:
        """A column of a term's parameters; None if it is borrowed from another term."""
        term, param = self.terms[t], self.terms[t].params[c]
        if (t, c) in self.places:
            head, column = self.places[t, c]
            return learned[head][:, column]
        if param.link == "charge":
            return learned[self._charge[t]][:, 0]
        if param.universal:
            return self._universal(term, param).expand(len(batch.tuples[term.param_kind].idx))
        return None

    def stacked(self, columns: Sequence[Sequence[Tensor | None]], batch: Batch) -> list[Tensor]:
        """Values of each term, shape `(T, P)`, from its columns, with borrowed ones from the terms that have them.

        Parameters of linear centres that have a value (`Param.linear`) get it. Where the couplings of a bond with its
        angles would take more than `_TAKEN` of its force constant away, they are scaled down together.

        Args:
            columns: the columns of each term, each `(T,)`; those of borrowed parameters are not read.
            batch: the molecules.
        """
        columns = _straightened(self.terms, columns, batch)
        rows: dict[tuple[object, ...], Tensor] = {}  # of bonds and angles in other tuples

        def row_of(term: Term, borrow: Borrow) -> Tensor:
            if (key := (term.param_kind, borrow.kind, borrow.atoms)) not in rows:
                tuples = batch.tuples[term.param_kind].idx[:, borrow.atoms]
                rows[key] = _sorted_rows(tuples, batch.tuples[borrow.kind].idx, len(batch.numbers))
            return rows[key]

        def lent(borrow: Borrow) -> Tensor | None:
            lender = self._lender(borrow)
            return None if lender is None else columns[lender[0]][lender[1]]

        def column(term: Term, borrow: Borrow | None, learned: Tensor | None) -> Tensor:
            found = None if borrow is None else lent(borrow)
            if borrow is None or found is None:
                assert learned is not None
                return learned
            return found[row_of(term, borrow)]

        columns = _limited(self.terms, columns, lent, row_of)
        values = []
        for term, of_term in zip(self.terms, columns, strict=True):
            every = [column(term, p.borrows, learned) for p, learned in zip(term.params, of_term, strict=True)]
            widest = reduce(torch.promote_types, (each.dtype for each in every))
            values.append(torch.stack([each.to(widest) for each in every], dim=-1))
        return values

    def _universal(self, term: Term, param: Param) -> Tensor:
        raw = self.get_parameter(f"{term.name}_{param.name}")
        if callable(param.mean):
            raise TypeError(f"{term.name}.{param.name} is universal: its mean is a number, not a prior by element")
        return find(param.link)(raw, torch.full_like(raw, param.mean), param.std)


def _straightened(
    terms: Sequence[Term], columns: Sequence[Sequence[Tensor | None]], batch: Batch
) -> list[list[Tensor | None]]:
    """The columns, with the values that parameters of linear centres have (`Param.linear`)."""
    linear = batch.x[:, FEATURES.index("linear")] > 0

    def straightened(term: Term, param: Param, column: Tensor | None) -> Tensor | None:
        if param.linear is None or column is None:
            return column
        return torch.where(linear[batch.tuples[term.param_kind].idx[:, 1]], param.linear, column)

    return [
        [straightened(term, param, column) for param, column in zip(term.params, of_term, strict=True)]
        for term, of_term in zip(terms, columns, strict=True)
    ]


def _limited(
    terms: Sequence[Term],
    columns: Sequence[Sequence[Tensor | None]],
    lent: Callable[[Borrow], Tensor | None],
    row_of: Callable[[Term, Borrow], Tensor],
) -> list[list[Tensor | None]]:
    """The columns, with couplings of bonds and angles (`Param.couples`) scaled down where `_TAKEN` demands it."""
    limited = [list(of_term) for of_term in columns]
    taken: Tensor | None = None
    places = []
    for t, term in enumerate(terms):
        for c, param in enumerate(term.params):
            coupling = limited[t][c]
            if param.couples is None or coupling is None:
                continue
            bonds, angles = map(lent, param.couples)
            if bonds is None or angles is None:  # a force field without such force constants
                continue
            rows = row_of(term, param.couples[0])
            share = coupling.square() / (bonds[rows] * angles[row_of(term, param.couples[1])])
            taken = torch.zeros_like(bonds) if taken is None else taken
            taken = taken.index_add(0, rows, share.to(taken))
            places.append((t, c, coupling, rows))
    if taken is not None:
        factor = (_TAKEN / taken.clamp(min=_TAKEN)).sqrt()
        for t, c, coupling, rows in places:
            limited[t][c] = coupling * factor[rows].to(coupling)
    return limited

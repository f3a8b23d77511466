"""One symmetric head for every term."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from espalike.nn.links import find
from espalike.terms.base import NONE, Op, Term
from espalike.types import Kind

_SIZE = {Kind.ATOM: 1, Kind.BOND: 2, Kind.ANGLE: 3, Kind.PROPER: 4, Kind.IMPROPER: 4}


class SymmetricHead(nn.Module):
    """Atom representations to values of a tuple, averaged over the tuple's symmetry operations.

    1/|G| Σ_g signs_g · columns_g⁻¹( f(h[idx[:, g.atoms]]) ), after Janossy pooling
    (R. L. Murphy et al., ICLR 2019). The first layer of `f` acts on atoms before the gather:
    W [hᵢ, hⱼ] = W₁ hᵢ + W₂ hⱼ.
    """

    def __init__(self, size: int, n_out: int, width: int, hidden: int, ops: tuple[Op, ...]):
        super().__init__()
        self.size, self.ops = size, ops
        self.atom = nn.Linear(width, size * hidden)
        last = nn.Linear(hidden, n_out)
        nn.init.normal_(last.weight, std=0.1 / hidden**0.5)  # an untrained model stays near the means
        nn.init.zeros_(last.bias)
        self.tuple = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last)

    def forward(self, h: Tensor, idx: Tensor) -> Tensor:
        """Raw values, shape `(T, n_out)`."""
        atom = self.atom(h).view(len(h), self.size, -1)
        total: Tensor | float = 0.0
        for op in self.ops:
            gathered = atom[idx[:, op.atoms[0]], 0]
            for position, a in enumerate(op.atoms[1:], start=1):
                gathered = gathered + atom[idx[:, a], position]
            raw = self.tuple(gathered)
            if op.signs is not None:
                raw = raw * torch.tensor(op.signs, dtype=raw.dtype, device=raw.device)
            if op.columns is not None:
                raw = raw[:, torch.tensor(op.columns, device=raw.device).argsort()]
            total = total + raw
        assert isinstance(total, Tensor)
        return total / len(self.ops)


class TermHead(nn.Module):
    """Parameters of one term, with shifts of the shiftable ones for sources of another level of theory.

    Args:
        term: the functional form.
        width: size of an atom's representation.
        hidden: size of the hidden layer.
        n_levels: levels of theory in training; level 0 is the target and has no shift.
    """

    def __init__(self, term: Term, width: int, hidden: int, n_levels: int = 1):
        super().__init__()
        size, n = _SIZE[term.param_kind], len(term.params)
        self.params = term.params
        self.links = [find(p.link) for p in term.params]
        self.head = SymmetricHead(size, n, width, hidden, term.symmetry if size > 1 else NONE)
        self.shift = None
        if n_levels > 1 and any(p.shifts for p in term.params):
            self.shift = nn.ModuleList(
                SymmetricHead(size, n, width, hidden, term.symmetry) for _ in range(n_levels - 1)
            )

    def _shift(self, h: Tensor, idx: Tensor, level: Tensor) -> Tensor | float:
        """Raw shift, zero for tuples at level 0 and for parameters that do not shift."""
        if self.shift is None:
            return 0.0
        movable = torch.tensor([float(p.shifts) for p in self.params], dtype=h.dtype, device=h.device)
        total: Tensor | float = 0.0
        for number, head in enumerate(self.shift, start=1):
            total = total + head(h, idx) * movable * (level == number).to(h.dtype).unsqueeze(-1)
        return total

    def forward(self, h: Tensor, idx: Tensor, numbers: Tensor, degrees: Tensor, level: Tensor | None) -> Tensor:
        """Parameter values, shape `(T, P)`; `level` is each tuple's level of theory, or None for the target."""
        raw = self.head(h, idx)
        if level is not None:
            raw = raw + self._shift(h, idx, level)
        columns = []
        for column, param, link in zip(raw.unbind(-1), self.params, self.links, strict=True):
            mean = param.mean
            value = mean(numbers[idx], degrees[idx]) if callable(mean) else torch.full_like(column, mean)
            columns.append(link(column, value.to(column.dtype), param.std))
        return torch.stack(columns, dim=-1)

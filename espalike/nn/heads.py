"""One symmetric head for every term; terms on the same tuples share its hidden layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from espalike.nn.links import find
from espalike.nn.orbits import Orbits, Reads
from espalike.terms.base import NONE, Op, Param, Term
from espalike.tuples import Kind

READOUTS = ("lean", "deep")
"""Where a head's hidden layers are: on atoms only, or also on tuples."""
_BLOCK = 512
"""Tuples whose hidden layers are computed at a time, so that they stay in the processor's cache."""


def position_classes(orders: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The class of each position of a tuple, as a number; positions that some order exchanges are one class."""
    first = [min(order[p] for order in orders) for p in range(len(orders[0]))]
    return tuple(sorted(set(first)).index(f) for f in first)


def _perceptron(n_in: int, hidden: int, n_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_in, hidden), nn.ReLU(), nn.Linear(hidden, n_out))


class GatherSum(torch.autograd.Function):
    """Sums of the rows `index` `(T, n)` of a matrix `(R, H)`, without a copy of each row, in either direction."""

    @staticmethod
    def forward(ctx, matrix: Tensor, index: Tensor) -> Tensor:
        """Shape `(T, H)`."""
        ctx.save_for_backward(index)
        ctx.shape = matrix.shape
        if matrix.dtype != torch.float64:
            return nn.functional.embedding_bag(index, matrix, mode="sum")
        first, *others = index.unbind(-1)  # in double precision, embedding_bag is slower
        total = matrix.index_select(0, first)
        for column in others:
            total += matrix.index_select(0, column)
        return total

    @staticmethod
    def backward(ctx, slope: Tensor):
        """The slope of a row is the sum over the slopes of all sums that it is in."""
        (index,) = ctx.saved_tensors
        total = slope.new_zeros(ctx.shape)
        for column in index.unbind(-1):
            total = total.index_add(0, column, slope) if slope.requires_grad else total.index_add_(0, column, slope)
        return total, None


class SymmetricHead(nn.Module):
    """Values of a tuple from its atoms' representations, averaged over the tuple's symmetry operations.

    1/|G| Σ_g signs_g · columns_g⁻¹( f(h[idx[:, g.atoms]]) ), after Janossy pooling
    (R. L. Murphy et al., ICLR 2019). The first layer of `f` acts on atoms before the gather:
    W [hᵢ, hⱼ] = W₁ hᵢ + W₂ hⱼ.

    Args:
        size: atoms of a tuple.
        n_out: values of a tuple.
        width: size of an atom's representation.
        hidden: size of the hidden layers.
        ops: the tuple's symmetry operations.
        readout: `lean`: `f` has its hidden layers before the gather, where they act on atoms, and a tuple costs no more
            than a sum. Positions that the operations exchange in every way, like the ends of a bond or the outer atoms
            of an improper, share weights: then their sum is symmetric (M. Zaheer et al., NeurIPS 2017).
            `deep`: a hidden layer acts on tuples, once per operation.

    Attributes:
        orders: the orders of a tuple's atoms that give the same values, column by column.

    Raises:
        ValueError: for another readout.
    """

    def __init__(self, size: int, n_out: int, width: int, hidden: int, ops: tuple[Op, ...], readout: str = "deep"):
        super().__init__()
        if readout not in READOUTS:
            raise ValueError(f"model.readout is {' or '.join(READOUTS)}; got {readout!r}")
        self.orders = [op.atoms for op in (ops[:1] if any(_moves(op) for op in ops) else ops)]
        lean = readout == "lean"
        classes = position_classes(self.orders)
        alike = lean and len(self.orders) == len(ops) == math.prod(
            math.factorial(classes.count(c)) for c in set(classes)
        )
        self.position = classes if alike else tuple(range(size))
        self.size, self.hidden, self.ops = max(self.position) + 1, hidden, ops[:1] if alike else ops
        self.atom = _perceptron(width, hidden, self.size * hidden) if lean else nn.Linear(width, self.size * hidden)
        last = nn.Linear(hidden, n_out)
        nn.init.normal_(last.weight, std=0.1 / hidden**0.5)  # an untrained model stays near the means
        nn.init.zeros_(last.bias)
        # only what is kept is built: the weights of a model file are counted while its network is built
        first = (
            [nn.ReLU()] if lean else [nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()]
        )  # a ReLU costs a tenth of a SiLU
        self.tuple = nn.Sequential(*first, last)

    def forward(self, h: Tensor, idx: Tensor, orbits: Orbits | None = None) -> Tensor:
        """Raw values, shape `(T, n_out)`; what several networks ask for the same tuples is kept in `orbits`."""
        raw = self._whole(h, idx) if torch.is_grad_enabled() or h.is_cuda else self._in_blocks(h, idx, orbits)
        raw = raw.unflatten(0, (len(self.ops), len(idx))).to(h.dtype)  # from bfloat16 under autocast
        if not any(_moves(op) for op in self.ops):
            return raw.mean(0)
        return torch.stack([_moved(values, op) for values, op in zip(raw, self.ops, strict=True)]).mean(0)

    def _whole(self, h: Tensor, idx: Tensor) -> Tensor:
        """Raw values of tuples in every order, one order after the other, shape `(orders * T, n_out)`."""
        atom = self.atom(h).view(len(h) * self.size, self.hidden)
        read = torch.cat([idx[:, op.atoms] for op in self.ops]) * self.size
        return self.tuple(GatherSum.apply(atom, read + torch.tensor(self.position, device=idx.device)))

    def _in_blocks(self, h: Tensor, idx: Tensor, orbits: Orbits | None) -> Tensor:
        """The same without gradients: in parts, each different row once, and of each position only its atoms."""
        how = [op.atoms for op in self.ops], self.position
        reads = Reads.of(idx, *how, len(h)) if orbits is None else orbits.reads(idx, *how)
        layers = list(self.atom) if isinstance(self.atom, nn.Sequential) else [self.atom]
        for layer in layers[:-1]:
            h = layer(h)
        last = layers[-1]
        assert isinstance(last, nn.Linear)
        weights = zip(reads.atoms, last.weight.chunk(self.size), last.bias.chunk(self.size), strict=True)
        parts = [nn.functional.linear(h.index_select(0, atoms), weight, bias) for atoms, weight, bias in weights]
        values = []
        for block in zip(*(column.split(_BLOCK) for column in reads.columns), strict=True):
            total = parts[self.position[0]].index_select(0, block[0])
            for place, column in zip(self.position[1:], block[1:], strict=True):
                total += parts[place].index_select(0, column)
            values.append(_overwritten(self.tuple, total))
        return torch.cat(values).index_select(0, reads.row)


def _overwritten(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """The output of layers; activations take the place of their input."""
    for layer in layers:
        if isinstance(layer, nn.SiLU):
            x = nn.functional.silu(x, inplace=True)
        elif isinstance(layer, nn.ReLU):
            x = x.relu_()
        else:
            x = layer(x)
    return x


def _moves(op: Op) -> bool:
    """Whether an operation changes the values."""
    return op.columns is not None or op.signs is not None


def _moved(raw: Tensor, op: Op) -> Tensor:
    """Values `(T, n_out)` of tuples after an operation."""
    if op.signs is not None:
        raw = raw * torch.tensor(op.signs, dtype=raw.dtype, device=raw.device)
    return raw if op.columns is None else raw[:, torch.tensor(op.columns, device=raw.device).argsort()]


def _columns(op: Op, learned: Sequence[int], start: int) -> tuple[list[int], list[int]]:
    """Places and signs of the learned columns of one term after an operation; the columns begin at `start`."""
    image = op.columns or tuple(range(max(learned, default=-1) + 1))
    signs = op.signs or (1,) * (max(learned, default=-1) + 1)
    return [start + learned.index(image[c]) for c in learned], [signs[c] for c in learned]


def merged(terms: Sequence[Term], learned: Sequence[Sequence[int]]) -> tuple[Op, ...]:
    """The operations of several terms on the same tuples, acting on all their learned columns side by side."""
    if terms[0].param_kind is Kind.ATOM:
        return NONE
    result = []
    for atoms in (op.atoms for op in terms[0].symmetry):
        columns: list[int] = []
        signs: list[int] = []
        for term, of in zip(terms, learned, strict=True):
            op = next(op for op in term.symmetry if op.atoms == atoms)
            image, sign = _columns(op, of, len(columns))
            columns, signs = columns + image, signs + sign
        moves, flips = columns != list(range(len(columns))), -1 in signs
        result.append(Op(atoms, tuple(columns) if moves else None, tuple(signs) if flips else None))
    return tuple(result)


class TermHead(nn.Module):
    """Learned parameters of terms on the same tuples, with shifts for sources of another level of theory.

    Args:
        terms: functional forms with the same `param_kind` and the same operations on atoms.
        learned: for each term, the columns of its parameters that are learned for each tuple.
        width: size of an atom's representation.
        hidden: size of the hidden layer.
        n_levels: levels of theory in training; level 0 is the target and has no shift.
        readout: see `SymmetricHead`.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        learned: Sequence[Sequence[int]],
        width: int,
        hidden: int,
        n_levels: int = 1,
        readout: str = "deep",
    ):
        super().__init__()
        self.kind = terms[0].param_kind
        self.params: list[Param] = [term.params[c] for term, of in zip(terms, learned, strict=True) for c in of]
        self.links = [find(p.link) for p in self.params]
        size, n, ops = self.kind.size, len(self.params), merged(terms, learned)
        self.head = SymmetricHead(size, n, width, hidden, ops, readout)
        self.shift = None
        if n_levels > 1 and any(p.shifts for p in self.params):
            self.shift = nn.ModuleList(SymmetricHead(size, n, width, hidden, ops, readout) for _ in range(n_levels - 1))

    def _shift(self, h: Tensor, idx: Tensor, orbits: Orbits, level: Tensor) -> Tensor | float:
        """Raw shift, zero for tuples at level 0 and for parameters that do not shift."""
        if self.shift is None:
            return 0.0
        movable = torch.tensor([float(p.shifts) for p in self.params], dtype=h.dtype, device=h.device)
        total: Tensor | float = 0.0
        for number, head in enumerate(self.shift, start=1):
            total = total + head(h, idx, orbits) * movable * (level == number).to(h.dtype).unsqueeze(-1)
        return total

    def forward(self, h: Tensor, idx: Tensor, orbits: Orbits, level: Tensor | None) -> Tensor:
        """Parameter values, shape `(T, P)`.

        Args:
            h: representations of the classes of atoms, shape `(C, width)`.
            idx: atoms of each tuple, shape `(T, k)`.
            orbits: the classes.
            level: level of theory of each class, shape `(C,)`, or None for the target.
        """
        idx, inverse = orbits.distinct(idx, self.head.orders)
        raw = self.head(h, idx, orbits)
        if level is not None:
            raw = raw + self._shift(h, idx, orbits, level[idx[:, 0]])
        columns = []
        for column, param, link in zip(raw.unbind(-1), self.params, self.links, strict=True):
            atoms = idx if param.borrows is None else idx[:, param.borrows.atoms]
            mean = param.mean
            value = (
                mean(orbits.numbers[atoms], orbits.degrees[atoms]) if callable(mean) else torch.full_like(column, mean)
            )
            columns.append(link(column, value.to(column.dtype), param.std))
        return torch.stack(columns, dim=-1).index_select(0, inverse)

"""Terms that are linear in their coefficients, as a small matrix a molecule: a step costs the same for any number of
conformers.

Energies and forces of all conformers of an entry are J c, linear in coefficients c that follow from the parameters
(`Term.coefficients`). With the labels y and a QR decomposition of (J, y), the sum of squared errors |J c − y|² is
|R c − z|² and a constant. R has as many rows as J has independent columns, however many conformers there are. It is
worked out once, in double precision, by Householder reflections, which do not square the condition as JᵀJ does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.linalg
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espalike.batch import Batch
from espalike.data.batches import Batches
from espalike.data.columns import MappedColumn, code_digest, write_whole
from espalike.data.coordinates import default_folder
from espalike.data.dataset import StoreDataset
from espalike.data.sampler import Picks
from espalike.internal import measured
from espalike.nn.orbits import distinct
from espalike.system import MMSystem
from espalike.terms.base import Term
from espalike.training.losses import FITTED, Fitted, centred
from espalike.training.objective import Objective

_BY_GEOMETRY = ("hessian", "profile", "dipole", "esp")
"""Losses that need geometries in every step."""
_ROWS = 256
"""Rows that are stored, and multiplied, together; left out is what is zero in all of them."""
_MOST = 2**24
"""Most numbers of J that are worked out at once, where one conformer has fewer."""


def check(terms: Sequence[Term], folded: Sequence[str], objective: Objective) -> None:
    """Whether a step can do without geometries.

    Raises:
        ValueError: naming the terms, or the losses, that cannot.
    """
    others = [term.name for term in terms if not term.is_linear and term.name not in folded]
    if others:
        raise ValueError(
            f"data.gram=true: {', '.join(others)} cannot be written as coefficients times functions of the geometry. "
            "Nonbonded terms can be frozen and taken off the labels: start=MODEL 'freeze=[encoder,pair]' fold=true, "
            "and others by their names; or leave data.gram=false"
        )
    if not (objective.energy or objective.forces):
        raise ValueError(
            "data.gram=true, but objective.energy and objective.forces are both zero: there is nothing to fit"
        )
    losses = [name for name in _BY_GEOMETRY if getattr(objective, name)]
    if losses:
        raise ValueError(
            f"data.gram=true knows squared errors of energies and forces only: set "
            f"{' '.join(f'objective.{name}=0' for name in losses)}, or leave data.gram=false"
        )


@dataclass(frozen=True, eq=False)
class Columns:
    """Tuples of a term, those with equal parameters being one.

    Attributes:
        term: the term.
        first: one tuple of each class of equal ones, ascending, shape `(U,)`.
        of: class of each tuple, shape `(T,)`.
    """

    term: Term
    first: Tensor
    of: Tensor

    @staticmethod
    def of_batch(term: Term, batch: Batch) -> Columns:
        """Classes of a batch's tuples, in the same order for a molecule alone and among others."""
        idx = batch.tuples[term.kind].idx
        places = torch.arange(len(idx), device=idx.device)
        if batch.orbit is None:
            return Columns(term, places, places)
        orders = [op.atoms for op in term.symmetry if op.columns is None and op.signs is None]
        found, of = distinct(batch.orbit[idx], orders, len(batch.numbers))
        first = places.new_full((len(found),), len(idx)).scatter_reduce(0, of, places, "amin")
        first, order = first.sort()
        number = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
        return Columns(term, first, number[of])


def design(columns: Sequence[Columns], batch: Batch, xyz: Tensor) -> tuple[Tensor, Tensor]:
    """What one coefficient at 1, the others at 0, gives: energies `(K, P)`, force components `(K × 3 N, P)`.

    The columns of one molecule: by term, then by function of `Term.basis`, then by class of tuples.
    """
    x = xyz.permute(1, 2, 0).contiguous()
    n, k = len(x), len(xyz)
    energies, forces = [], []
    for column in columns:
        term, idx = column.term, batch.tuples[column.term.kind].idx
        found = [measured(c, idx[:, c.atoms], x) for c in term.coordinates]
        with torch.enable_grad():
            q = tuple(values.q.detach().requires_grad_() for values in found)
            functions = term.basis(q)
            slopes = [torch.autograd.grad(f.sum(), q, allow_unused=True, retain_graph=True) for f in functions]
        energy = x.new_zeros(len(functions), len(column.first), k)
        force = x.new_zeros(len(functions), len(column.first) * n, 3, k)
        for number, (function, slope) in enumerate(zip(functions, slopes, strict=True)):
            energy[number].index_add_(0, column.of, function.detach())
            for coordinate, values, du in zip(term.coordinates, found, slope, strict=True):
                if du is None:
                    continue
                pulls = [du.unsqueeze(1) * row for row in values.rows]
                for atom, pull in zip(coordinate.atoms, [*pulls, -sum(pulls[1:], pulls[0])], strict=True):
                    force[number].index_add_(0, column.of * n + idx[:, atom], pull, alpha=-1)
        energies.append(energy.flatten(0, 1))
        forces.append(force.view(-1, n, 3, k))
    return torch.cat(energies).T, torch.cat(forces).permute(3, 1, 2, 0).reshape(k * n * 3, -1)


@dataclass(frozen=True, eq=False)
class Factor:
    """A sum of squares |J c − y|² as |R c[order] − z|² + rest.

    Attributes:
        matrix: R and, as its last column, z, shape `(rows, P + 1)`; R is upper triangular or trapezoidal.
        order: of the coefficients, shape `(P,)`, int64.
        count: number of squares.
        rest: what no coefficients can fit.
    """

    matrix: Tensor
    order: Tensor
    count: int
    rest: float

    @staticmethod
    def of_triangle(triangle: Tensor, count: int, eps: float) -> Factor:
        """From the R of (J, y), without rows that are zero to a relative precision."""
        columns = triangle.shape[1] - 1
        order, rows = torch.arange(columns), 0
        if triangle[:, :-1].any():
            order = torch.from_numpy(scipy.linalg.qr(triangle[:, :-1].numpy(), mode="r", pivoting=True)[1]).long()
            triangle = torch.linalg.qr(torch.cat([triangle[:, order], triangle[:, -1:]], 1), mode="r").R
            size = triangle[:columns].diagonal().abs()
            rows = int((size > eps * size[0]).sum())
            triangle[triangle.abs() < eps * eps * size[0]] = 0.0  # products of such would be subnormal, hence slow
        return Factor(triangle[:rows], order, count, float(triangle[rows:, -1].square().sum()))


def _added(triangle: Tensor, rows: Tensor) -> Tensor:
    """The R of rows, and of the rows that another R came from."""
    return torch.linalg.qr(torch.cat([triangle, rows]), mode="r").R


def factors(batch: Batch, terms: Sequence[Term], losses: Sequence[str], eps: float) -> dict[str, Factor]:
    """Factors of one molecule's energies about their mean and of its force components, as far as they are known."""
    assert batch.xyz is not None
    assert batch.energy is not None
    assert batch.forces is not None
    columns = [Columns.of_batch(term, batch) for term in terms]
    with torch.no_grad():
        width = len(design(columns, batch, batch.xyz[:1])[0].T) + 1
        together = max(1, min(2 * width, _MOST // width) // (3 * len(batch.numbers)))
        triangle, energies, known = batch.xyz.new_zeros(0, width), [], batch.forces.isfinite()
        for xyz, labels, there in zip(*(t.split(together) for t in (batch.xyz, batch.forces, known)), strict=True):
            energy, forces = design(columns, batch, xyz)
            energies.append(energy)
            if "forces" in losses:
                rows = torch.cat([forces, labels.reshape(-1, 1)], 1)
                triangle = _added(triangle, rows[there.flatten()])
        found = {"forces": Factor.of_triangle(triangle, int(known.sum()), eps)}
        of_energy = batch.energy.isfinite()
        rows = torch.cat([centred(torch.cat(energies), of_energy), batch.energy], 1)[of_energy[:, 0]]
        found["energy"] = Factor.of_triangle(_added(triangle[:0], rows), len(rows), eps)
    return {name: found[name] for name in losses}


def _blocks(rows: int) -> list[tuple[int, int]]:
    """First row, and the one after the last, of what is stored together; its columns begin at that of the first row."""
    return [(start, min(start + _ROWS, rows)) for start in range(0, rows, _ROWS)]


def _size(rows: int, columns: int) -> int:
    """Numbers that are stored of a matrix."""
    return sum((stop - start) * (columns - start) for start, stop in _blocks(rows))


def packed(
    batch: Batch, terms: Sequence[Term], losses: Sequence[str], dtype: torch.dtype
) -> tuple[np.ndarray, list[list[float]]]:
    """One molecule's part of a `Gram`'s `words` and `table`."""
    words, table = [], []
    for factor in factors(batch, terms, losses, torch.finfo(dtype).eps).values():
        (rows, columns), numbers = factor.matrix.shape, factor.matrix.to(dtype).numpy()
        order = factor.order.numpy().astype(f"i{numbers.itemsize}").view(numbers.dtype)
        words += [order, *(numbers[start:stop, start:].ravel() for start, stop in _blocks(rows))]
        table.append([rows, columns - 1, factor.count, factor.rest])
    return np.concatenate(words), table


class _Squares(torch.autograd.Function):
    """|R c − z|² of each molecule, shape `(M,)`, with its gradient by c worked out while R is at hand."""

    @staticmethod
    def forward(ctx, coefficients: Tensor, sizes: list[int], matrices: list[list[Tensor]]) -> Tensor:
        """`sizes` are numbers of coefficients, `matrices` the blocks of R with z as the last column."""
        slopes, squares = torch.zeros_like(coefficients), coefficients.new_zeros(len(sizes))
        for n, (c, slope) in enumerate(zip(coefficients.split(sizes), slopes.split(sizes), strict=True)):
            for block in matrices[n]:
                r, start = block[:, :-1], len(c) + 1 - block.shape[1]
                residual = torch.addmv(block[:, -1], r, c[start:], beta=-1)
                slope[start:].addmv_(r.t(), residual, alpha=2)
                squares[n] += residual.dot(residual)
        ctx.sizes = torch.tensor(sizes, device=coefficients.device)
        ctx.save_for_backward(slopes)
        return squares

    @staticmethod
    @once_differentiable
    def backward(ctx, slope: Tensor):
        """By the coefficients."""
        (own,) = ctx.saved_tensors
        return own * slope.repeat_interleave(ctx.sizes, output_size=len(own)), None, None


@dataclass(frozen=True, eq=False)
class Gram:
    """Factors of all entries of a data set, mapped from a file.

    Attributes:
        terms: names of the terms that are in it, in the order of the force field.
        losses: `FITTED`, or one of them.
        words: order of coefficients, as integers of the same size, and blocks of numbers, entry by entry, loss by loss.
        table: rows and columns of R, number of squares and rest, shape `(E, losses, 4)`, float64.
    """

    terms: tuple[str, ...]
    losses: tuple[str, ...]
    words: np.ndarray
    table: np.ndarray

    @cached_property
    def tensor(self) -> Tensor:
        """`words`, without a copy."""
        return torch.from_numpy(self.words)

    @cached_property
    def starts(self) -> np.ndarray:
        """Place of each factor in `words`, shape `(E, losses)`."""
        sizes = np.array([[c + _size(r, c + 1) for r, c in row] for row in self.table[..., :2].astype(int).tolist()])
        return (np.cumsum(sizes) - sizes.ravel()).reshape(sizes.shape)

    @staticmethod
    def of(
        dataset: StoreDataset,
        terms: Sequence[Term],
        losses: Sequence[str] = FITTED,
        folder: Path | None = None,
        dtype: torch.dtype = torch.float32,
        labels: Mapping[str, MappedColumn] | None = None,
        progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    ) -> Gram:
        """Factors of a data set's entries; worked out now unless that was done before.

        Args:
            dataset: the entries.
            terms: linear terms.
            losses: `FITTED`, or one of them.
            folder: where the file is or will be; None = the user's cache.
            dtype: of the numbers.
            labels: those of `espalike.training.fold.folded_labels`, where terms are taken off the labels.
            progress: wraps the iteration over entries.

        Raises:
            ValueError: naming an entry with coordinates that are not finite.
            OSError: when the folder cannot be written, or the disk is full.
        """
        folder = folder or default_folder()
        what = [code_digest(), [s.hash for s in dataset.stores], repr(tuple(terms)), tuple(losses), str(dtype)]
        what.append(sorted(column.path.name for column in (labels or {}).values()))
        name = hashlib.sha256(repr(what).encode() + dataset.refs.tobytes()).hexdigest()[:20]
        path, counts = folder / f"{name}.gram", folder / f"{name}.gram.npy"
        if not (path.exists() and counts.exists()):
            folder.mkdir(parents=True, exist_ok=True)
            batches, temporary = Batches(dataset, torch.float64, instead=labels), folder / f"{name}.{os.getpid()}.tmp"
            try:
                with open(temporary, "wb") as file:
                    rows = [_write(file, batches, e, terms, losses, dtype) for e in progress(range(len(dataset)))]
                write_whole(counts, np.array(rows, np.float64))
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        table = np.load(counts, allow_pickle=False)
        kind = torch.empty(0, dtype=dtype).numpy().dtype
        # private to this process: torch warns of arrays that can only be read
        words = np.memmap(path, kind, "c") if path.stat().st_size else np.empty(0, kind)
        return Gram(tuple(t.name for t in terms), tuple(losses), words, table)

    def fitted(self, system: MMSystem, batch: Batch) -> Fitted:
        """Sums of squared errors over all conformers of each molecule of a batch, which has a conformer of each.

        `system` are their parameters; by those of the terms here the sums can be differentiated.
        """
        assert batch.xyz is not None
        assert batch.entry is not None
        flat, mol = [], []
        for bound in (b for b in system.terms if b.term.name in self.terms):
            first = Columns.of_batch(bound.term, batch).first
            own = bound.term.coefficients(bound.values[first].to(batch.xyz.dtype).unbind(-1))
            flat.append(torch.cat(own))
            mol.append(bound.tuples.mol[first].repeat(len(own)))
        order = torch.cat(mol).argsort(stable=True)  # a molecule's together, in the order of `design`
        coefficients, entries = torch.cat(flat)[order], batch.entry.cpu().numpy()
        zero = batch.xyz.new_zeros(len(batch.xyz), batch.n_mols)
        squares = {name: self._squares(n, entries, coefficients) for n, name in enumerate(self.losses)}
        return Fitted(zero, torch.zeros_like(batch.xyz), tuple(zero for _ in system.terms), squares)

    def _squares(self, loss: int, entries: np.ndarray, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of squares and their numbers by molecule, each `(M,)`; coefficients are those of all, side by side."""
        orders, matrices, first = [], [], 0
        rows, sizes = self.table[entries, loss, :2].T.astype(np.int64).tolist()
        for row, size, start in zip(rows, sizes, self.starts[entries, loss].tolist(), strict=True):
            words = self.tensor[start : start + size + _size(row, size + 1)].to(coefficients.device)
            order, *parts = words.split([size, *((b - a) * (size + 1 - a) for a, b in _blocks(row))])
            orders.append(order.view(torch.int32 if order.itemsize == 4 else torch.int64) + first)
            first += size
            matrices.append([part.view(-1, size + 1 - a) for part, (a, _) in zip(parts, _blocks(row), strict=True)])
        count, rest = torch.from_numpy(self.table[entries, loss, 2:].T.copy()).to(coefficients)
        ordered = coefficients[torch.cat(orders).long()]
        return _Squares.apply(ordered, sizes, matrices) + rest, count


def _write(
    file: BinaryIO, batches: Batches, entry: int, terms: Sequence[Term], losses: Sequence[str], dtype: torch.dtype
) -> list[list[float]]:
    """Append an entry's factors to a file; their rows of the table."""
    count = int(batches.dataset.counts[entry])
    batch = batches.__getitems__(Picks(np.array([entry]), np.array([count]), np.arange(count)))
    assert batch.xyz is not None
    if not batch.xyz.isfinite().all():
        raise ValueError(f"{batches.dataset.name_of(entry)}: coordinates are not finite: leave the entry out")
    words, table = packed(batch, terms, losses, dtype)
    file.write(words.tobytes())
    return table

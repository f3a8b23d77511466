"""Charges and van der Waals parameters of one molecule, and the pairs that are left out or scaled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from espalike.export.engine import rule_of
from espalike.system import Bound
from espalike.terms.base import PairTerm
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.primitives import TwelveSix
from espalike.tuples import Pairs


def near_pairs(bound: Bound, n_atoms: int) -> tuple[np.ndarray, np.ndarray]:
    """Of a pair term: pairs that are left out, and pairs three bonds apart, each `(P, 2)`, rows sorted."""
    tuples = bound.tuples
    if isinstance(tuples, Pairs):
        return tuples.excluded.numpy(), tuples.pairs14.numpy()
    listed = pair_keys(tuples.idx.numpy(), n_atoms)
    left_out = np.setdiff1d(pair_keys(np.stack(np.triu_indices(n_atoms, 1), axis=1), n_atoms), listed)
    scaled = np.unique(listed[[] if tuples.is14 is None else tuples.is14.numpy()])
    return np.stack(np.divmod(left_out, n_atoms), axis=1), np.stack(np.divmod(scaled, n_atoms), axis=1)


def pair_keys(pairs: np.ndarray, n_atoms: int) -> np.ndarray:
    """A number for each pair of atoms."""
    i, j = pairs.T
    return np.minimum(i, j) * n_atoms + np.maximum(i, j)


def pair_scales(bound: Bound, pairs: np.ndarray, n_atoms: int) -> np.ndarray:
    """Factor on the interaction of each of the pairs `(P, 2)`: 0 left out, `scale14` for 1-4, 1 beyond.

    The rows of the pairs are sorted; all that the term leaves out or scales are among them.
    """
    keys, scales = pair_keys(pairs, n_atoms), np.ones(len(pairs))
    for near, scale in zip(near_pairs(bound, n_atoms), (0.0, float(bound.scale14)), strict=True):
        scales[np.searchsorted(keys, pair_keys(near, n_atoms))] = scale
    return scales


@dataclass(frozen=True, eq=False)
class Nonbonded:
    """Charges and 12-6 wells of a molecule, in internal units.

    Attributes:
        van_der_waals: the 12-6 term, or None.
        coulomb: the term of the charges, or None.
        n_atoms: number of atoms.
    """

    van_der_waals: Bound | None
    coulomb: Bound | None
    n_atoms: int

    @cached_property
    def charges(self) -> np.ndarray:
        """Charges [e] `(A,)`; zeros without a Coulomb term."""
        if self.coulomb is None:
            return np.zeros(self.n_atoms)
        column = next(n for n, param in enumerate(self.coulomb.term.params) if param.link == "charge")
        return self.coulomb.values[:, column].numpy()

    @cached_property
    def wells(self) -> np.ndarray:
        """sigma [Å] and epsilon [kcal/mol] of each atom with its like, `(A, 2)`; epsilon 0 without a 12-6 term."""
        atoms = np.arange(self.n_atoms)
        return self.pairs(np.stack([atoms, atoms], axis=1))

    @property
    def has_own(self) -> bool:
        """Whether pairs of one molecule have other wells than pairs of different molecules."""
        return self.van_der_waals is not None and self._term.has_own

    @property
    def _term(self) -> PairTerm:
        assert self.van_der_waals is not None
        assert isinstance(self.van_der_waals.term, PairTerm)
        return self.van_der_waals.term

    @cached_property
    def wells_within(self) -> np.ndarray:
        """As `wells`, for pairs of one molecule."""
        atoms = np.arange(self.n_atoms)
        return self.pairs(np.stack([atoms, atoms], axis=1), within=True)

    def pairs(self, atoms: np.ndarray, within: bool = False) -> np.ndarray:
        """sigma [Å] and epsilon [kcal/mol] of pairs of atoms, combined by the term, unscaled; shape `(P, 2)`.

        Args:
            atoms: the pairs, shape `(P, 2)`.
            within: for pairs of one molecule; else for pairs of different molecules.
        """
        atoms = np.asarray(atoms).reshape(-1, 2)
        if self.van_der_waals is None:
            return np.tile([1.0, 0.0], (len(atoms), 1))
        term, columns = self._term, self.van_der_waals.values.unbind(-1)
        values = torch.stack(term.within(columns) if within else columns[: term.n_combined], dim=-1)
        first, second = (values[column].unbind(-1) for column in torch.as_tensor(atoms).T)
        (primitive,) = term.primitives(term.combine(first, second))
        assert isinstance(primitive, TwelveSix)
        return torch.stack([primitive.sigma, primitive.epsilon], dim=-1).numpy()

    @property
    def rule(self) -> str | None:
        """Name of the combining rule, None for another rule."""
        return "lorentz-berthelot" if self.van_der_waals is None else rule_of(self.van_der_waals.term)

    @property
    def scale_lj(self) -> float:
        """Factor on 12-6 wells of 1-4 pairs."""
        return LennardJones.usual14 if self.van_der_waals is None else float(self.van_der_waals.scale14)

    @property
    def scale_charge(self) -> float:
        """Factor on Coulomb energies of 1-4 pairs."""
        return Coulomb.usual14 if self.coulomb is None else float(self.coulomb.scale14)

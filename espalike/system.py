"""Parametrized molecules and predictions for them. Units: Å, kcal/mol, e, rad.

Shape letters: `N` atoms of all molecules, `M` molecules, `K` conformers, `T` tuples, `P` parameter columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from espalike.chem.charges import fit_to_formal
from espalike.chem.molecule import Molecule
from espalike.chem.sanitize import shorten
from espalike.tables import html_table, text_table
from espalike.terms.base import PairTerm, Term
from espalike.tuples import Moves, Pairs, Tuples


@dataclass(frozen=True, eq=False)
class Bound(Moves):
    """A term with its tuples and their parameter values.

    Attributes:
        term: the functional form.
        tuples: tuples the energy is summed over (`term.kind`).
        values: parameters in `term.params` order and units, shape `(T, P)`; for a pair term one row
            per *atom*, shape `(N, P)`, combined per pair by the term.
    """

    term: Term
    tuples: Tuples
    values: torch.Tensor

    @property
    def scale14(self) -> torch.Tensor:
        """Factor on 1-4 pairs of a pair term, a scalar: learned (the column `scale14`) or the term's number."""
        if self.term.params[-1].name == "scale14" and len(self.values):
            return self.values[0, -1]
        return self.values.new_tensor(self.term.scale14, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class MMSystem(Moves):
    """Parametrized molecules: the input of energy, loss, evaluation and export.

    Attributes:
        terms: the bound terms.
        numbers: atomic numbers, shape `(N,)`.
        mol: molecule of each atom, shape `(N,)`.
        molecules: the graphs, in order, where known (exporters need them for names and bonds).

    Examples:
        >>> import espalike
        >>> espalike.load("espalike-1").parametrize(espalike.Molecule.from_smiles("CCO", "ethanol"))
        MMSystem of ethanol, 9 atoms
        term              tuples  parameters
        HarmonicBond      8       k [kcal/mol/angstrom**2], r0 [angstrom]
        HarmonicAngle     13      k [kcal/mol], theta0 [radian]
        PeriodicProper    12      k1, k2, k3, k4, k5, k6 [kcal/mol]
        PeriodicImproper  0       k2 [kcal/mol]
        LennardJones      15      sigma [angstrom], epsilon [kcal/mol], scale14 [1]
        Coulomb           15      q [e], scale14 [1]
    """

    terms: tuple[Bound, ...]
    numbers: torch.Tensor
    mol: torch.Tensor
    molecules: tuple[Molecule, ...] = field(default=())

    @property
    def n_mols(self) -> int:
        """Number of molecules."""
        return int(self.mol[-1]) + 1 if len(self.mol) else 0

    def _title(self) -> str:
        names = ", ".join(molecule.name for molecule in self.molecules)
        return f"MMSystem of {shorten(names) or f'{self.n_mols} molecules'}, {len(self.numbers)} atoms"

    def _rows(self) -> list[dict[str, object]]:
        """Terms with their numbers of tuples and their parameters."""
        rows: list[dict[str, object]] = []
        for bound in self.terms:
            by_unit = [(unit, [p.name for p in same]) for unit, same in groupby(bound.term.params, lambda p: p.unit)]
            names = ", ".join(f"{', '.join(names)} [{unit}]" for unit, names in by_unit)
            rows.append({"term": bound.term.name, "tuples": len(bound.tuples), "parameters": names})
        return rows

    def __repr__(self) -> str:
        return "\n".join([self._title(), *([text_table(self._rows())] if self.terms else [])])

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        return f"<p>{escape(self._title())}</p>{html_table(self._rows()) if self.terms else ''}"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"'MMSystem' object has no attribute {name!r}; bound(NAME).values has the parameters of a term, "
                "bound('Coulomb').values[:, 0] charges; espalike.energy.energy gives energies, espalike.export files",
                name=name,
                obj=self,
            )

    def bound(self, name: str) -> Bound:
        """The bound term whose class is called `name`.

        Raises:
            KeyError: naming the system's terms.
        """
        for bound in self.terms:
            if bound.term.name == name:
                return bound
        raise KeyError(f"no term {name!r} in this system; it has {', '.join(b.term.name for b in self.terms)}")

    def with_values(self, values: Sequence[torch.Tensor]) -> MMSystem:
        """The same with other parameters, one array `(T, P)` for each term."""
        terms = (replace(bound, values=each) for bound, each in zip(self.terms, values, strict=True))
        return replace(self, terms=tuple(terms))

    def without_small(self) -> MMSystem:
        """The same with zero in place of values that are nearer to zero than their `Param.smallest`."""
        terms = []
        for bound in self.terms:
            smallest = bound.values.new_tensor([param.smallest for param in bound.term.params])
            if smallest.any():
                values = torch.where(bound.values.abs() < smallest, 0.0, bound.values)
                bound = Bound(bound.term, bound.tuples, values)
            terms.append(bound)
        return MMSystem(tuple(terms), self.numbers, self.mol, self.molecules)

    def split(self) -> list[MMSystem]:
        """One system per molecule, in order; tuples must be sorted by molecule, as those of a batch are."""
        sizes = self.mol.bincount(minlength=len(self.molecules)).tolist()
        starts = [0, *accumulate(sizes)][:-1]
        parts: list[list[Bound]] = [[] for _ in sizes]
        known: dict[int, list[Tuples]] = {}  # one object for all terms on the same tuples
        for bound in self.terms:
            tuples = bound.tuples
            if id(tuples) not in known:
                known[id(tuples)] = _split(tuples, starts, sizes)
            each = known[id(tuples)]
            rows = sizes if isinstance(bound.term, PairTerm) else [len(one) for one in each]
            for part, one, values in zip(parts, each, bound.values.split(rows), strict=True):
                part.append(Bound(bound.term, one, values))
        atoms = self.numbers.split(sizes)
        molecules: list[tuple[Molecule, ...]] = [(m,) for m in self.molecules] or [()] * len(sizes)
        return [
            MMSystem(tuple(terms), numbers, torch.zeros_like(numbers), graphs)
            for terms, numbers, graphs in zip(parts, atoms, molecules, strict=True)
        ]

    def between_components(self, component: torch.Tensor) -> MMSystem:
        """The pair terms, over pairs of atoms in different components only.

        Its energy is the interaction energy of complexes of rigid molecules: everything else is the same in the complex
        and in its molecules.

        Args:
            component: connected component of each atom (`Batch.component`), shape `(N,)`.
        """
        chosen: dict[int, Tuples] = {}  # one object for all terms on the same pairs: their distances are computed once
        terms = []
        for bound in self.terms:
            if not isinstance(bound.term, PairTerm):
                continue
            tuples = bound.tuples
            if id(tuples.idx) not in chosen:
                first, second = component[tuples.idx].unbind(-1)
                across = first != second
                is14 = None if tuples.is14 is None else tuples.is14[across]
                chosen[id(tuples.idx)] = Tuples(tuples.idx[across], tuples.mol[across], is14, across[across])
            terms.append(Bound(bound.term, chosen[id(tuples.idx)], bound.values))
        return MMSystem(tuple(terms), self.numbers, self.mol, self.molecules)


def _split(tuples: Tuples, starts: list[int], sizes: list[int]) -> list[Tuples]:
    """The tuples of each molecule, whose atoms start at `starts`."""

    def parts(idx: torch.Tensor) -> tuple[torch.Tensor, ...]:
        edges = torch.tensor([*starts, starts[-1] + sizes[-1]], device=idx.device)
        return idx.split(torch.searchsorted(idx[:, 0].contiguous(), edges).diff().tolist())

    if isinstance(tuples, Pairs):
        near = zip(parts(tuples.excluded), parts(tuples.pairs14), starts, sizes, strict=True)
        return [Pairs(e - start, p - start, e.new_zeros(size)) for e, p, start, size in near]
    counts = tuples.mol.bincount(minlength=len(sizes)).tolist()
    flags = ([None] * len(sizes) if each is None else each.split(counts) for each in (tuples.is14, tuples.across))
    zipped = zip(tuples.idx.split(counts), starts, *flags, strict=True)
    return [Tuples(idx - start, idx.new_zeros(len(idx)), *each) for idx, start, *each in zipped]


def charges_of(molecules: Sequence[Molecule], charges: Sequence[Any] | np.ndarray | None) -> list[Any]:
    """Given charges of each of several molecules, None where the model's are used.

    Raises:
        ValueError: for charges of another number of molecules.
    """
    given = [None] * len(molecules) if charges is None else list(charges)
    if len(given) != len(molecules):
        raise ValueError(
            f"expected one array of charges, or None, for each of {len(molecules)} molecules; got {len(given)}"
        )
    return given


def with_charges(system: MMSystem, molecules: Sequence[Molecule], given: Sequence[Any]) -> MMSystem:
    """The system with given charges [e] in place of the model's.

    Args:
        system: the parametrized molecules.
        molecules: the same molecules.
        given: charges of each, `(A,)`, or None for the model's.

    Raises:
        ValueError: when charges do not fit their molecule, or a force field that needs them gets none, or has none.
    """
    position = next((i for i, b in enumerate(system.terms) if b.term.params[0].link == "charge"), None)
    if position is not None and getattr(system.terms[position].term, "charges", None) == "input":
        without = [m.name for m, charges in zip(molecules, given, strict=True) if charges is None]
        if without:
            raise ValueError(
                f"{', '.join(without)}: this force field has no charges; give them: charges= in Python, "
                "--charges FILE or --charges am1bcc on the command line"
            )
    if all(charges is None for charges in given):
        return system
    if position is None:
        raise ValueError("charges were given, but the model's force field has no charge term")
    values, start = system.terms[position].values.clone(), 0
    for molecule, charges in zip(molecules, given, strict=True):
        if charges is not None:
            values[start : start + molecule.n_atoms, 0] = torch.from_numpy(fit_to_formal(molecule, charges))
        start += molecule.n_atoms
    return system.with_values([values if n == position else b.values for n, b in enumerate(system.terms)])


def check_system(system: object) -> None:
    """Check that a value is a system.

    Raises:
        TypeError: for anything else.
    """
    if not isinstance(system, MMSystem):
        raise TypeError(f"expected an MMSystem, as `parametrize` returns it, got {type(system).__name__}")


@dataclass(frozen=True, eq=False)
class Prediction(Moves):
    """Energies and forces of an `MMSystem` at given coordinates.

    Attributes:
        energy: total energies [kcal/mol], shape `(K, M)`.
        forces: −dE/dx [kcal/mol/Å], shape `(K, N, 3)`, or None.
        by_term: energy of each term [kcal/mol], shape `(K, M)`, in the order of `MMSystem.terms`.
    """

    energy: torch.Tensor
    forces: torch.Tensor | None
    by_term: tuple[torch.Tensor, ...]

"""The types that travel through the program: frozen dataclasses of tensors and arrays.

Internal units everywhere: Å, kcal/mol, e, rad. Shape letters: `N` atoms in a batch, `A` atoms of one
molecule, `M` molecules, `K` conformers, `T` tuples, `P` parameter columns, `E` directed edges, `F` features.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from espalike.geometry import Coordinate
    from espalike.internal import Values
    from espalike.terms.base import Term


class Kind(Enum):
    """What a tuple of atoms is; the value is its name in tables and files."""

    ATOM = "atom"
    BOND = "bond"
    ANGLE = "angle"
    PROPER = "proper"
    IMPROPER = "improper"  # centre second: (outer, centre, outer, outer), SMIRNOFF's order
    ANGLE_PAIR = "angle-angle"  # (a, centre, shared, b): the angles a-centre-shared and shared-centre-b
    PROPER_PAIR = "torsion-torsion"  # (i, j, k, l, m): the torsions i-j-k-l and j-k-l-m
    PAIR = "pair"  # nonbonded pairs three (1-4) or more bonds apart

    @property
    def size(self) -> int:
        """Atoms in a tuple."""
        return _SIZES[self]


_SIZES = {
    Kind.ATOM: 1, Kind.BOND: 2, Kind.ANGLE: 3, Kind.PROPER: 4, Kind.IMPROPER: 4, Kind.ANGLE_PAIR: 4,
    Kind.PROPER_PAIR: 5, Kind.PAIR: 2,
}  # fmt: skip


def _move(value, device, dtype):
    import torch  # here: an ingest does without

    if isinstance(value, torch.Tensor):
        return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
    if isinstance(value, Moves):
        return value.to(device, dtype)
    if isinstance(value, dict):
        return {key: _move(item, device, dtype) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_move(item, device, dtype) for item in value)
    return value


class Moves:
    """Mixin: field-wise `.to(device, dtype)`; `dtype` applies to floating tensors only."""

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy with every tensor moved; fields are found, not listed, so none can be forgotten."""
        return type(self)(**{f.name: _move(getattr(self, f.name), device, dtype) for f in dataclasses.fields(self)})  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Molecule:
    """A molecular graph: no coordinates, nothing learned. Atom order is the user's and is never changed.

    Attributes:
        name: what messages and files call it.
        smiles: mapped SMILES with explicit hydrogens; map number i+1 is atom i.
        numbers: atomic numbers, shape `(A,)`, int64.
        charges: formal charges [e], shape `(A,)`, int64.
        bonds: atom index pairs, each row sorted `i<j`, rows sorted, shape `(B, 2)`, int64.
        orders: Kekulé bond orders (1, 2, 3), shape `(B,)`, int64.
    """

    name: str
    smiles: str
    numbers: np.ndarray
    charges: np.ndarray
    bonds: np.ndarray
    orders: np.ndarray

    @property
    def n_atoms(self) -> int:
        """Number of atoms, hydrogens included."""
        return len(self.numbers)

    @property
    def net_charge(self) -> int:
        """Sum of formal charges [e]."""
        return int(self.charges.sum())

    @staticmethod
    def from_smiles(smiles: str, name: str | None = None) -> Molecule:
        """Molecule of a SMILES, mapped or not; see `espalike.chem.from_smiles`."""
        from espalike import chem

        return chem.from_smiles(smiles, name)

    @staticmethod
    def from_file(path, smiles: str | None = None) -> Molecule:
        """The one molecule of an SDF, MOL, MOL2, PDB or SMI file; see `espalike.chem.from_file`."""
        from espalike import chem

        return chem.from_file(path, smiles=smiles)


@dataclass(frozen=True, eq=False)
class Potential:
    """Electrostatic potential of geometries, each at points of its own.

    Attributes:
        points: [Å], shape `(G, 3)`, those of the first geometry first.
        values: potential [kcal/mol/e], shape `(G,)`.
        count: points of each geometry, shape `(K,)`, int64; 0 where it was not computed.
    """

    points: np.ndarray
    values: np.ndarray
    count: np.ndarray

    def take(self, keep: np.ndarray) -> Potential:
        """The geometries that `keep` `(K,)`, bool, marks."""
        chosen = np.repeat(keep, self.count)
        return Potential(self.points[chosen], self.values[chosen], self.count[keep])


@dataclass(frozen=True, eq=False)
class Conformers:
    """Geometries of one molecule with what a level of theory says about them.

    Attributes:
        xyz: coordinates [Å], shape `(K, A, 3)`, float64.
        energy: energies [kcal/mol], shape `(K,)`, float64; NaN where the level gives none.
        forces: −dE/dx [kcal/mol/Å], shape `(K, A, 3)`, float64, or None.
        level: level of theory, e.g. `B3LYP-D3BJ/DZVP`.
        source: data set the conformers come from.
        dipole: dipole moment about the origin of the coordinates [e Å], shape `(K, 3)`; NaN where unknown; or None.
        esp: electrostatic potential around the molecule, or None.
    """

    xyz: np.ndarray
    energy: np.ndarray
    forces: np.ndarray | None
    level: str
    source: str
    dipole: np.ndarray | None = None
    esp: Potential | None = None

    def take(self, keep: np.ndarray) -> Conformers:
        """The geometries that `keep` `(K,)`, bool, marks, with all that is known of them."""
        return dataclasses.replace(
            self,
            xyz=self.xyz[keep],
            energy=self.energy[keep],
            forces=None if self.forces is None else self.forces[keep],
            dipole=None if self.dipole is None else self.dipole[keep],
            esp=None if self.esp is None else self.esp.take(keep),
        )


@dataclass(frozen=True, eq=False)
class Tuples(Moves):
    """Tuples of one kind in a batch, each physical tuple once.

    Attributes:
        idx: atom indices into the batch, shape `(T, k)`, int64.
        mol: molecule index of each tuple, shape `(T,)`, int64.
        is14: for pairs, whether the atoms are exactly three bonds apart, shape `(T,)`, bool; else None.
    """

    idx: torch.Tensor
    mol: torch.Tensor
    is14: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class EspPoints(Moves):
    """Reference electrostatic potentials of a batch's conformers, each at points of its own, side by side.

    Attributes:
        points: [Å], shape `(G, 3)`.
        values: potential [kcal/mol/e], shape `(G,)`.
        conformer: row of the batch's coordinates that a point belongs to, shape `(G,)`, int64.
        mol: molecule of each point, shape `(G,)`, int64, ascending; within a molecule conformers ascend.
    """

    points: torch.Tensor
    values: torch.Tensor
    conformer: torch.Tensor
    mol: torch.Tensor


@dataclass(frozen=True, eq=False)
class Batch(Moves):
    """Molecules side by side: atoms flat with an index vector, conformers leading, short molecules masked.

    Attributes:
        x: atom features, shape `(N, F)`.
        numbers: atomic numbers, shape `(N,)`, int64.
        edges: directed edges (source, target), both directions of each bond, shape `(2, E)`, int64.
        mol: molecule of each atom, shape `(N,)`, int64, ascending.
        orbit: of each atom the first one of its molecule that no message passing can tell from it, shape `(N,)`,
            int64: their parameters are equal; None when not known.
        net_charge: formal net charge [e] of each molecule, shape `(M,)`.
        tuples: tuples by kind.
        coordinates: internal coordinates at `xyz` that are stored with the data, by kind and coordinate, or None.
        xyz: coordinates [Å], shape `(K, N, 3)`, or None when only parameters are wanted.
        energy: reference energies relative to each molecule's mean [kcal/mol], shape `(K, M)`; NaN where unknown.
        forces: reference forces [kcal/mol/Å], shape `(K, N, 3)`; NaN where unknown.
        mask: which conformers of which molecules are real, shape `(K, M)`, bool.
        level: index of each molecule's level of theory, shape `(M,)`, int64; 0 is the target level.
        source: index of each molecule's data source, shape `(M,)`, int64.
        ref_charge: reference partial charges [e], shape `(N,)`; NaN where unknown.
        ref_lj: reference Lennard-Jones sigma [Å] and epsilon [kcal/mol], shape `(N, 2)`; NaN where unknown.
        dipole: reference dipole moments about the origin of `xyz` [e Å], shape `(K, M, 3)`; NaN where unknown; None
            where no molecule of the batch has any.
        esp: reference electrostatic potentials, or None where no molecule of the batch has any.
        scan: which molecules' conformers are a torsion drive, shape `(M,)`, bool.
        entry: number of each molecule's entry in its `StoreDataset`, whose `name_of` names it, shape `(M,)`, int64;
            −1 where it comes from none.
    """

    x: torch.Tensor
    numbers: torch.Tensor
    edges: torch.Tensor
    mol: torch.Tensor
    net_charge: torch.Tensor
    tuples: dict[Kind, Tuples]
    orbit: torch.Tensor | None = None
    coordinates: Mapping[tuple[Kind, Coordinate], Values] | None = None
    xyz: torch.Tensor | None = None
    energy: torch.Tensor | None = None
    forces: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    level: torch.Tensor | None = None
    source: torch.Tensor | None = None
    ref_charge: torch.Tensor | None = None
    ref_lj: torch.Tensor | None = None
    dipole: torch.Tensor | None = None
    esp: EspPoints | None = None
    scan: torch.Tensor | None = None
    entry: torch.Tensor | None = None

    @property
    def n_mols(self) -> int:
        """Number of molecules."""
        return len(self.net_charge)


@dataclass(frozen=True, eq=False)
class Bound(Moves):
    """A term with its tuples and the parameter values that belong to them.

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
        """Factor on 1-4 pairs of a pair term, a scalar: learned (the column `scale14`) or the term's own."""
        if self.term.params[-1].name == "scale14" and len(self.values):
            return self.values[0, -1]
        import torch

        return self.values.new_tensor(self.term.scale14, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class MMSystem(Moves):
    """Parametrized molecules: all that energy, loss, evaluation and export know.

    Attributes:
        terms: the bound terms.
        numbers: atomic numbers, shape `(N,)`.
        mol: molecule of each atom, shape `(N,)`.
        molecules: the graphs, in order, where known (exporters need them for names and bonds).
    """

    terms: tuple[Bound, ...]
    numbers: torch.Tensor
    mol: torch.Tensor
    molecules: tuple[Molecule, ...] = field(default=())

    @property
    def n_mols(self) -> int:
        """Number of molecules."""
        return int(self.mol[-1]) + 1 if len(self.mol) else 0

    def bound(self, name: str) -> Bound:
        """The bound term whose class is called `name`.

        Raises:
            KeyError: naming the terms there are.
        """
        for bound in self.terms:
            if bound.term.name == name:
                return bound
        raise KeyError(f"no term {name!r} in this system; it has {', '.join(b.term.name for b in self.terms)}")


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

"""Molecules side by side in one batch: their graphs, and in training their labelled conformers.

Units: Å, kcal/mol, e, rad. Shape letters: `N` atoms of all molecules, `A` atoms of one, `M` molecules, `K` conformers,
`T` tuples, `E` directed edges, `F` features.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from espalike.chem.molecule import Molecule
from espalike.features import check_elements, featurize
from espalike.terms.base import PairTerm, Term
from espalike.topology import Topology, components, enumerate_tuples
from espalike.tuples import Kind, Moves, Pairs, Tuples


@dataclass(frozen=True, eq=False)
class EspPoints(Moves):
    """Reference electrostatic potentials of a batch's conformers; each conformer has its points, all side by side.

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
    """The graphs of molecules side by side: atoms flat with an index vector.

    Attributes:
        x: atom features, shape `(N, F)`.
        numbers: atomic numbers, shape `(N,)`, int64.
        edges: directed edges (source, target), both directions of each bond, shape `(2, E)`, int64.
        mol: molecule of each atom, shape `(N,)`, int64, ascending.
        net_charge: formal net charge [e] of each molecule, shape `(M,)`.
        component: connected component of each atom, shape `(N,)`, int64. A complex has several, all else has one.
        component_charge: formal net charge [e] of each component, shape `(C,)`.
        tuples: tuples by kind.
        level: index of each molecule's level of theory, shape `(M,)`, int64; 0 is the target level.
    """

    x: torch.Tensor
    numbers: torch.Tensor
    edges: torch.Tensor
    mol: torch.Tensor
    net_charge: torch.Tensor
    component: torch.Tensor
    component_charge: torch.Tensor
    tuples: dict[Kind, Tuples]
    level: torch.Tensor

    @property
    def n_mols(self) -> int:
        """Number of molecules."""
        return len(self.net_charge)

    def tuples_of(self, term: Term) -> Tuples:
        """The tuples that a term's energy is summed over."""
        tuples = self.tuples[term.kind]
        complexes = len(self.component_charge) > self.n_mols
        if complexes and isinstance(term, PairTerm) and term.has_own:
            return tuples.with_across(self.component)
        return tuples


@dataclass(frozen=True, eq=False)
class LabelledBatch(Batch):
    """A batch for training: conformers lead, and molecules with fewer conformers are masked.

    Attributes:
        xyz: coordinates [Å], shape `(K, N, 3)`; a masked slot holds the molecule's first geometry.
        energy: reference energies relative to each molecule's mean [kcal/mol], shape `(K, M)`; NaN where unknown.
        forces: reference forces [kcal/mol/Å], shape `(K, N, 3)`; NaN where unknown.
        mask: which conformers of which molecules are real, shape `(K, M)`, bool.
        source: index of each molecule's data source, shape `(M,)`, int64.
        ref_charge: reference partial charges [e], shape `(N,)`; NaN where unknown.
        ref_lj: reference Lennard-Jones sigma [Å] and epsilon [kcal/mol], shape `(N, 2)`; NaN where unknown.
        scan: which molecules' conformers are a torsion drive, shape `(M,)`, bool.
        entry: number of each molecule's entry in its `StoreDataset`, whose `name_of` gives its name, shape `(M,)`,
            int64; −1 where it comes from none.
        kind: index in `data.schema.KINDS` of what each molecule's conformers are, −1 where it is not known, shape
            `(M,)`, int64.
        dipole: reference dipole moments about the origin of `xyz` [e Å], shape `(K, M, 3)`; NaN where unknown; None
            where no molecule of the batch has any.
        esp: reference electrostatic potentials, or None where no molecule of the batch has any.
        interaction: reference interaction energies of complexes [kcal/mol], shape `(K, M)`; NaN where unknown; None
            where the batch has no complex.
        sapt: their components as in `Conformers.sapt` [kcal/mol], shape `(K, M, 4)`; NaN where unknown, or None.
        above: reference energies above the lowest of the molecule's whole entry [kcal/mol], shape `(K, M)`; NaN where
            unknown; None where they were not computed.
    """

    xyz: torch.Tensor
    energy: torch.Tensor
    forces: torch.Tensor
    mask: torch.Tensor
    source: torch.Tensor
    ref_charge: torch.Tensor
    ref_lj: torch.Tensor
    scan: torch.Tensor
    entry: torch.Tensor
    kind: torch.Tensor
    dipole: torch.Tensor | None = None
    esp: EspPoints | None = None
    interaction: torch.Tensor | None = None
    sapt: torch.Tensor | None = None
    above: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """One molecule's graph as arrays; the integer types are as short as the number of atoms allows.

    Attributes:
        x: atom features, shape `(A, F)`, float32.
        numbers: atomic numbers, shape `(A,)`.
        edges: directed edges, both directions of each bond, shape `(2, E)`.
        component: connected component of each atom, shape `(A,)`.
        component_charge: formal net charge [e] of each component, shape `(C,)`.
        tuples: atom indices by kind, each `(T, k)`.
        is14: which pairs are exactly three bonds apart, shape `(T,)`.
    """

    x: np.ndarray
    numbers: np.ndarray
    edges: np.ndarray
    component: np.ndarray
    component_charge: np.ndarray
    tuples: dict[Kind, np.ndarray]
    is14: np.ndarray


def featurized(molecule: Molecule) -> Graph:
    """Features, edges and tuples of a molecule. Nothing is cached here; `data.table.GraphTable` caches a data set's."""
    topology = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges)
    index = np.min_scalar_type(-molecule.n_atoms)
    component = components(molecule.n_atoms, molecule.bonds)
    return Graph(
        x=featurize(molecule, topology),
        numbers=molecule.numbers.astype(np.uint8),
        edges=np.concatenate([molecule.bonds, molecule.bonds[:, ::-1]]).T.astype(index),
        component=component.astype(index),
        component_charge=np.bincount(component, weights=molecule.charges).astype(np.int64),
        tuples={kind: _listed(topology, kind).astype(index) for kind in Kind},
        is14=topology.is14,
    )


def _listed(topology: Topology, kind: Kind) -> np.ndarray:
    """All tuples of one kind."""
    if kind is Kind.ATOM:
        return np.arange(topology.n_atoms)[:, None]
    return getattr(topology, _ARRAYS[kind])


_ARRAYS = {
    Kind.BOND: "bonds",
    Kind.ANGLE: "angles",
    Kind.PROPER: "propers",
    Kind.IMPROPER: "impropers",
    Kind.ANGLE_PAIR: "angle_pairs",
    Kind.PROPER_PAIR: "proper_pairs",
    Kind.PAIR: "pairs",
}


def joined(graphs: Sequence[Graph], dtype: torch.dtype) -> dict[str, Any]:
    """Fields of a `Batch` but `level`: atoms and tuples of all graphs one after the other.

    Raises:
        ValueError: when there are no graphs.
    """
    if not graphs:
        raise ValueError("a batch needs at least one molecule")
    sizes = np.array([len(g.numbers) for g in graphs])
    n_components = np.array([len(g.component_charge) for g in graphs])
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
    component = np.concatenate([g.component for g in graphs], dtype=np.int64)
    component += np.repeat(np.cumsum(n_components) - n_components, sizes)
    return {
        "x": torch.from_numpy(np.concatenate([g.x for g in graphs])).to(dtype),
        "numbers": torch.from_numpy(np.concatenate([g.numbers for g in graphs], dtype=np.int64)),
        "edges": torch.from_numpy(edges),
        "mol": torch.from_numpy(np.repeat(index, sizes)),
        "net_charge": torch.tensor([g.component_charge.sum() for g in graphs], dtype=dtype),
        "component": torch.from_numpy(component),
        "component_charge": torch.from_numpy(np.concatenate([g.component_charge for g in graphs])).to(dtype),
        "tuples": tuples,
    }


def batch_of(
    molecules: Sequence[Molecule], dtype: torch.dtype = torch.float32, kinds: Collection[Kind] = tuple(Kind)
) -> Batch:
    """Batch of molecules at the target level of theory, for parametrization.

    Features and tuples are computed of all molecules at once. Pairs are listed when they are used, see `Pairs`.

    Args:
        molecules: the molecules.
        dtype: type of features and charges.
        kinds: kinds of the tuples to list.

    Raises:
        ValueError: when there are no molecules, or for an element without a feature column.
    """
    if not molecules:
        raise ValueError("a batch needs at least one molecule")
    for molecule in molecules:
        check_elements(molecule)
    whole = _side_by_side(molecules)
    topology = enumerate_tuples(whole.numbers, whole.bonds, whole.orders, whole.charges)
    mol = np.repeat(np.arange(len(molecules)), [m.n_atoms for m in molecules])
    component = components(whole.n_atoms, whole.bonds)
    tuples: dict[Kind, Tuples] = {}
    for kind in kinds:
        if kind is Kind.PAIR:
            tuples[kind] = Pairs(*map(torch.from_numpy, (topology.excluded, topology.pairs14, mol)))
        else:
            idx = _listed(topology, kind)
            tuples[kind] = Tuples(torch.from_numpy(idx), torch.from_numpy(mol[idx[:, 0]]))
    return Batch(
        x=torch.from_numpy(featurize(whole, topology)).to(dtype),
        numbers=torch.from_numpy(whole.numbers),
        edges=torch.from_numpy(np.concatenate([whole.bonds, whole.bonds[:, ::-1]]).T),
        mol=torch.from_numpy(mol),
        net_charge=torch.tensor([m.net_charge for m in molecules], dtype=dtype),
        component=torch.from_numpy(component),
        component_charge=torch.from_numpy(np.bincount(component, weights=whole.charges)).to(dtype),
        tuples=tuples,
        level=torch.zeros(len(molecules), dtype=torch.int64),
    )


def _side_by_side(molecules: Sequence[Molecule]) -> Molecule:
    """The graphs of several molecules as one."""
    sizes = np.array([m.n_atoms for m in molecules])
    offsets = np.repeat(np.cumsum(sizes) - sizes, [len(m.bonds) for m in molecules])
    return Molecule(
        name=f"{len(molecules)} molecules",
        smiles="",
        numbers=np.concatenate([m.numbers for m in molecules], dtype=np.int64),
        charges=np.concatenate([m.charges for m in molecules], dtype=np.int64),
        bonds=np.concatenate([m.bonds for m in molecules], dtype=np.int64) + offsets[:, None],
        orders=np.concatenate([m.orders for m in molecules], dtype=np.int64),
    )

"""One molecule out of a system, checked, in float64, in the parts that exporters translate."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch

from espalike.chem.charges import fit_to_formal
from espalike.chem.graphs import skeleton
from espalike.chem.molecule import Molecule
from espalike.chem.names import made
from espalike.export.engine import Place, coordinates_of, place_of, shapes
from espalike.export.nonbonded import Nonbonded, near_pairs, pair_keys
from espalike.export.text import printable, symbols
from espalike.geometry import Coordinate
from espalike.system import Bound, MMSystem
from espalike.terms.base import PairTerm
from espalike.terms.fourier import Fourier
from espalike.terms.primitives import Primitive, Value
from espalike.topology import Topology, enumerate_tuples
from espalike.tuples import Pairs
from espalike.units import convert, magnitude

if TYPE_CHECKING:
    from espalike.terms.base import Term

LENGTH = convert(1.0, "angstrom", "nm")
ENERGY = convert(1.0, "kcal/mol", "kJ/mol")
BOND_K = convert(1.0, "kcal/mol/angstrom**2", "kJ/mol/nm**2")
DEGREE = convert(1.0, "radian", "degree")
"""Factors from internal units to those of the engines."""
_LONGEST = 1000
_DIGITS = 8
Atoms = tuple[int, ...]
Series = list[tuple[int, float, float]]
"""(periodicity n, phase δ [rad], k [kcal/mol]) of each k (1 + cos(nφ − δ)) of one dihedral."""


class ExportError(ValueError):
    """A system that a file format cannot express, or that is incomplete."""


def select(system: MMSystem, index: int | None = None) -> MMSystem:
    """The system of one molecule: float64, detached, on the CPU, charges summing to the formal charge.

    Args:
        system: parametrized molecules, with their graphs.
        index: which molecule; may be left out if there is one.

    Raises:
        ExportError: when the graphs are missing, the system holds several molecules and no index is given, a parameter
            is not a finite number, or the charges belong to another protonation state.
    """
    graphs = system.molecules
    if not graphs:
        raise ExportError(
            "the system carries no molecules, so their bonds and charges are unknown; make it by parametrize"
        )
    if index is None and len(graphs) > 1:
        names = ", ".join(f"{i} {m.name}" for i, m in enumerate(graphs[:10]))
        raise ExportError(f"the system holds {len(graphs)} molecules; say which one with index= ({names}, …)")
    index = 0 if index is None else index
    if not 0 <= index < len(graphs):
        raise ExportError(f"no molecule {index}: the system holds {len(graphs)} molecules, counted from 0")
    one = system.split()[index] if len(graphs) > 1 else system
    (molecule,), terms, on_cpu = one.molecules, [], one.numbers.device.type == "cpu"
    for bound in one.terms:
        values = bound.values.detach().cpu().double()
        if not np.isfinite(values.numpy()).all():
            raise ExportError(f"{molecule.name}: parameters of {bound.term.name} are not all finite numbers")
        for column, param in enumerate(bound.term.params):
            if param.link == "charge":
                values = values.clone()
                values[:, column] = torch.from_numpy(fit_to_formal(molecule, values[:, column].numpy()))
        terms.append(Bound(bound.term, bound.tuples if on_cpu else bound.tuples.to("cpu"), values))
    return MMSystem(tuple(terms), one.numbers.cpu(), one.mol.cpu(), (molecule,))


@dataclass(frozen=True, eq=False)
class Waves:
    """Cosine waves k (1 + cos(nφ − δ)), R of them.

    Attributes:
        row: number of the tuple that each belongs to, ascending, shape `(R,)`.
        n: periodicity, shape `(R,)`, int64.
        phase: δ [rad], shape `(R,)`.
        k: k [kcal/mol], shape `(R,)`.
    """

    row: np.ndarray
    n: np.ndarray
    phase: np.ndarray
    k: np.ndarray


@dataclass(frozen=True, eq=False)
class Part:
    """One bonded primitive of a term, for all tuples of the term.

    Attributes:
        number: position of the term in the system.
        bound: the term with its tuples.
        place: what it acts on; see `espalike.export.engine`.
        coordinates: coordinates of the primitive, in its order.
        primitive: the primitive, with parameters of shape `(T,)`.
    """

    number: int
    bound: Bound
    place: Place
    coordinates: tuple[Coordinate, ...]
    primitive: Primitive

    @property
    def term(self) -> Term:
        """The term."""
        return self.bound.term

    @cached_property
    def idx(self) -> np.ndarray:
        """The tuples, shape `(T, k)`."""
        return self.bound.tuples.idx.numpy()

    @cached_property
    def atoms(self) -> list[Atoms]:
        """The tuples, T of them."""
        return list(zip(*self.idx.T.tolist(), strict=True))

    def columns(self, *values: Value) -> list[np.ndarray]:
        """Values, each `(T,)` or one number, as columns of shape `(T,)`."""
        size = len(self.idx)
        return [v.expand(size).numpy() if isinstance(v, torch.Tensor) else np.full(size, float(v)) for v in values]

    def rows(self, *values: Value) -> list[tuple[float, ...]]:
        """The same as rows of numbers."""
        lists = [column.tolist() for column in self.columns(*values)]
        return list(zip(*lists, strict=True)) if lists else [()] * len(self.idx)

    @cached_property
    def waves(self) -> Waves:
        """Of a `Fourier`: its waves without those of k = 0, tuple after tuple.

        A constant c is c/2 (1 + cos φ) + c/2 (1 + cos(φ − π)).
        """
        primitive = self.primitive
        assert isinstance(primitive, Fourier)
        n, phases, k = list(primitive.n), list(primitive.phase), list(primitive.k)
        if primitive.constant is not None:
            n, phases, k = [*n, 1, 1], [*phases, 0.0, math.pi], [*k, *[primitive.constant / 2] * 2]
        height, phase = (np.stack(self.columns(*values), axis=1) for values in (k, phases))
        height = height / len(primitive.q)
        row, wave = np.nonzero(height)
        return Waves(row, np.array(n, dtype=np.int64)[wave], phase[row, wave], height[row, wave])

    @cached_property
    def series(self) -> list[Series]:
        """Of a `Fourier`: for each tuple the waves of each of its dihedrals."""
        waves = self.waves
        rows = list(zip(waves.n.tolist(), waves.phase.tolist(), waves.k.tolist(), strict=True))
        edges = np.searchsorted(waves.row, np.arange(len(self.idx) + 1)).tolist()
        return [rows[a:b] for a, b in itertools.pairwise(edges)]

    @cached_property
    def dihedrals(self) -> tuple[np.ndarray, Waves]:
        """Of a `Fourier`: atoms of the dihedral `(R, 4)` of each wave, tuple after tuple, dihedral after dihedral."""
        waves, count = self.waves, len(self.coordinates)
        if count == 1:
            return self.idx[waves.row[:, None], self.coordinates[0].atoms], waves
        number = np.tile(np.arange(len(waves.row)), count)
        dihedral = np.repeat(np.arange(count), len(waves.row))
        order = np.argsort(waves.row[number] * count + dihedral, kind="stable")
        number, dihedral = number[order], dihedral[order]
        places = np.array([coordinate.atoms for coordinate in self.coordinates])[dihedral]
        every = Waves(*(part[number] for part in (waves.row, waves.n, waves.phase, waves.k)))
        return self.idx[every.row[:, None], places], every


@dataclass(frozen=True, eq=False)
class Single:
    """One molecule with its parameters, and what its files state beside them.

    Attributes:
        system: the system of this molecule alone; see `select`.
        format: name of the format that it is written in, for messages.
        info: provenance to write into the files, e.g. model name and source of the charges.
        xyz: given coordinates [Å] `(A, 3)`, or None.
    """

    system: MMSystem
    format: str
    info: Mapping[str, str] = field(default_factory=dict)
    xyz: np.ndarray | None = None

    @property
    def molecule(self) -> Molecule:
        """The graph."""
        return self.system.molecules[0]

    @cached_property
    def name(self) -> str:
        """A name for the molecule's types: a hash of its mapped SMILES and all its parameters in single precision.

        In double precision, the last digits depend on the other molecules of a batch.
        """
        digest = hashlib.sha256(self.molecule.smiles.encode())
        for bound in self.system.terms:
            digest.update(repr(bound.term).encode())
            tuples = bound.tuples
            indices = (tuples.excluded, tuples.pairs14) if isinstance(tuples, Pairs) else (tuples.idx,)
            for idx in indices:
                digest.update(np.ascontiguousarray(idx.numpy(), dtype="<i8").tobytes())
            digest.update(np.ascontiguousarray(bound.values.numpy(), dtype="<f4").tobytes())
        return f"M{digest.hexdigest()[:16]}"

    @cached_property
    def atom_types(self) -> list[str]:
        """Names of the atoms' types, one per atom, which no other molecule has; they depend on elements alone."""
        return [f"{self.name}-{atom}" for atom in made(symbols(self.molecule))]

    @cached_property
    def canonical(self) -> np.ndarray:
        """The atoms in an order that does not depend on theirs, but on elements and bonds, shape `(A,)`.

        Where atoms that the graph cannot tell apart have different given charges or isotopes, it is the molecule's.
        """
        from rdkit.Chem import CanonicalRankAtoms, MolToSmiles

        molecule = self.molecule
        graph = skeleton(molecule.numbers.tolist(), molecule.bonds.tolist())
        _, first, alike = np.unique(CanonicalRankAtoms(graph, breakTies=False), return_index=True, return_inverse=True)
        values = [molecule.isotopes, *(bound.values.numpy() for bound in self.pair_terms)]
        if not all(np.allclose(rows, rows[first[alike]], rtol=0.0, atol=0.1**_DIGITS) for rows in values):
            return np.arange(molecule.n_atoms)
        MolToSmiles(graph)  # notes its order, which is canonical in dodecahedrane, too; ranks of broken ties are not
        return np.array(graph.GetPropsAsDict(includePrivate=True, includeComputed=True)["_smilesAtomOutputOrder"])

    @cached_property
    def shared_types(self) -> list[str]:
        """As `atom_types`, but the same for another order of the atoms and for stereoisomers with the same parameters.

        Parameters are rounded, since sums in another order differ in the last digits.
        """
        molecule, order = self.molecule, self.canonical
        place = np.argsort(order)
        digest = hashlib.sha256(repr([molecule.numbers[order].tolist(), molecule.isotopes[order].tolist()]).encode())
        digest.update(_sorted(np.sort(place[molecule.bonds], axis=1)))
        for bound in self.system.terms:
            digest.update(repr(bound.term).encode())
            values = bound.values.float().double().round(decimals=_DIGITS).numpy() + 0.0  # there is no -0.0 then
            if isinstance(bound.term, PairTerm):
                for pairs in near_pairs(bound, molecule.n_atoms):
                    digest.update(_sorted(np.sort(place[pairs], axis=1)))
                digest.update(values[order].tobytes())
            else:
                tuples = np.sort(place[bound.tuples.idx.numpy()], axis=1)
                digest.update(_sorted(np.column_stack([tuples, np.sort(values, axis=1)])))
        elements = symbols(molecule)
        labels = made([elements[atom] for atom in order])
        return [f"E{digest.hexdigest()[:16]}-{labels[rank]}" for rank in place.tolist()]

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Coordinates [Å] `(A, 3)`: those given, or an embedded conformer.

        Raises:
            ExportError: when the given ones do not fit the molecule.
        """
        from espalike.chem import embed

        molecule, xyz = self.molecule, magnitude(self.xyz, "angstrom")
        if xyz is None:
            return embed(molecule)[0]
        xyz = np.asarray(xyz, dtype=np.float64)
        if xyz.shape != (molecule.n_atoms, 3) or not np.isfinite(xyz).all():
            raise ExportError(
                f"{molecule.name}: expected finite coordinates of shape ({molecule.n_atoms}, 3), got {xyz.shape}"
            )
        return xyz

    @property
    def facts(self) -> dict[str, str]:
        """Provenance that every file states: program, molecule, formal charge, and `info`."""
        molecule = self.molecule
        source = {"Source": f"espalike {_version()}", "Molecule": molecule.name, "SMILES": molecule.smiles}
        source["FormalCharge"] = str(molecule.net_charge)
        return {key: printable(str(text)) for key, text in (source | dict(self.info)).items()}

    @property
    def comment(self) -> list[str]:
        """Provenance in lines that an engine reads as comments, each to its end.

        A backslash or ampersand at the end would continue the line, LAMMPS reads three quotation marks across lines,
        and GROMACS reads no line beyond 4,095 characters.
        """
        lines = []
        for key, text in self.facts.items():
            line = f"{key}: {text}".replace('"', "'").rstrip(" \\&")
            parts = [line[n : n + _LONGEST] for n in range(0, len(line), _LONGEST)]
            lines += [f"{part} ..." for part in parts[:-1]] + parts[-1:]
        return lines

    @property
    def xml_comment(self) -> list[str]:
        """Provenance in lines that an XML comment may hold."""
        return [re.sub("-(?=-)", "- ", f"{key}: {text}") for key, text in self.facts.items()]

    @cached_property
    def topology(self) -> Topology:
        """Tuples that follow from the bonds."""
        return enumerate_tuples(self.molecule.numbers, self.molecule.bonds, self.molecule.orders, self.molecule.charges)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The bonded primitives, in the order of the terms."""
        return bonded_parts(self.system.terms)

    @cached_property
    def pair_terms(self) -> list[Bound]:
        """The pair terms."""
        return [bound for bound in self.system.terms if isinstance(bound.term, PairTerm)]

    def bonds_without(self, place: Place) -> np.ndarray:
        """Bonds on which no primitive acts in a place, in the order of the molecule, shape `(B, 2)`."""
        bonds, n_atoms = self.molecule.bonds, self.molecule.n_atoms
        listed = [pair_keys(part.idx, n_atoms) for part in self.parts if part.place == place]
        return bonds[~np.isin(pair_keys(bonds, n_atoms), np.concatenate([np.zeros(0, np.int64), *listed]))]

    def check_pairs(self) -> None:
        """Check that the pairs and 1-4 pairs of every pair term are those that an engine derives from the bonds.

        Raises:
            ExportError: if not, naming the term and the format.
        """
        graph = self.topology
        for bound in self.pair_terms:
            excluded, pairs14 = near_pairs(bound, self.molecule.n_atoms)
            alike = float(bound.scale14) == 1.0 or np.array_equal(pairs14, graph.pairs14)
            if not (alike and np.array_equal(excluded, graph.excluded)):
                raise ExportError(
                    f"{self.molecule.name}: pairs of {bound.term.name} do not follow from the bonds; format "
                    f"{self.format!r} cannot express that; format 'system' can"
                )

    @cached_property
    def nonbonded(self) -> Nonbonded:
        """The pair terms, for formats of 12-6 wells and charges.

        Raises:
            ExportError: see `check_pairs`.
        """
        self.check_pairs()
        place = {place_of(b.term, shapes(b.term)[0]): b for b in self.pair_terms}
        return Nonbonded(place.get(Place.VAN_DER_WAALS), place.get(Place.CHARGES), self.molecule.n_atoms)


def distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first of each kind of equal rows, ascending, and the kind of each row `(R,)`, in the order of these.

    Rows are compared as bytes, which takes a quarter of the time of `numpy.unique`.
    """
    known: dict[bytes, int] = {}
    rows = np.ascontiguousarray(rows + 0.0)  # there is no -0.0 then
    texts = rows.view(f"V{rows.itemsize * rows.shape[1]}").ravel().tolist()
    kind = np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)
    return np.unique(kind, return_index=True)[1], kind


def _sorted(rows: np.ndarray) -> bytes:
    """The rows in lexical order."""
    return rows[np.lexsort(rows.T[::-1])].tobytes() if rows.size else b""


@cache
def _version() -> str:
    from importlib.metadata import version

    return version("espalike")


def bonded_parts(terms: Sequence[Bound]) -> tuple[Part, ...]:
    """The bonded primitives of terms."""
    parts = []
    for number, bound in enumerate(terms):
        if not isinstance(bound.term, PairTerm):
            for primitive in bound.term.primitives(bound.values.unbind(-1)):
                coordinates = coordinates_of(bound.term, primitive)
                parts.append(Part(number, bound, place_of(bound.term, primitive), coordinates, primitive))
    return tuple(parts)

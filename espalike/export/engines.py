"""What the exporters to GROMACS and Amber share: geometry, pairs, refusals, lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from espalike.chem.molecule import Molecule
from espalike.export.classical import charges_and_wells, follow_from_bonds, scales14
from espalike.export.single import ExportError, facts
from espalike.system import MMSystem
from espalike.terms.base import PairTerm
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.topology import Topology, enumerate_tuples


def refusal(molecule: Molecule, format: str, what: str) -> ExportError:
    """The error for what a format cannot express."""
    return ExportError(f"{molecule.name}: format {format!r} cannot express {what}; formats 'system' and 'ffxml' can")


def coordinates(molecule: Molecule, xyz: np.ndarray | None) -> np.ndarray:
    """Coordinates [Å] `(A, 3)`: those given, or an embedded conformer.

    Raises:
        ExportError: when the given ones do not fit the molecule.
    """
    from espalike.chem import embed

    if xyz is None:
        return embed(molecule)[0]
    if np.shape(xyz) != (molecule.n_atoms, 3) or not np.isfinite(xyz).all():
        raise ExportError(
            f"{molecule.name}: expected finite coordinates of shape ({molecule.n_atoms}, 3), got {np.shape(xyz)}"
        )
    return np.asarray(xyz, dtype=np.float64)


def comment(molecule: Molecule, info: Mapping[str, str] | None) -> list[str]:
    """Provenance in single lines that end in no backslash, which engines read as "goes on in the next line"."""
    return [" ".join(f"{key}: {text}".split()).rstrip(" \\") for key, text in facts(molecule, info).items()]


@dataclass(frozen=True)
class Nonbonded:
    """Charges and Lennard-Jones parameters of a molecule, in internal units.

    Attributes:
        graph: tuples that follow from the bonds.
        charge: partial charges [e] `(A,)`; zeros where the system has no Coulomb term.
        lj: sigma [Å] and epsilon [kcal/mol] `(A, 2)`; epsilon 0 where the system has no Lennard-Jones term.
        rule: the Lennard-Jones term, for its mixing rule.
        scale_charge, scale_lj: factors on 1-4 pairs.
    """

    graph: Topology
    charge: np.ndarray
    lj: np.ndarray
    rule: LennardJones
    scale_charge: float
    scale_lj: float

    def pairs(self, atoms: np.ndarray) -> np.ndarray:
        """sigma [Å] and epsilon [kcal/mol] of pairs of atoms `(P, 2)`, mixed by the rule, unscaled; `(P, 2)`."""
        first, second = (torch.from_numpy(self.lj[column]).unbind(-1) for column in np.asarray(atoms).T)
        return torch.stack(self.rule.combine(first, second), dim=-1).numpy()


def nonbonded(one: MMSystem, format: str) -> Nonbonded:
    """What the pair terms of a one-molecule system say.

    Raises:
        ExportError: for a pair term other than Lennard-Jones and Coulomb, or pairs that do not follow from the bonds.
    """
    molecule = one.molecules[0]
    graph = enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders)
    seen: set[type] = set()
    for bound in one.terms:
        if isinstance(bound.term, PairTerm):
            if type(bound.term) not in (LennardJones, Coulomb):
                raise refusal(molecule, format, bound.term.name)
            if type(bound.term) in seen:
                raise refusal(molecule, format, f"two terms {bound.term.name}")
            seen.add(type(bound.term))
            follow_from_bonds(molecule, bound, format)
    rules = [bound.term for bound in one.terms if isinstance(bound.term, LennardJones)]
    charge, lj = charges_and_wells(one)
    scale_lj, scale_charge = scales14(one)
    return Nonbonded(graph, charge, lj, rules[0] if rules else LennardJones(), scale_charge, scale_lj)


def mass(number: int) -> float:
    """Mass of an element [dalton]."""
    from rdkit.Chem import GetPeriodicTable

    return GetPeriodicTable().GetAtomicWeight(int(number))


def one_line(text: str) -> str:
    """A title: one line that does not begin like a directive and holds no comment."""
    return " ".join(text.replace(";", " ").split()).lstrip("[#* ").rstrip("\\") or "molecule"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text as aligned lines."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [" " + "  ".join(f"{text:>{w}}" for text, w in zip(row, widths, strict=True)) for row in rows]

"""Environments of the atoms, bonds, angles and torsions of a molecule: what a training set has seen, and what not.

An environment is written as SMARTS (RDKit's dialect), so that any of them can be searched for. The atoms inside it are
described by element, aromaticity, number of neighbours and hydrogens, formal charge, hybridisation and smallest ring;
those at its ends by element, aromaticity, charge and hybridisation. Hydrogens belong to the atom they are bonded to:
an angle C–C–H is a bond C–C whose second carbon has a hydrogen, and is not listed again.

    kind      atoms                                       example, in ethanol
    atom      one, with its neighbours                    [OX2H1+0^3R0](-;!@[C+0^3])
    bond      two                                         [CX4H2+0^3R0]-;!@[OX2H1+0^3R0]
    angle     centre, between two ends                    [C+0^3]-;!@[CX4H2+0^3R0]-;!@[O+0^3]
    torsion   two in the middle (not linear), two ends    [C+0^3]-;!@[CX4+0^3R0]-;!@[OX2+0^3R0]-;!@[C+0^3] (in an ether)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from rdkit import Chem

from espalike.chem.sanitize import atoms_of

KINDS = ("atom", "bond", "angle", "torsion")
"""Kinds of environments."""

_HYBRIDISATION = {
    Chem.HybridizationType.SP: "^1",
    Chem.HybridizationType.SP2: "^2",
    Chem.HybridizationType.SP3: "^3",
    Chem.HybridizationType.SP3D: "^4",
    Chem.HybridizationType.SP3D2: "^5",
}
_BONDS = {
    Chem.BondType.SINGLE: "-",
    Chem.BondType.DOUBLE: "=",
    Chem.BondType.TRIPLE: "#",
    Chem.BondType.AROMATIC: ":",
}
_LARGEST_RING = 7
"""Rings above this size are written alike."""
_INVERTED = 12
"""Atoms of three rings that share a bond, counted per ring, in propellanes whose carbons are inverted or flat."""
_FLAT = 1.0
"""Largest deviation of three inner angles of a flat system of rings from 360 [degree]."""


def environments(mol: Chem.Mol) -> dict[str, Counter[str]]:
    """How often each environment occurs in a sanitized molecule, by kind. Its hydrogens may be explicit or not.

    The result does not depend on the order of atoms. It depends on the resonance form that is drawn.
    """
    graph = _Graph(mol)
    near = graph.near
    bonds = [(i, j) for i in near for j in near[i] if i < j]
    return {
        "atom": Counter(graph.star(i) for i in near),
        "bond": Counter(graph.chain((i, j), "full") for i, j in bonds),
        "angle": Counter(graph.chain((i, j, k), "full") for j in near for i in near[j] for k in near[j] if i < k),
        "torsion": Counter(
            graph.chain((i, j, k, m), "middle")
            for j, k in bonds
            if not (graph.text[j].linear or graph.text[k].linear)
            for i in near[j]
            for m in near[k]
            if i != k and m != j and i != m
        ),
    }


def surroundings(mol: Chem.Mol) -> dict[int, tuple[str, ...]]:
    """What surrounds each atom to a radius of two bonds, as SMARTS, by index in a sanitized molecule.

    The first is the atom with its neighbours, as `environments` writes them, and the rings of these; the others are the
    atom with each element and charge at a distance of two bonds. Hydrogens belong to the atom they are bonded to. A
    bond that three rings force out of the usual shape, see `_forced`, follows at both of its atoms.

    Examples:
        >>> surroundings(Chem.MolFromSmiles("CCO"))[0]
        ('[CX4H3+0^3R0](-;!@[C+0^3R0])', '[CX4H3+0^3R0]~*~[#8+0]')
    """
    graph, forced = _Graph(mol), _forced(mol)
    found = {}
    for i, near in graph.near.items():
        full = graph.text[i].full
        ends = sorted([f"({bond}{graph.text[j].ended})" for j, bond in near.items()])
        beyond = {graph.text[k].element for j in near for k in graph.near[j] if k != i and k not in near}
        bent = {f"{full[:-1]}R3]~{graph.text[j].full[:-1]}R3]" for j in near if forced and frozenset((i, j)) in forced}
        found[i] = (full + "".join(ends), *(f"{full}~*~{element}" for element in sorted(beyond)), *sorted(bent))
    return found


def _forced(mol: Chem.Mol) -> set[frozenset[int]]:
    """Bonds of a shape that the surroundings of their atoms do not show.

    - In fullerenes and bowls: both atoms are trigonal and lie between three rings whose inner angles, as regular
      polygons, do not add up to 360°. Acenaphthylene, which is flat, has one such atom.
    - In small propellanes: the bond is shared by three rings of twelve or fewer atoms together. The other bonds of its
      atoms point to one side (Wiberg, Acc. Chem. Res. 1984, 17, 379).
    """
    rings = mol.GetRingInfo()
    if rings.NumRings() < 3:
        return set()
    inner: dict[int, dict[frozenset[int], float]] = {}
    shared: dict[frozenset[int], list[int]] = {}
    for ring in sorted(rings.AtomRings(), key=len, reverse=True):  # the smallest ring of each angle comes last
        for before, atom, after in zip(ring[-1:] + ring[:-1], ring, ring[1:] + ring[:1], strict=True):
            inner.setdefault(atom, {})[frozenset((before, after))] = 180.0 - 360.0 / len(ring)
            shared.setdefault(frozenset((atom, after)), []).append(len(ring))
    curved = {
        atom
        for atom, angles in inner.items()
        if len(angles) == 3
        and mol.GetAtomWithIdx(atom).GetHybridization() == Chem.HybridizationType.SP2
        and abs(sum(angles.values()) - 360.0) > _FLAT
    }
    return {bond for bond, sizes in shared.items() if bond <= curved or (len(sizes) == 3 and sum(sizes) <= _INVERTED)}


class _Text(NamedTuple):
    """Description of an atom.

    Attributes:
        element: element and charge.
        end, middle, full: from the shortest to the longest.
        ended: `end` with the smallest ring.
        linear: whether it has two neighbours in line with it.
    """

    element: str
    end: str
    middle: str
    full: str
    ended: str
    linear: bool


@lru_cache(maxsize=4096)
def _described(
    number: int,
    aromatic: bool,
    charge: int,
    hybridisation: Chem.HybridizationType,
    size: int,
    degree: int,
    hydrogens: int,
) -> _Text:
    """The texts of an atom whose smallest ring has that size, 0 for none."""
    symbol = Chem.GetPeriodicTable().GetElementSymbol(number) if number > 1 else "#1"
    symbol = symbol.lower() if aromatic else symbol
    state = f"{charge:+d}{_HYBRIDISATION.get(hybridisation, '')}"
    ring = "R0" if not size else f"r{size}" if size <= _LARGEST_RING else f"r{{{_LARGEST_RING + 1}-}}"
    return _Text(
        element=f"[#{number}{charge:+d}]",
        end=f"[{symbol}{state}]",
        middle=f"[{symbol}X{degree}{state}{ring}]",
        full=f"[{symbol}X{degree}H{hydrogens}{state}{ring}]",
        ended=f"[{symbol}{state}{ring}]",
        linear=hybridisation == Chem.HybridizationType.SP,
    )


class _Graph:
    """The atoms of a molecule without the hydrogens that are bonded to another element.

    Attributes:
        near: neighbours of each atom, and the text of the bond to each.
        text: description of each atom.
    """

    def __init__(self, mol: Chem.Mol):
        rings, atoms = mol.GetRingInfo(), atoms_of(mol)
        bonds = [mol.GetBondWithIdx(n) for n in range(mol.GetNumBonds())]
        ends = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in bonds]
        hydrogen = [atom.GetAtomicNum() == 1 for atom in atoms]
        owned = {i if hydrogen[i] else j for i, j in ends if hydrogen[i] != hydrogen[j]}
        self.near: dict[int, dict[int, str]] = {i: {} for i in range(len(atoms)) if i not in owned}
        self.text = {
            i: _described(
                atoms[i].GetAtomicNum(),
                atoms[i].GetIsAromatic(),
                atoms[i].GetFormalCharge(),
                atoms[i].GetHybridization(),
                rings.MinAtomRingSize(i),
                atoms[i].GetTotalDegree(),
                atoms[i].GetTotalNumHs(includeNeighbors=True),
            )
            for i in self.near
        }
        for n, (bond, (i, j)) in enumerate(zip(bonds, ends, strict=True)):
            if i in self.near and j in self.near:
                text = _BONDS.get(bond.GetBondType(), "~") + (";@" if rings.NumBondRings(n) else ";!@")
                self.near[i][j] = self.near[j][i] = text

    def star(self, i: int) -> str:
        """An atom with its neighbours."""
        return self.text[i].full + "".join(sorted(f"({bond}{self.text[j].end})" for j, bond in self.near[i].items()))

    def chain(self, atoms: Sequence[int], inner: str) -> str:
        """Bonded atoms in a row; `inner` names the texts of those inside, and of both atoms of a bond."""
        last = len(atoms) - 1
        texts = [getattr(self.text[a], inner if last == 1 or 0 < n < last else "end") for n, a in enumerate(atoms)]
        bonds = [self.near[a][b] for a, b in pairwise(atoms)]
        forward = texts[0] + "".join(b + t for b, t in zip(bonds, texts[1:], strict=True))
        backward = texts[-1] + "".join(b + t for b, t in zip(bonds[::-1], texts[-2::-1], strict=True))
        return min(forward, backward)

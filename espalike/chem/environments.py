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
from itertools import pairwise

from rdkit import Chem

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


def environments(mol: Chem.Mol) -> dict[str, Counter[str]]:
    """How often each environment occurs in a sanitized molecule, by kind. Its hydrogens may be explicit or not.

    The result does not depend on the order of atoms. It depends on the resonance form that is drawn.
    """
    graph = _Graph(Chem.RemoveHs(mol) if mol.HasSubstructMatch(_HYDROGEN) else mol)
    bonds = [(i, j) for i in graph.atoms for j in graph.near[i] if i < j]
    return {
        "atom": Counter(graph.star(i) for i in graph.atoms),
        "bond": Counter(graph.chain((i, j), graph.full) for i, j in bonds),
        "angle": Counter(
            graph.chain((i, j, k), graph.full)
            for j in graph.atoms
            for i in graph.near[j]
            for k in graph.near[j]
            if i < k
        ),
        "torsion": Counter(
            graph.chain((i, j, k, m), graph.middle)
            for j, k in bonds
            if not (graph.linear[j] or graph.linear[k])
            for i in graph.near[j]
            for m in graph.near[k]
            if i != k and m != j and i != m
        ),
    }


def surroundings(mol: Chem.Mol) -> dict[int, tuple[str, ...]]:
    """What surrounds each atom to a radius of two bonds, as SMARTS, by index in a sanitized molecule.

    The first is the atom with its neighbours, as `environments` writes them, and the rings of these; the others are the
    atom with each element and charge at a distance of two bonds. Hydrogens belong to the atom they are bonded to.

    Examples:
        >>> surroundings(Chem.MolFromSmiles("CCO"))[0]
        ('[CX4H3+0^3R0](-;!@[C+0^3R0])', '[CX4H3+0^3R0]~*~[#8+0]')
    """
    for i in range(mol.GetNumAtoms()):
        mol.GetAtomWithIdx(i).SetIntProp(_PLACE, i)
    heavy = Chem.RemoveHs(mol) if mol.HasSubstructMatch(_HYDROGEN) else mol
    graph = _Graph(heavy)
    atoms = [heavy.GetAtomWithIdx(i) for i in graph.atoms]
    elements = [f"[#{atom.GetAtomicNum()}{atom.GetFormalCharge():+d}]" for atom in atoms]
    found = {}
    for i in graph.atoms:
        ends = sorted(f"({graph.bond[i, j]}{graph.end[j][:-1]}{graph.ring[j]}])" for j in graph.near[i])
        beyond = {elements[k] for j in graph.near[i] for k in graph.near[j] if k != i and k not in graph.near[i]}
        distant = sorted(f"{graph.full[i]}~*~{element}" for element in beyond)
        found[atoms[i].GetIntProp(_PLACE)] = (graph.full[i] + "".join(ends), *distant)
    return found


_PLACE = "_espalike_place"
_HYDROGEN = Chem.MolFromSmarts("[#1]")


class _Graph:
    """A molecule's heavy atoms, each with its texts.

    Attributes:
        near: neighbours of each atom.
        end, middle, full: description of each atom, from the shortest to the longest.
        ring: smallest ring of each atom.
        linear: whether an atom has two neighbours in line with it.
        bond: text of each bond, by its two atoms in either order.
    """

    def __init__(self, mol: Chem.Mol):
        rings = mol.GetRingInfo()
        self.atoms = range(mol.GetNumAtoms())
        self.near: list[list[int]] = [[] for _ in self.atoms]
        self.end, self.middle, self.full, self.linear, self.ring = [], [], [], [], []
        for i in self.atoms:
            atom = mol.GetAtomWithIdx(i)
            symbol = atom.GetSymbol() if atom.GetAtomicNum() > 1 else "#1"
            symbol = symbol.lower() if atom.GetIsAromatic() else symbol
            state = f"{atom.GetFormalCharge():+d}{_HYBRIDISATION.get(atom.GetHybridization(), '')}"
            size = rings.MinAtomRingSize(i)
            ring = "R0" if not size else f"r{size}" if size <= _LARGEST_RING else f"r{{{_LARGEST_RING + 1}-}}"
            self.ring.append(ring)
            self.end.append(f"[{symbol}{state}]")
            self.middle.append(f"[{symbol}X{atom.GetTotalDegree()}{state}{ring}]")
            self.full.append(
                f"[{symbol}X{atom.GetTotalDegree()}H{atom.GetTotalNumHs(includeNeighbors=True)}{state}{ring}]"
            )
            self.linear.append(atom.GetHybridization() == Chem.HybridizationType.SP)
        self.bond: dict[tuple[int, int], str] = {}
        for bond in map(mol.GetBondWithIdx, range(mol.GetNumBonds())):
            i, j = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            text = _BONDS.get(bond.GetBondType(), "~") + (";@" if rings.NumBondRings(bond.GetIdx()) else ";!@")
            self.bond[i, j] = self.bond[j, i] = text
            self.near[i].append(j)
            self.near[j].append(i)

    def star(self, i: int) -> str:
        """An atom with its neighbours."""
        return self.full[i] + "".join(sorted(f"({self.bond[i, j]}{self.end[j]})" for j in self.near[i]))

    def chain(self, atoms: Sequence[int], inner: Sequence[str]) -> str:
        """Bonded atoms in a row: `inner` describes those inside, and both atoms of a bond."""
        last = len(atoms) - 1
        texts = [inner[a] if last == 1 or 0 < n < last else self.end[a] for n, a in enumerate(atoms)]
        bonds = [self.bond[a, b] for a, b in pairwise(atoms)]
        forward = texts[0] + "".join(b + t for b, t in zip(bonds, texts[1:], strict=True))
        backward = texts[-1] + "".join(b + t for b, t in zip(bonds[::-1], texts[-2::-1], strict=True))
        return min(forward, backward)

"""SMIRKS that match one whole molecule, in any of its resonance forms.

An atom is its element, number of neighbours and of hydrogens; bonds are of any order and there are no formal charges.
Every atom that has two or more neighbours beside its hydrogens stands in the pattern, its skeleton; the others
(hydrogens, terminal groups) are counted at their neighbour instead, unless they are tagged. So the pattern describes
the whole graph, but matches a molecule only as often as its skeleton is symmetric, not once for each order of the
hydrogens.

RDKit matches the skeleton with itself once. Which atoms the tags of a pattern match follows from these symmetries:
a tagged atom outside the skeleton matches every like neighbour of the same atom that no other tag matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

from rdkit import Chem

from espalike.chem import to_rdkit
from espalike.chem.molecule import Molecule
from espalike.export.parts import ExportError

_MAX_MATCHES = 100_000
_PLACE = re.compile(r"<(\d+)>((?:~?(?:%\d\d|\d))*)")
"""An atom's number in the text of the skeleton, and the ring closures after it."""


class WholeMolecule:
    """Patterns of one molecule.

    Args:
        molecule: the molecule.
    """

    def __init__(self, molecule: Molecule):
        self.molecule = molecule
        self._mol = to_rdkit(molecule, isotopes=False)
        self._hydrogen = (molecule.numbers == 1).tolist()
        self._neighbours: list[list[int]] = [[] for _ in self._hydrogen]
        for i, j in molecule.bonds.tolist():
            self._neighbours[i].append(j)
            self._neighbours[j].append(i)
        leaf = [sum(not self._hydrogen[n] for n in near) == 1 for near in self._neighbours]  # hydrogens are leaves too
        self._skeleton = [a for a, ends in enumerate(leaf) if not ends]
        if not self._skeleton:  # at most two atoms that are not hydrogen
            heavy = [a for a, hydrogen in enumerate(self._hydrogen) if not hydrogen]
            self._skeleton = heavy or list(range(molecule.n_atoms))
        self._inside = set(self._skeleton)
        self._plain = [self._described(a) for a in range(molecule.n_atoms)]
        self._symbols = [self._symbol(a) for a in range(molecule.n_atoms)]

    def _described(self, atom: int) -> str:
        near = self._neighbours[atom]
        return f"#{self.molecule.numbers[atom]}X{len(near)}H{sum(self._hydrogen[n] for n in near)}"

    def _symbol(self, atom: int) -> str:
        """The atom, with all its terminal groups other than hydrogen in one recursive condition."""
        groups = [n for n in self._neighbours[atom] if n not in self._inside and not self._hydrogen[n]]
        if atom not in self._inside or not groups:
            return self._plain[atom]
        return f"{self._plain[atom]}$(*{''.join(f'(~[{self._plain[n]}])' for n in groups)})"

    @cached_property
    def _parent(self) -> dict[int, int]:
        """Of each atom outside the skeleton, the atom that it is bonded to on the way there."""
        outside = {a: near for a, near in enumerate(self._neighbours) if a not in self._inside}
        return {a: next((n for n in near if not self._hydrogen[n]), near[0]) for a, near in outside.items()}

    @cached_property
    def _text(self) -> list[str]:
        """The skeleton's SMILES in parts: between atoms, then number and ring closures of an atom, and so on."""
        text = Chem.MolFragmentToSmiles(
            self._mol,
            atomsToUse=self._skeleton,
            atomSymbols=[f"<{a}>" for a in range(self.molecule.n_atoms)],
            bondSymbols=["~"] * self._mol.GetNumBonds(),
            canonical=False,
            isomericSmiles=False,
        )
        return _PLACE.split(text)

    def smirks(self, atoms: tuple[int, ...]) -> str:
        """The whole molecule with these atoms tagged 1, 2, … in order."""
        tags = {atom: f":{n}" for n, atom in enumerate(atoms, 1)}
        shown: dict[int, list[int]] = {}  # by atom, those outside the skeleton that stand beside it
        for atom in atoms:
            while atom not in self._inside and atom not in shown.get(self._parent[atom], ()):
                shown.setdefault(self._parent[atom], []).append(atom)
                atom = self._parent[atom]

        def beside(atom: int) -> str:
            leaves = shown.get(atom, ())
            return "".join(f"(~[{self._plain[leaf]}{tags.get(leaf, '')}]{beside(leaf)})" for leaf in leaves)

        parts = self._untagged.copy()
        for atom in self._inside & (tags.keys() | shown.keys()):
            at, ring = self._place[atom]
            parts[at] = f"[{self._symbols[atom]}{tags.get(atom, '')}]{ring}{beside(atom)}"
        return "".join(parts)

    @cached_property
    def _place(self) -> dict[int, tuple[int, str]]:
        """Place of each atom of the skeleton in `_untagged`, and its ring closures."""
        return {int(atom): (n, self._text[n + 1]) for n, atom in enumerate(self._text) if n % 3 == 1}

    @cached_property
    def _untagged(self) -> list[str]:
        """The pattern without tags, in parts as those of `_text`."""
        parts = self._text.copy()
        for atom, (at, ring) in self._place.items():
            parts[at : at + 2] = [f"[{self._symbols[atom]}]{ring}", ""]
        return parts

    @cached_property
    def _symmetries(self) -> list[dict[int, int]]:
        """Image of each atom of the skeleton under every symmetry of the graph.

        Raises:
            ExportError: for a graph with too many symmetries.
        """
        numbers = list(map(int, self._text[1::3]))
        query = Chem.MolFromSmarts(self.smirks(()))
        matches = self._mol.GetSubstructMatches(query, uniquify=False, maxMatches=_MAX_MATCHES)
        if len(matches) == _MAX_MATCHES:
            raise ExportError(
                f"{self.molecule.name}: format 'offxml' cannot express a molecule that is symmetric in more than "
                f"{_MAX_MATCHES} ways; formats 'system' and 'ffxml' can"
            )
        return [dict(zip(numbers, match, strict=True)) for match in matches]

    def images(self, atoms: tuple[int, ...]) -> set[tuple[int, ...]]:
        """Atoms that the tags of `smirks(atoms)` match, in the order of the tags.

        Raises:
            ExportError: for a graph with too many symmetries.
        """
        order: list[int] = []  # atoms outside the skeleton, each after its parent
        for atom in atoms:
            path = []
            while atom not in self._inside and atom not in order:
                path.append(atom)
                atom = self._parent[atom]
            order += reversed(path)
        inside = {a for a in (*atoms, *(self._parent[a] for a in order)) if a in self._inside}
        starts = {tuple((a, symmetry[a]) for a in inside) for symmetry in self._symmetries}
        return {tuple(image[a] for a in atoms) for start in starts for image in self._placed(dict(start), order)}

    def _placed(self, image: dict[int, int], order: list[int]) -> Iterator[dict[int, int]]:
        """All ways to give atoms outside the skeleton different images."""
        if not order:
            yield image
            return
        atom, *others = order
        for other in self._neighbours[image[self._parent[atom]]]:
            if other not in self._inside and other not in image.values() and self._plain[other] == self._plain[atom]:
                yield from self._placed({**image, atom: other}, others)


def elements(molecule: Molecule, atoms: tuple[int, ...]) -> str:
    """Atoms in words, counted from 1: `C1-H5`."""
    names = [Chem.GetPeriodicTable().GetElementSymbol(int(molecule.numbers[a])) for a in atoms]
    return "-".join(f"{name}{a + 1}" for name, a in zip(names, atoms, strict=True))

"""SMIRKS that match one whole molecule, in any of its resonance forms.

An atom is its element, number of neighbours and of hydrogens; bonds are of any order and there are no formal charges.
Every atom that has two or more neighbours beside its hydrogens stands in the pattern; the others (hydrogens, terminal
groups) are counted at their neighbour instead, unless they are tagged. So the pattern describes the whole graph, but
matches a molecule only as often as its skeleton is symmetric, not once for each order of the hydrogens.
"""

from __future__ import annotations

from rdkit import Chem

from espalike.chem import to_rdkit
from espalike.chem.molecule import Molecule
from espalike.export.parts import ExportError

_MAX_MATCHES = 100_000


class WholeMolecule:
    """Patterns of one molecule.

    Args:
        molecule: the molecule.
    """

    def __init__(self, molecule: Molecule):
        self.molecule = molecule
        self._mol = to_rdkit(molecule, isotopes=False)
        self._neighbours = [[n.GetIdx() for n in atom.GetNeighbors()] for atom in self._mol.GetAtoms()]
        hydrogen = molecule.numbers == 1
        leaf = [sum(not hydrogen[n] for n in near) == 1 for near in self._neighbours]  # hydrogens are leaves too
        self._skeleton = {a for a, ends in enumerate(leaf) if not ends}
        if not self._skeleton:  # at most two atoms that are not hydrogen
            self._skeleton = set((~hydrogen).nonzero()[0].tolist()) or set(range(molecule.n_atoms))
        self._symbols = [self._symbol(a) for a in range(molecule.n_atoms)]

    def _plain(self, atom: int) -> str:
        near = self._neighbours[atom]
        hydrogens = sum(self.molecule.numbers[n] == 1 for n in near)
        return f"#{self.molecule.numbers[atom]}X{len(near)}H{hydrogens}"

    def _symbol(self, atom: int) -> str:
        """The atom, with all its terminal groups other than hydrogen in one recursive condition."""
        groups = [n for n in self._neighbours[atom] if n not in self._skeleton and self.molecule.numbers[n] != 1]
        if atom not in self._skeleton or not groups:
            return self._plain(atom)
        return f"{self._plain(atom)}$(*{''.join(f'(~[{self._plain(n)}])' for n in groups)})"

    def smirks(self, atoms: tuple[int, ...]) -> str:
        """The whole molecule with these atoms tagged 1, 2, … in order."""
        shown = set(self._skeleton)
        for atom in atoms:
            while atom not in shown:
                shown.add(atom)
                heavy = [n for n in self._neighbours[atom] if self.molecule.numbers[n] != 1]
                atom = heavy[0] if heavy else atom
        tags = {atom: f":{n}" for n, atom in enumerate(atoms, 1)}
        return Chem.MolFragmentToSmiles(
            self._mol,
            atomsToUse=sorted(shown),
            atomSymbols=[f"[{symbol}{tags.get(a, '')}]" for a, symbol in enumerate(self._symbols)],
            bondSymbols=["~"] * self._mol.GetNumBonds(),
            canonical=False,
            isomericSmiles=False,
            rootedAtAtom=atoms[0],
        )

    def matches(self, smirks: str) -> set[tuple[int, ...]]:
        """Atoms that the tags match, in the order of the tags: all images under the symmetry of the graph.

        Raises:
            ExportError: for a graph with too many symmetries to match.
        """
        query = Chem.MolFromSmarts(smirks)
        tagged = {a.GetAtomMapNum(): a.GetIdx() for a in query.GetAtoms() if a.GetAtomMapNum()}
        columns = [tagged[n] for n in sorted(tagged)]
        matches = self._mol.GetSubstructMatches(query, uniquify=False, maxMatches=_MAX_MATCHES)
        if len(matches) == _MAX_MATCHES:
            raise ExportError(
                f"{self.molecule.name}: format 'offxml' cannot express a molecule that is symmetric in more than "
                f"{_MAX_MATCHES} ways; formats 'system' and 'ffxml' can"
            )
        return {tuple(match[c] for c in columns) for match in matches}


def elements(molecule: Molecule, atoms: tuple[int, ...]) -> str:
    """Atoms in words, counted from 1: `C1-H5`."""
    names = [Chem.GetPeriodicTable().GetElementSymbol(int(molecule.numbers[a])) for a in atoms]
    return "-".join(f"{name}{a + 1}" for name, a in zip(names, atoms, strict=True))

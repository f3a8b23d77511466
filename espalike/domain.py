"""The chemistry a model was trained on, and whether a molecule is part of it.

A model's file says how many of its training molecules have each surrounding (`espalike.chem.environments`): elements,
charges, hybridisation and rings to a radius of two bonds. Files from before have neighbour elements only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import GetPeriodicTable

from espalike.chem.environments import surroundings
from espalike.chem.molecule import Molecule, sanitized, to_rdkit
from espalike.chem.sanitize import BOND_TYPES, atoms_of, parse_smiles
from espalike.chem.ylides import drawings, is_ylide
from espalike.linear import usual_form

_COMMON, _SHARE = 3, 0.01
"""A surrounding is rare in fewer training molecules, if that is also a small share of those with the commonest one."""
_MOST_PAIRS = 4
"""Electron pairs around an atom, bonds and lone pairs, that lie in like directions: up to a tetrahedron's."""
_OUTER_ELECTRONS = np.array([0, *(GetPeriodicTable().GetNOuterElecs(z) for z in range(1, 119))])
_FORMS = 8
"""Resonance forms of a molecule that are compared with a domain."""
_LARGE = 500
"""Atoms of a large molecule."""


class DomainError(ValueError):
    """A molecule has an element that the model was not trained on, or a centre that no force field of angles holds."""


def _symbols(numbers: Iterable[int]) -> list[str]:
    """Element symbols of atomic numbers."""
    return [GetPeriodicTable().GetElementSymbol(int(z)) for z in numbers]


def environments(molecule: Molecule) -> list[str]:
    """Each atom's element and neighbour elements, e.g. `C(CHHO)`: a domain consists of these."""
    symbols = _symbols(molecule.numbers)
    neighbours: list[list[str]] = [[] for _ in symbols]
    for i, j in molecule.bonds:
        neighbours[i].append(symbols[j])
        neighbours[j].append(symbols[i])
    return [f"{symbol}({''.join(sorted(near))})" for symbol, near in zip(symbols, neighbours, strict=True)]


def _crowded(molecule: Molecule) -> list[int]:
    """Atoms of two or more neighbours with more electron pairs, bonds and lone pairs, than a tetrahedron has."""
    neighbours = np.bincount(molecule.bonds.reshape(-1), minlength=molecule.n_atoms)
    orders = np.bincount(molecule.bonds.reshape(-1), np.repeat(molecule.orders, 2), molecule.n_atoms)
    outer = _OUTER_ELECTRONS[molecule.numbers] - molecule.charges
    pairs = neighbours + np.maximum(outer - orders, 0) // 2
    return np.flatnonzero((neighbours > 1) & (pairs > _MOST_PAIRS)).tolist()


@lru_cache(maxsize=1)  # `check` and `remarks` ask for the same molecule
def _surroundings(molecule: Molecule) -> dict[int, tuple[str, ...]]:
    """See `espalike.chem.environments.surroundings`."""
    return surroundings(sanitized(molecule))


def _forms(molecule: Molecule) -> Iterator[dict[int, tuple[str, ...]]]:
    """Surroundings of the atoms in the usual resonance form, and in others; none if there is one only.

    They do not depend on which of these forms is drawn.
    """
    if molecule.n_atoms > _LARGE or not (molecule.charges.any() or is_ylide(sanitized(molecule))):
        return
    mol, place = _in_canonical_order(_usual(molecule))
    for usual in drawings(mol):
        yield _placed(surroundings(usual), place)
        for form in Chem.ResonanceMolSupplier(usual, maxStructs=_FORMS):
            if form is not None and not Chem.SanitizeMol(form, catchErrors=True):
                for drawn in drawings(form):
                    yield _placed(surroundings(drawn), place)


def _in_canonical_order(mol: Chem.Mol) -> tuple[Chem.Mol, list[int]]:
    """A molecule in an order that does not depend on its own, as RDKit's resonance forms do; and the original atoms."""
    Chem.RemoveStereochemistry(mol)
    ordered = parse_smiles(Chem.MolToSmiles(mol))
    assert ordered is not None
    Chem.SanitizeMol(ordered)
    return ordered, list(mol.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"])


def _placed(found: dict[int, tuple[str, ...]], place: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """Surroundings by the numbers of the atoms in another order."""
    return {place[atom]: texts for atom, texts in found.items()}


def _usual(molecule: Molecule) -> Chem.Mol:
    """The molecule of RDKit in its usual resonance form."""
    mol = to_rdkit(molecule, isotopes=False)
    orders, charges = usual_form(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges)
    if np.array_equal(orders, molecule.orders) and np.array_equal(charges, molecule.charges):
        return mol
    edit = Chem.RWMol(mol)
    Chem.RemoveStereochemistry(edit)
    Chem.Kekulize(edit, clearAromaticFlags=True)
    for (i, j), order in zip(molecule.bonds.tolist(), orders.tolist(), strict=True):
        edit.GetBondBetweenAtoms(i, j).SetBondType(BOND_TYPES[order])
    for atom, charge in zip(atoms_of(edit), charges.tolist(), strict=True):
        atom.SetFormalCharge(charge)
    Chem.SanitizeMol(edit)
    return edit.GetMol()


@lru_cache(maxsize=1)
def _skeleton(molecule: Molecule) -> tuple[Chem.Mol, dict[int, int]]:
    """The molecule of RDKit without hydrogens that are plain, and the place of each atom in it."""
    mol = to_rdkit(molecule, isotopes=False)
    for atom in atoms_of(mol):
        atom.SetIntProp("_number", atom.GetIdx())
    mol = Chem.RemoveHs(mol, sanitize=False)
    return mol, {atom.GetIntProp("_number"): atom.GetIdx() for atom in atoms_of(mol)}


def _places(molecule: Molecule, atoms: Sequence[int]) -> list[str]:
    """Atoms for messages: number, and surroundings to a radius of two bonds as SMILES, the atom first.

    In a large molecule each SMILES costs RDKit a copy of the molecule; there, the atom is given as SMARTS.
    """
    if not len(atoms):
        return []
    if molecule.n_atoms > _LARGE:
        return [f"atom {atom + 1} ({_surroundings(molecule)[atom][0]})" for atom in atoms]
    mol, index = _skeleton(molecule)
    texts = []
    for atom in atoms:
        near = {index[atom]}
        for _ in range(2):
            near |= {end.GetIdx() for i in near for end in mol.GetAtomWithIdx(i).GetNeighbors()}
        smiles = Chem.MolFragmentToSmiles(mol, sorted(near), rootedAtAtom=index[atom])
        texts.append(f"atom {atom + 1} ({smiles})")
    return texts


@dataclass(frozen=True)
class ChemicalDomain:
    """Chemistry a model was trained on.

    Attributes:
        elements: atomic numbers.
        environments: atom environments, as `environments` names them.
        charges: smallest and largest net charge [e].
        counts: number of training molecules with each surrounding; empty where it was not counted.
    """

    elements: tuple[int, ...] = ()
    environments: tuple[str, ...] = ()
    charges: tuple[int, int] = (0, 0)
    counts: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def from_header(header: Mapping[str, Any]) -> ChemicalDomain:
        """The domain that the description of a model file has."""
        content = {key: tuple(value) for key, value in header["domain"].items()}
        return ChemicalDomain(**content, counts=header.get("surroundings", {}))

    def to_header(self) -> dict[str, Any]:
        """The domain as parts of a model file's description; counts stand beside the parts that older versions read."""
        domain = {"elements": self.elements, "environments": self.environments, "charges": self.charges}
        return {"domain": domain} | ({"surroundings": dict(self.counts)} if self.counts else {})

    @property
    def symbols(self) -> list[str]:
        """Symbols of the elements."""
        return _symbols(self.elements)

    @property
    def charge_range(self) -> str:
        """Smallest and largest net charge [e], as text."""
        return "{:+d} to {:+d}".format(*self.charges)

    @staticmethod
    def of(molecules: Sequence[Molecule], rigid: Sequence[Molecule] = ()) -> ChemicalDomain:
        """The domain that molecules span.

        Args:
            molecules: those whose energies or forces were in training.
            rigid: those of complexes, whose geometries are rigid: their bonded parameters were not trained, so that of
                their surroundings only those of single atoms and ions count.
        """
        both = [*molecules, *rigid]
        seen = sorted({name for molecule in both for name in environments(molecule)})
        elements = sorted({int(z) for molecule in both for z in molecule.numbers})
        net = [molecule.net_charge for molecule in both] or [0]
        counts = Counter(text for molecule in molecules for text in set().union(*_surroundings(molecule).values()))
        for molecule in rigid:
            single = set(range(molecule.n_atoms)) - set(molecule.bonds.ravel().tolist())
            counts.update({text for atom in single for text in _surroundings(molecule)[atom]})
        return ChemicalDomain(tuple(elements), tuple(seen), (min(net), max(net)), dict(sorted(counts.items())))

    def require(self, molecule: Molecule) -> None:
        """Check that a model can have parameters for a molecule.

        Raises:
            DomainError: for an element that was not in training: its parameters would be arbitrary; for an atom with
                five or more electron pairs, as in SF6, SF4 and ICl3: the angles between its neighbours differ, but the
                graph cannot tell which is which.
        """
        unseen = sorted(set(molecule.numbers.tolist()) - set(self.elements))
        if unseen:
            raise DomainError(
                f"{molecule.name}: the model was never trained on {', '.join(_symbols(unseen))}; "
                f"it knows {', '.join(self.symbols)}. Train or choose a model that covers it."
            )
        for atom in _crowded(molecule):
            self._require_angles(molecule, atom)

    def _require_angles(self, molecule: Molecule, atom: int) -> None:
        """Check that a model can have the angles at an atom with five or more electron pairs.

        Raises:
            DomainError: where three neighbours are alike, or its surroundings were not in training.
        """
        near = np.concatenate([molecule.bonds[molecule.bonds[:, end] == atom, 1 - end] for end in (0, 1)])
        place = f"{molecule.name}: atom {atom + 1} ({_symbols(molecule.numbers[[atom]])[0]}) has {len(near)} neighbours"
        advice = "Use parameters that were made for this molecule"
        if len(near) > _MOST_PAIRS or np.bincount(molecule.numbers[near]).max() > 2:
            raise DomainError(
                f"{place}; angle terms cannot hold their angles of 90° and 180°, which are alike in the graph. {advice}"
            )
        if not all(text in self.counts for text in _surroundings(molecule)[atom]):
            raise DomainError(
                f"{place} and lone pairs, with angles of 90° and 180°; such surroundings were not in training. {advice}"
            )

    @cached_property
    def _rare(self) -> dict[str, int]:
        """The counts of surroundings that are rare in training."""
        common = min(_COMMON, _SHARE * max(self.counts.values()))
        return {text: count for text, count in self.counts.items() if 0 < count < common}

    def _new(self, known: Mapping[int, Sequence[str]]) -> list[int]:
        """Atoms with surroundings that were not in training."""
        return sorted(i for i, texts in known.items() if not all(text in self.counts for text in texts))

    def _least(self, known: Mapping[int, Sequence[str]]) -> dict[int, int]:
        """Atoms with surroundings that are rare in training, and the smallest of their counts."""
        rare = self._rare
        return {
            i: min(rare[text] for text in texts if text in rare)
            for i, texts in sorted(known.items())
            if not rare.keys().isdisjoint(texts)
        }

    @cached_property
    def _last(self) -> dict[Molecule, tuple[list[int], dict[int, int]]]:
        """What `_known` found for the last molecule: `check` and `remarks` ask for the same one."""
        return {}

    def _known(self, molecule: Molecule) -> tuple[list[int], dict[int, int]]:
        """Atoms with new and with rare surroundings, in the resonance form that has the fewest of them.

        Parameters do not depend on the form. Training has seen a molecule in one of them.
        """
        found = self._last.get(molecule)
        if found is None:
            found = self._compared(molecule)
            self._last.clear()
            self._last[molecule] = found
        return found

    def _compared(self, molecule: Molecule) -> tuple[list[int], dict[int, int]]:
        """See `_known`."""
        drawn = _surroundings(molecule)
        found = [(self._new(drawn), self._least(drawn))]
        if found[0] == ([], {}):
            return found[0]
        for form in _forms(molecule):
            found.append((self._new(form), self._least(form)))
            if found[-1] == ([], {}):
                break
        if len(found) > 1 and found[0][0]:  # the others do not depend on what is drawn
            found = found[1:]
        return min(found, key=lambda atoms: (len(atoms[0]), len(atoms[1])))

    def check(self, molecule: Molecule) -> tuple[str, ...]:
        """Warnings about environments and charges that were not in training.

        Raises:
            DomainError: see `require`.
        """
        self.require(molecule)
        if self.counts:
            new, _ = self._known(molecule)
            warnings = [f"{place}: such surroundings were not in training" for place in _places(molecule, new)]
        else:
            listed = set(self.environments)
            warnings = [
                f"atom {i + 1}: environment {name} was not in training"
                for i, name in enumerate(environments(molecule))
                if name not in listed
            ]
        if not self.charges[0] <= molecule.net_charge <= self.charges[1]:
            warnings.append(f"net charge {molecule.net_charge:+d} is outside the trained range {self.charge_range}")
        return tuple(warnings)

    def remarks(self, molecule: Molecule) -> tuple[str, ...]:
        """Remarks on a molecule that may be inside the domain: rare surroundings, and what was not compared."""
        if not self.counts:
            return ("the model's file has no counts of environments: only elements of neighbours were compared",)
        if (molecule.numbers > 1).sum() < 2:  # only the molecule itself has the surrounding of such an atom
            return ()
        _, least = self._known(molecule)
        return tuple(
            f"{place}: such surroundings were in {count} training molecule{'s' * (count > 1)}"
            for place, count in zip(_places(molecule, list(least)), least.values(), strict=True)
        )

"""Candidates to choose molecules from: how they are made from source molecules, and their environments.

The functions run in worker processes: their arguments and results are plain data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from rdkit import Chem, rdBase

from espalike.chem.embedding import embed
from espalike.chem.enumerate import Limits, pieces, states, tautomers
from espalike.chem.environments import environments
from espalike.chem.errors import ChemistryError
from espalike.chem.molecule import connectivity_key, from_smiles
from espalike.chem.ylides import without_ylides

GIVEN, STATE, TAUTOMER, FRAGMENT, RECOMBINED = "given", "state", "tautomer", "fragment", "recombined"
"""What a candidate is."""

Pattern = tuple[str, str]
"""Kind of an environment and its SMARTS."""


@dataclass(frozen=True)
class Recipe:
    """Settings of the candidates that are made from each source molecule.

    Attributes:
        limits: that candidates are within.
        ph: pH of the protonation states; None = only the states as drawn.
        margin: groups whose pKa is nearer to the pH than this occur protonated and deprotonated.
        tautomers: largest number of tautomers.
        joined: number of neighbouring BRICS pieces that fragments may have; 0 = no fragments.
    """

    limits: Limits
    ph: float | None = 7.0
    margin: float = 1.0
    tautomers: int = 3
    joined: int = 3


@dataclass(frozen=True)
class Derived:
    """Candidates made from one source molecule.

    Attributes:
        name: of the source molecule.
        key: its connectivity key, or None where there is none.
        reason: why the molecule itself cannot be chosen, or None.
        candidates: SMILES and what they are.
        open_ends: pieces for recombination.
        patterns: environments of a molecule that is outside the limits, so that it is known what is lost.
    """

    name: str
    key: str | None = None
    reason: str | None = None
    candidates: tuple[tuple[str, str], ...] = ()
    open_ends: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()


@dataclass(frozen=True)
class Examined:
    """One candidate: why it cannot be used, or its key, its number of atoms and its environments."""

    reason: str | None = None
    key: str = ""
    atoms: int = 0
    patterns: tuple[Pattern, ...] = ()


def components(smiles: str) -> list[str]:
    """SMILES of the molecules of a mixture or salt, without single atoms, map numbers and isotopes.

    Raises:
        ChemistryError: if it cannot be read.
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:
            raise ChemistryError(f"{smiles!r} is not a valid SMILES")
        for atom in mol.GetAtoms():
            atom.SetAtomMapNum(0)
            atom.SetIsotope(0)
        mol = without_ylides(mol)
        parts = Chem.GetMolFrags(Chem.RemoveHs(mol), asMols=True)
        kept = [part for part in parts if part.GetNumHeavyAtoms() > 1 or len(parts) == 1]
        return list(dict.fromkeys(Chem.MolToSmiles(part) for part in kept))


def derive(name: str, smiles: str, recipe: Recipe) -> Derived:
    """Candidates made of one molecule: itself, its states and tautomers, its fragments and their states."""
    try:
        key = connectivity_key(from_smiles(smiles, name))
    except ChemistryError:
        return Derived(name, reason="not supported")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None:  # what RDKit reads without sanitization only
            return Derived(name, reason="unreadable")
        reason = recipe.limits.reason(mol)
        candidates = [(mol, GIVEN)] if reason is None else []
        candidates += [(state, STATE) for state in _states(mol, recipe)]
        if reason is None and recipe.tautomers:
            candidates += [(tautomer, TAUTOMER) for tautomer in _tried(tautomers, mol, recipe.tautomers) or []]
        kept: dict[str, str] = {}
        for candidate, what in candidates:
            if recipe.limits.reason(candidate) is None:
                kept.setdefault(Chem.MolToSmiles(candidate), what)
        fragments, open_ends = _tried(pieces, mol, recipe.joined) or ([], [])
        for fragment in map(Chem.MolToSmiles, fragments):
            for form in _fragment(fragment, recipe):
                kept.setdefault(form, FRAGMENT)
        patterns = tuple(_patterns(mol)) if reason is not None else ()
    return Derived(name, key, reason, tuple(kept.items()), tuple(open_ends), patterns)


@lru_cache(maxsize=100_000)
def _fragment(smiles: str, recipe: Recipe) -> tuple[str, ...]:
    """SMILES of a fragment as cut and at the pH, within the limits; kept, because fragments repeat often."""
    mol = Chem.MolFromSmiles(smiles)
    forms = [mol, *_states(mol, replace(recipe, margin=0.0))] if mol is not None else []
    return tuple(dict.fromkeys(Chem.MolToSmiles(form) for form in forms if recipe.limits.reason(form) is None))


def _states(mol: Chem.Mol, recipe: Recipe) -> list[Chem.Mol]:
    return [] if recipe.ph is None else _tried(states, mol, recipe.ph, recipe.margin) or []


def _tried(function, *arguments):
    """A function's result, or None where RDKit cannot neutralise, cut or sanitize an unusual molecule."""
    try:
        return function(*arguments)
    except (ValueError, RuntimeError):
        return None


def _patterns(mol: Chem.Mol) -> Iterator[Pattern]:
    return ((kind, text) for kind, texts in environments(mol).items() for text in texts)


def examine(smiles: str) -> Examined:
    """A candidate's key and environments, or why the program cannot use it."""
    try:
        molecule = from_smiles(smiles)
    except ChemistryError:
        return Examined(reason="not supported")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        return Examined(reason="not supported")
    return Examined(None, connectivity_key(molecule), molecule.n_atoms, tuple(_patterns(mol)))


def embeddable(smiles: str, seed: int = 0) -> bool:
    """Whether distance geometry finds coordinates."""
    try:
        embed(from_smiles(smiles), 1, seed)
    except (ChemistryError, RuntimeError):  # RDKit's own errors, in rare cases
        return False
    return True


def key_of(smiles: str) -> str | None:
    """A molecule's connectivity key, or None where the program does not support it."""
    try:
        return connectivity_key(from_smiles(smiles))
    except ChemistryError:
        return None

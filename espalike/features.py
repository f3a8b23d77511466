"""Features of atoms that depend on neither the resonance form that is drawn, nor atom order, nor stereochemistry.

Formal charges and bond orders move when another resonance form is drawn, but the set of atoms over which they move does
not change. That set, a *π component*, starts from every atom with a formal charge or a multiple bond (and trigonal
boron, whose empty orbital takes part), and grows over neutral N, O, P, S neighbours, whose lone pairs take part.
Saturated carbons separate components. A component carries its net charge, so that the two oxygens of a carboxylate,
or the six hydrogens of a guanidinium, have equal features in every drawing.
"""

from __future__ import annotations

import numpy as np
from rdkit import Chem

from espalike.chem.molecule import Molecule
from espalike.topology import Topology, components

ELEMENTS: tuple[int, ...] = (1, 3, 5, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 19, 20, 30, 35, 53)
"""Supported atomic numbers: H Li B C N O F Na Mg Si P S Cl K Ca Zn Br I (the metals as ions)."""

_RINGS = ("none", "3", "4", "5", "6", "7", "8+")
_MAX_DEGREE = 6
_LONE_PAIR = (7, 8, 15, 16)
_MAX_CHARGE = 3.0

FEATURES: tuple[str, ...] = (
    *(f"element={Chem.GetPeriodicTable().GetElementSymbol(z)}" for z in ELEMENTS),
    *(f"degree={d}" for d in range(_MAX_DEGREE + 1)),
    *(f"ring={size}" for size in _RINGS),
    "hydrogens",  # number of hydrogen neighbours / 4
    "ring_bonds",  # number of bonds that lie in rings / 4
    "conjugated_ring",  # in a 5- to 7-ring that lies in one π component
    "linear",
    "pi",  # in a π component
    "pi_charge",  # the component's net charge, within ±3
    "pi_charge_share",  # the same over the component's number of atoms
)
"""Names of the feature columns, in order."""


def check_elements(molecule: Molecule) -> None:
    """Check that every element has a feature column.

    Raises:
        ValueError: naming the molecule and the atom.
    """
    unknown = np.flatnonzero(~np.isin(molecule.numbers, ELEMENTS))
    if len(unknown):
        raise ValueError(
            f"{molecule.name}: atom {unknown[0] + 1} has atomic number {molecule.numbers[unknown[0]]}; "
            f"supported are {list(ELEMENTS)}"
        )


def featurize(molecule: Molecule, topology: Topology) -> np.ndarray:
    """Node features of a molecule, or of several side by side; columns as in `FEATURES`, shape `(A, F)`, float32.

    Raises:
        ValueError: see `check_elements`.
    """
    check_elements(molecule)
    n_atoms, numbers, bonds = molecule.n_atoms, molecule.numbers, molecule.bonds
    component, charge, size = pi_components(molecule)
    ring_size, ring_bonds, conjugated = _rings(n_atoms, bonds, component)
    hydrogens = np.bincount(
        np.concatenate([bonds[numbers[bonds[:, 1]] == 1, 0], bonds[numbers[bonds[:, 0]] == 1, 1]]), minlength=n_atoms
    )
    columns = (
        np.equal.outer(numbers, ELEMENTS),
        np.equal.outer(np.minimum(topology.degrees, _MAX_DEGREE), np.arange(_MAX_DEGREE + 1)),
        np.equal.outer(np.where(ring_size == 0, 2, np.minimum(ring_size, 8)), np.arange(2, 9)),
        hydrogens[:, None] / 4.0,
        ring_bonds[:, None] / 4.0,
        conjugated[:, None],
        topology.linear[:, None],
        (component >= 0)[:, None],
        np.clip(charge, -_MAX_CHARGE, _MAX_CHARGE)[:, None],
        (charge / np.maximum(size, 1))[:, None],
    )
    return np.concatenate([np.asarray(c, dtype=np.float32) for c in columns], axis=1)


def pi_components(molecule: Molecule) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """π components of a molecule; see the top of this module.

    Returns:
        Component of each atom (−1: none), its net charge [e] and its number of atoms, each of shape `(A,)`.
    """
    n_atoms, numbers = molecule.n_atoms, molecule.numbers
    i, j = molecule.bonds.T
    degrees = np.bincount(molecule.bonds.reshape(-1), minlength=n_atoms)
    member = (molecule.charges != 0) | ((numbers == 5) & (degrees <= 3))
    multiple = molecule.orders > 1
    member[i[multiple]] = True
    member[j[multiple]] = True
    # An ammonium nitrogen has no orbital to conjugate with carbon, so its charge stays on it.
    quaternary = (numbers == 7) & (degrees == 4)
    joined = ~((quaternary[i] & (numbers[j] == 6)) | (quaternary[j] & (numbers[i] == 6)))
    i, j = i[joined], j[joined]
    lone_pair = np.isin(numbers, _LONE_PAIR)
    while True:
        reached = np.zeros(n_atoms, dtype=bool)
        reached[j[member[i]]] = True
        reached[i[member[j]]] = True
        reached &= lone_pair & ~member
        if not reached.any():
            break
        member = member | reached
    inside = member[i] & member[j]
    label = components(n_atoms, np.stack([i[inside], j[inside]], axis=1))
    charge = np.bincount(label, weights=molecule.charges)[label]
    size = np.bincount(label)[label]
    return np.where(member, label, -1), np.where(member, charge, 0.0), np.where(member, size, 0)


def _rings(n_atoms: int, bonds: np.ndarray, component: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smallest ring through each atom (0: none), number of ring bonds, and membership in a conjugated 5- to 7-ring."""
    smallest, ring_bonds, conjugated = np.zeros(n_atoms, np.int64), np.zeros(n_atoms, np.int64), np.zeros(n_atoms, bool)
    rings = _smallest_rings(n_atoms, bonds)
    if not rings:
        return smallest, ring_bonds, conjugated
    sizes = np.array([len(ring) for ring in rings])
    atoms = np.concatenate([np.array(ring) for ring in rings])
    following = np.concatenate([np.array(ring[1:] + ring[:1]) for ring in rings])
    of, starts = np.repeat(np.arange(len(rings)), sizes), np.cumsum(sizes) - sizes
    smallest[:] = np.iinfo(np.int64).max
    np.minimum.at(smallest, atoms, sizes[of])
    smallest[smallest == np.iinfo(np.int64).max] = 0
    alike = np.logical_and.reduceat(component[atoms] == component[atoms[starts]][of], starts)
    pi = alike & (component[atoms[starts]] >= 0) & (sizes >= 5) & (sizes <= 7)
    conjugated[atoms[pi[of]]] = True
    ends = np.unique(np.minimum(atoms, following) * n_atoms + np.maximum(atoms, following))
    ring_bonds += np.bincount(np.concatenate(np.divmod(ends, n_atoms)), minlength=n_atoms)
    return smallest, ring_bonds, conjugated


def _smallest_rings(n_atoms: int, bonds: np.ndarray) -> list[tuple[int, ...]]:
    """RDKit's symmetrized smallest set of smallest rings; it is asked without the atoms at ends of chains."""
    while True:
        kept = np.bincount(bonds.reshape(-1), minlength=n_atoms) > 1
        inside = kept[bonds[:, 0]] & kept[bonds[:, 1]]
        if inside.all():
            break
        bonds = bonds[inside]
    mol, place, atoms = Chem.RWMol(), np.cumsum(kept) - 1, np.flatnonzero(kept).tolist()
    for _ in atoms:
        mol.AddAtom(Chem.Atom(6))
    for a, b in place[bonds].tolist():
        mol.AddBond(a, b, Chem.BondType.SINGLE)
    return [tuple(atoms[a] for a in ring) for ring in Chem.GetSymmSSSR(mol)]

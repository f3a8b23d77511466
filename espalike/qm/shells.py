"""Points around a molecule at which its electrostatic potential is computed."""

from __future__ import annotations

import numpy as np

from espalike.chem.molecule import Molecule

MERZ_KOLLMAN = (1.4, 1.6, 1.8, 2.0)
"""Shells in van der Waals radii; U. C. Singh and P. A. Kollman, J. Comput. Chem. 1984, 5, 129."""
_NO_RADIUS = 2.0
"""Radius of an element that the table lacks [Å]."""


def shells(
    molecule: Molecule, xyz: np.ndarray, density: float = 1.0, scales: tuple[float, ...] = MERZ_KOLLMAN
) -> np.ndarray:
    """Points on shells around the atoms, those inside another atom's shell left out [Å], shape `(G, 3)`.

    Each atom's sphere holds points of a Fibonacci lattice (R. Swinbank and R. J. Purser, Q. J. R. Meteorol. Soc.
    2006, 132, 1769), so the points are the same at every call. Radii are those of M. Mantina et al., J. Phys. Chem. A
    2009, 113, 5806. Points are exactly representable in float32, in which stores keep them.

    Args:
        molecule: the graph.
        xyz: coordinates [Å], shape `(A, 3)`.
        density: points on a whole sphere [1/Å²].
        scales: radius of each shell, in van der Waals radii.
    """
    from qcelemental import periodictable, vdwradii

    symbols = [periodictable.to_E(int(number)) for number in molecule.numbers]
    radii = np.array([vdwradii.get(symbol, units="angstrom", missing=_NO_RADIUS) for symbol in symbols])
    kept = []
    for scale in scales:
        for atom, radius in enumerate(scale * radii):
            points = xyz[atom] + radius * fibonacci(max(1, round(4 * np.pi * radius**2 * density)))
            others = np.delete(np.arange(len(xyz)), atom)
            distance = np.linalg.norm(points[:, None] - xyz[others], axis=-1)
            kept.append(points[(distance >= scale * radii[others]).all(axis=1)])
    return np.concatenate(kept).astype(np.float32).astype(np.float64)


def fibonacci(count: int) -> np.ndarray:
    """Evenly spread unit vectors, shape `(count, 3)`: equal steps in z, the golden angle from one to the next."""
    index = np.arange(count)
    z = 1 - (2 * index + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * index
    radius = np.sqrt(1 - z**2)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=-1)

"""Geometries of a molecule with their labels. Units: Å, kcal/mol, e; shape letters: `K` geometries, `A` atoms."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class EspGrid:
    """Electrostatic potential of geometries, each at separate points.

    Attributes:
        points: [Å], shape `(G, 3)`, one geometry after the other.
        values: potential [kcal/mol/e], shape `(G,)`.
        count: number of points of each geometry, shape `(K,)`, int64; 0 where it was not computed.
    """

    points: np.ndarray
    values: np.ndarray
    count: np.ndarray

    def take(self, keep: np.ndarray) -> EspGrid:
        """The geometries that `keep` `(K,)`, bool, marks."""
        chosen = np.repeat(keep, self.count)
        return EspGrid(self.points[chosen], self.values[chosen], self.count[keep])


@dataclass(frozen=True, eq=False)
class Conformers:
    """Geometries of one molecule with energies, forces and other labels of one level of theory.

    Attributes:
        xyz: coordinates [Å], shape `(K, A, 3)`, float64.
        energy: energies [kcal/mol], shape `(K,)`, float64; NaN where the level gives none.
        forces: −dE/dx [kcal/mol/Å], shape `(K, A, 3)`, float64, or None.
        level: level of theory, e.g. `B3LYP-D3BJ/DZVP`.
        source: data set the conformers come from.
        dipole: dipole moment about the origin of the coordinates [e Å], shape `(K, 3)`; NaN where unknown; or None.
        esp: electrostatic potential around the molecule, or None.
        interaction: of a complex: energy [kcal/mol] of the complex minus those of its molecules in the same geometry,
            shape `(K,)`; or None.
        sapt: components of `interaction` by symmetry-adapted perturbation theory [kcal/mol], shape `(K, 4)`:
            electrostatics, exchange, induction with δHF, dispersion; NaN where unknown; or None.
        scaling: distance of the molecules of a complex relative to equilibrium, shape `(K,)`; NaN where unknown; or
            None.
    """

    xyz: np.ndarray
    energy: np.ndarray
    forces: np.ndarray | None
    level: str
    source: str
    dipole: np.ndarray | None = None
    esp: EspGrid | None = None
    interaction: np.ndarray | None = None
    sapt: np.ndarray | None = None
    scaling: np.ndarray | None = None

    def take(self, keep: np.ndarray) -> Conformers:
        """The geometries that `keep` `(K,)`, bool, marks, with their labels."""
        names = ("forces", "dipole", "interaction", "sapt", "scaling")
        arrays = {name: getattr(self, name) for name in names}
        kept: dict[str, Any] = {name: None if array is None else array[keep] for name, array in arrays.items()}
        return dataclasses.replace(
            self,
            xyz=self.xyz[keep],
            energy=self.energy[keep],
            esp=None if self.esp is None else self.esp.take(keep),
            **kept,
        )

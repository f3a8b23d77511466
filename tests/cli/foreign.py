"""Calculators for tests, with the faults that a calculator of one's own may have: MMFF94 otherwise."""

import numpy as np

from espalike.qm.mmff import MMFFCalculator


class Foreign:
    """MMFF94 with a fault."""

    level, program = "foreign", "foreign 1.0"

    def __init__(self, fault=""):
        self.fault = fault
        self._correct = MMFFCalculator()

    def __call__(self, molecule, xyz):
        energy, forces = self._correct(molecule, xyz)
        nitrogen = 7 in molecule.numbers
        match self.fault:
            case "gradient":
                return energy, -forces
            case "kJ/mol":
                return 4.184 * energy, 4.184 * forces
            case "bohr":
                return energy, 0.529177 * forces
            case "no number":
                return (np.nan if nitrogen else energy), forces
            case "transposed":
                return energy, forces.T if nitrogen else forces
            case "array":
                return (np.array([energy]) if nitrogen else energy), forces
            case "raises" if nitrogen:
                raise KeyError(7)
        return energy, forces


class ForeignBatches(Foreign):
    """Computes geometries in batches."""

    def batch(self, molecule, xyz):
        energies, forces = map(np.array, zip(*(self(molecule, one) for one in xyz), strict=True))
        return energies, forces

"""MMFF94 and UFF by RDKit, as calculators to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
from rdkit import Chem

from espalike.chem import to_rdkit
from espalike.chem.molecule import Molecule
from espalike.qm.base import CalculatorError, Kept, checked, finite


class RDKitCalculator:
    """Energies and analytic gradients of one of RDKit's force fields in kcal/mol and Å.

    Args:
        level: name of the force field.
    """

    def __init__(self, level: str):
        import rdkit

        self.level = level
        self.program = f"rdkit {rdkit.__version__}"
        self._kept = Kept()

    def made(self, mol: Chem.Mol) -> Any:
        """RDKit's force field of a molecule, or None where parameters are missing."""
        raise NotImplementedError

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`; see `espalike.qm.base.Calculator`."""
        positions = checked(molecule, xyz).ravel().tolist()
        field = self._kept.take(molecule) or self._field(molecule)
        energy = field.CalcEnergy(positions)  # first: CalcGrad alone would use the distances of the last call
        forces = -np.array(field.CalcGrad(positions)).reshape(-1, 3)
        self._kept.put(molecule, field)
        return finite(molecule, self.level, energy, forces)

    def _field(self, molecule: Molecule):
        field = self.made(to_rdkit(molecule, np.zeros((molecule.n_atoms, 3))))
        if field is None:
            raise CalculatorError("no parameters", f"{molecule.name}: {self.level} has no parameters for this molecule")
        field.Initialize()
        return field


class MMFFCalculator(RDKitCalculator):
    """MMFF94 or MMFF94s.

    Args:
        variant: `MMFF94` or `MMFF94s`.
    """

    def __init__(self, variant: str = "MMFF94"):
        if variant not in {"MMFF94", "MMFF94s"}:
            raise ValueError(f"unknown MMFF variant {variant!r}; choose MMFF94 or MMFF94s")
        super().__init__(variant)

    def made(self, mol: Chem.Mol) -> Any:
        """See `RDKitCalculator.made`."""
        from rdkit.Chem import rdForceFieldHelpers

        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant=self.level)
        if properties is None:
            return None
        # RDKit leaves out interactions between the molecules of a complex unless asked
        return rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties, ignoreInterfragInteractions=False)


class UFFCalculator(RDKitCalculator):
    """UFF without charges, as RDKit has it (A. K. Rappé et al., J. Am. Chem. Soc. 1992, 114, 10024)."""

    def __init__(self) -> None:
        super().__init__("UFF")

    def made(self, mol: Chem.Mol) -> Any:
        """See `RDKitCalculator.made`."""
        from rdkit.Chem import rdForceFieldHelpers

        if not rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
            return None
        return rdForceFieldHelpers.UFFGetMoleculeForceField(mol, vdwThresh=100.0, ignoreInterfragInteractions=False)

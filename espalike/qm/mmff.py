"""MMFF94 by RDKit, as a calculator to compare with."""

from __future__ import annotations

import numpy as np

from espalike.chem import to_rdkit
from espalike.chem.molecule import Molecule
from espalike.qm.base import CalculatorError, checked, finite


class MMFFCalculator:
    """MMFF94 (or MMFF94s) energies and analytic gradients in kcal/mol and Å.

    Args:
        variant: `MMFF94` or `MMFF94s`.
    """

    def __init__(self, variant: str = "MMFF94"):
        if variant not in {"MMFF94", "MMFF94s"}:
            raise ValueError(f"unknown MMFF variant {variant!r}; choose MMFF94 or MMFF94s")
        import rdkit

        self.level = variant
        self.program = f"rdkit {rdkit.__version__}"
        self._last: tuple[Molecule, object] | None = None

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`; see `espalike.qm.base.Calculator`."""
        positions = checked(molecule, xyz).ravel().tolist()
        field = self._field(molecule)
        energy = field.CalcEnergy(positions)  # first: CalcGrad alone would use the distances of the last call
        forces = -np.array(field.CalcGrad(positions)).reshape(-1, 3)
        return finite(molecule, self.level, energy, forces)

    def _field(self, molecule: Molecule):
        if self._last is not None and self._last[0] is molecule:
            return self._last[1]
        from rdkit.Chem import rdForceFieldHelpers

        mol = to_rdkit(molecule, np.zeros((molecule.n_atoms, 3)))
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant=self.level)
        field = None
        if properties is not None:  # RDKit leaves out interactions between the molecules of a complex unless asked
            field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties, ignoreInterfragInteractions=False)
        if field is None:
            raise CalculatorError("no parameters", f"{molecule.name}: {self.level} has no parameters for this molecule")
        field.Initialize()
        self._last = (molecule, field)
        return field

"""Force fields and calculators of espalike as a calculator of ASE, the Atomic Simulation Environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ase.calculators.calculator as ase_calculator
import numpy as np

from espalike.chem.molecule import Molecule
from espalike.potential import potential
from espalike.qm.base import gives, labelled
from espalike.units import factor

if TYPE_CHECKING:
    import ase

    from espalike.potential import Source


class Calculator(ase_calculator.Calculator):
    """Energy [eV], forces [eV/Å] and, where the source has it, dipole moment [e Å] of one molecule.

    Args:
        source: model, parametrized molecule or calculator; see `espalike.potential.potential`.
        molecule: the graph. ASE knows no bonds, so the atoms must be in the molecule's order.
        **settings: of a calculator that is given by its name.

    Raises:
        NotInstalled, ValueError, FileNotFoundError, ModelFileError: see `espalike.potential.potential`.

    Examples:
        >>> import ase
        >>> import espalike
        >>> from espalike.chem import embed
        >>> ethanol = espalike.Molecule.from_smiles("CCO", "ethanol")
        >>> atoms = ase.Atoms(ethanol.numbers, embed(ethanol, 1)[0], calculator=Calculator("espalike-1", ethanol))
        >>> atoms.get_forces().shape
        (9, 3)
    """

    def __init__(self, source: Source, molecule: Molecule, **settings: Any):
        super().__init__()
        self._molecule = molecule
        self._potential = potential(source, molecule, **settings)
        self.implemented_properties = ["energy", "forces", *(["dipole"] if gives(self._potential, "dipole") else [])]

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = ase_calculator.all_changes,
    ) -> None:
        """Compute all properties of `atoms`; ASE calls it.

        Raises:
            ValueError: for atoms of another molecule, or in a periodic box.
            CalculatorError: when the calculation fails.
        """
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms  # a copy
        assert atoms is not None
        numbers = atoms.numbers.tolist()
        if numbers != self._molecule.numbers.tolist():
            raise ValueError(
                f"{self._molecule.name}: expected its atoms in its own order, elements "
                f"{self._molecule.numbers.tolist()}; got {numbers}"
            )
        if atoms.pbc.any():
            raise ValueError(f"{self._molecule.name}: periodic atoms; this calculator is for one isolated molecule")
        label = labelled(self._potential, self._molecule, np.array(atoms.positions))
        self.results = {"energy": label.energy / factor("eV"), "forces": label.forces / factor("eV")}
        if label.dipole is not None:
            self.results["dipole"] = label.dipole

"""Semiempirical GFN1-xTB and GFN2-xTB by tblite."""

from __future__ import annotations

import atexit
from typing import Any
from weakref import WeakSet

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.qm.base import CalculatorError, Kept, Label, checked, finite
from espalike.units import BOHR, HARTREE

_used: WeakSet[XTBCalculator] = WeakSet()


@atexit.register
def _release() -> None:
    """Free tblite's objects while its module is whole; at the end of Python they print tracebacks."""
    for calculator in _used:
        calculator._kept.clear()


class XTBCalculator:
    """GFN-xTB energies, analytic gradients and dipole moments, about 1–50 ms each.

    A call starts from the wavefunction of the last geometry of the same molecule; a label starts anew, so that it
    is the same whatever was computed before.

    Args:
        method: `GFN2-xTB` or `GFN1-xTB`.
        accuracy: tblite's accuracy setting; smaller is tighter.
    """

    properties = frozenset({"dipole"})

    def __init__(self, method: str = "GFN2-xTB", accuracy: float = 0.1):
        if method not in {"GFN2-xTB", "GFN1-xTB"}:
            raise ValueError(f"unknown xTB method {method!r}; choose GFN2-xTB or GFN1-xTB")
        from importlib.metadata import version

        self.level = method
        self.program = f"tblite {version('tblite')}"
        self.accuracy = accuracy
        self._kept = Kept()

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`; see `espalike.qm.base.Calculator`."""
        label = self._label(molecule, xyz)
        return label.energy, label.forces

    def label(self, molecule: Molecule, xyz: np.ndarray, esp: bool = False) -> Label:
        """Energy, forces and dipole moment about the origin of the coordinates; there is no potential.

        Raises:
            CalculatorError: when the calculation fails, naming the molecule.
        """
        self._kept.clear()
        return self._label(molecule, xyz)

    def _label(self, molecule: Molecule, xyz: np.ndarray) -> Label:
        xyz = checked(molecule, xyz)
        last = self._kept.take(molecule)
        try:
            try:
                energy, gradient, dipole = self._run(molecule, xyz, last)
            except RuntimeError:  # the last wavefunction can be a bad start: once more without it
                if last is None:
                    raise
                energy, gradient, dipole = self._run(molecule, xyz, None)
        except (RuntimeError, ValueError) as error:  # tblite's own errors derive from RuntimeError
            raise CalculatorError("failed", f"{molecule.name}: {self.level}: {error}") from error
        energy, forces = finite(molecule, self.level, energy * HARTREE, -gradient * (HARTREE / BOHR))
        return Label(energy, forces, dipole * BOHR)

    def _run(
        self, molecule: Molecule, xyz: np.ndarray, last: tuple[Any, Any] | None
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Energy [hartree], gradient [hartree/bohr] and dipole moment [e bohr], from the last calculator and result."""
        from tblite.interface import Calculator, Result

        if last is not None:
            engine, result = last
            engine.update(xyz / BOHR)
        else:
            engine = Calculator(self.level, molecule.numbers, xyz / BOHR, charge=float(molecule.net_charge))
            engine.set("verbosity", 0)
            engine.set("accuracy", self.accuracy)
            result = Result()
        result = engine.singlepoint(result)
        _used.add(self)
        gradient, dipole = (np.array(result.get(name), dtype=np.float64) for name in ("gradient", "dipole"))
        energy = float(result.get("energy"))
        self._kept.put(molecule, (engine, result))
        return energy, gradient, dipole

"""Garnet as a calculator to compare with."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from espalike.chem.molecule import Molecule
from espalike.qm.base import CalculatorError
from espalike.qm.openmm_xml import SystemCalculator

if TYPE_CHECKING:
    import openmm


class GarnetCalculator(SystemCalculator):
    """Energy and forces of the force field Garnet, see `espalike.assigners.garnet`.

    Raises:
        ImportError: when `garnetff` or the OpenFF packages are missing.
    """

    def __init__(self) -> None:
        from espalike.assigners.garnet import GarnetAssigner

        self._assigner = GarnetAssigner()
        super().__init__("Garnet", f"garnetff {version('garnetff')}")

    def system(self, molecule: Molecule) -> openmm.System:
        """See `SystemCalculator.system`."""
        from espalike.assigners import AssignerError

        try:
            return self._assigner.system(molecule)
        except AssignerError as error:
            raise CalculatorError("no parameters", str(error)) from error

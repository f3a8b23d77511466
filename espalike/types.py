"""Names that moved, importable from here for one more version."""

from espalike.batch import Batch, EspPoints
from espalike.chem.conformers import Conformers
from espalike.chem.conformers import EspGrid as Potential
from espalike.chem.molecule import Molecule
from espalike.system import Bound, MMSystem, Prediction
from espalike.tuples import Kind, Moves, Tuples

__all__ = ["Batch", "Bound", "Conformers", "EspPoints", "Kind", "MMSystem", "Molecule"]
__all__ += ["Moves", "Potential", "Prediction", "Tuples"]

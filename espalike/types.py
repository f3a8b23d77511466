"""Names that moved, importable from here for one more version."""

import warnings

from espalike.batch import Batch, EspPoints
from espalike.chem.conformers import Conformers
from espalike.chem.conformers import EspGrid as Potential
from espalike.chem.molecule import Molecule
from espalike.system import Bound, MMSystem, Prediction
from espalike.tuples import Kind, Moves, Tuples

__all__ = ["Batch", "Bound", "Conformers", "EspPoints", "Kind", "MMSystem", "Molecule"]
__all__ += ["Moves", "Potential", "Prediction", "Tuples"]

warnings.warn(
    "the next version has no espalike.types; import its names from: espalike.batch (Batch, EspPoints), espalike.system "
    "(Bound, MMSystem, Prediction), espalike.chem.conformers (Conformers, and Potential as EspGrid), "
    "espalike.chem.molecule (Molecule), espalike.tuples (Kind, Moves, Tuples)",
    DeprecationWarning,
    stacklevel=2,
)

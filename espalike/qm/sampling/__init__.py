"""Geometries to label: thermal, distorted, along normal modes, along torsions, conformers."""

from espalike.chem.bonds import intact
from espalike.qm.sampling.base import Geometries, masses, minimised
from espalike.qm.sampling.conformers import ETKDG
from espalike.qm.sampling.constrained import constrained
from espalike.qm.sampling.disagreement import Disagreement
from espalike.qm.sampling.distort import Distort
from espalike.qm.sampling.modes import Modes, normal_modes
from espalike.qm.sampling.scan import Scan
from espalike.qm.sampling.thermal import Sampler, langevin
from espalike.qm.sampling.torsions import rotatable
from espalike.qm.sampling.wavefront import Wavefront

__all__ = [
    "ETKDG",
    "Disagreement",
    "Distort",
    "Geometries",
    "Modes",
    "Sampler",
    "Scan",
    "Wavefront",
    "constrained",
    "intact",
    "langevin",
    "masses",
    "minimised",
    "normal_modes",
    "rotatable",
]

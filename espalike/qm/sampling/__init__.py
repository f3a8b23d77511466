"""Geometries to label: thermal, distorted, along normal modes, along torsions, conformers."""

from espalike.chem.bonds import intact
from espalike.qm.sampling.base import Geometries, masses
from espalike.qm.sampling.conformers import ETKDG
from espalike.qm.sampling.constrained import constrained
from espalike.qm.sampling.disagreement import Disagreement
from espalike.qm.sampling.distort import Distort
from espalike.qm.sampling.minimise import minimised, minimised_batch
from espalike.qm.sampling.modes import Modes, normal_modes
from espalike.qm.sampling.scan import Scan
from espalike.qm.sampling.shapes import Shapes
from espalike.qm.sampling.thermal import Thermal, langevin_batch
from espalike.qm.sampling.torsions import rotatable
from espalike.qm.sampling.wavefront import Wavefront

Sampler = Thermal
"""The name before; settings that users wrote have it."""

__all__ = [
    "ETKDG",
    "Disagreement",
    "Distort",
    "Geometries",
    "Modes",
    "Sampler",
    "Scan",
    "Shapes",
    "Thermal",
    "Wavefront",
    "constrained",
    "intact",
    "langevin_batch",
    "masses",
    "minimised",
    "minimised_batch",
    "normal_modes",
    "rotatable",
]

"""OpenMM's XML as a calculator: a serialized `System`, or `ForceField` files whose templates match the molecule."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.qm.base import CalculatorError, Kept, checked, finite
from espalike.units import factor

if TYPE_CHECKING:
    import openmm

_MASS = 0.5
"""Largest deviation of a system's total mass from the molecule's [dalton]; hydrogen repartitioning keeps it."""


class SystemCalculator:
    """Energy and forces of an `openmm.System` on the Reference platform, in double precision.

    Args:
        level: name of the force field.
        program: what computes, with versions.
    """

    def __init__(self, level: str, program: str):
        self.level, self.program = level, program
        self._kept = Kept()

    def system(self, molecule: Molecule) -> openmm.System:
        """The system of a molecule alone, particles in its atom order.

        Raises:
            CalculatorError: when there is none.
        """
        raise NotImplementedError

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`; see `espalike.qm.base.Calculator`."""
        xyz = checked(molecule, xyz)
        context = self._kept.take(molecule) or self._context(molecule)
        context.setPositions(xyz / factor("nm"))
        state = context.getState(energy=True, forces=True)
        self._kept.put(molecule, context)
        energy = state.getPotentialEnergy()._value * factor("kJ/mol")
        return finite(molecule, self.level, energy, state.getForces(asNumpy=True)._value * factor("kJ/mol/nm"))

    def _context(self, molecule: Molecule) -> openmm.Context:
        import openmm

        system = self.system(molecule)
        _check_plain(molecule, system, self.level)
        platform = openmm.Platform.getPlatformByName("Reference")
        try:
            return openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
        except openmm.OpenMMException as error:
            raise CalculatorError("failed", f"{molecule.name}: {self.level}: {error}") from error


class OpenMMXMLCalculator(SystemCalculator):
    """Energy and forces of OpenMM's Reference platform, in double precision, without cut-off or constraints.

    Args:
        files: one serialized `System` of one molecule, particles in its atom order; or one or several `ForceField`
            files, by path or by a name that OpenMM ships (`amber14-all.xml`).
        scripts: whether files may hold scripts or a `PythonForce`: Python code, which OpenMM runs.

    Raises:
        FileNotFoundError: when a file is not there.
        ValueError: for a file that is neither, for several systems, and for scripts that are not allowed.
    """

    def __init__(self, files: str | Path | Sequence[str | Path], scripts: bool = False):
        import openmm

        paths = [_path(file) for file in ([files] if isinstance(files, str | Path) else files)]
        roots = {_root(path).tag for path in paths}
        if roots not in ({"System"}, {"ForceField"}) or (roots == {"System"} and len(paths) > 1):
            raise ValueError(
                f"{', '.join(map(str, paths))}: expected one serialized openmm.System or ForceField files, "
                f"found {', '.join(sorted(roots)) or 'nothing'}"
            )
        hashes = [f"{path.name} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}" for path in paths]
        level = "OpenMM:" + "+".join(path.stem for path in paths)
        super().__init__(level, f"openmm {openmm.__version__}, {', '.join(hashes)}")
        self._system = self._force_field = None
        if not scripts:
            for path in paths:
                _without_scripts(path) if roots == {"ForceField"} else _without_python(path)
        try:
            if roots == {"System"}:
                self._system = openmm.XmlSerializer.deserialize(paths[0].read_text())
            else:
                self._force_field = openmm.app.ForceField(*map(str, paths))
        except Exception as error:  # OpenMM has errors of many kinds for a damaged file
            what = f"{type(error).__name__}: {error}"
            raise ValueError(f"{', '.join(map(str, paths))}: OpenMM cannot read it ({what})") from error

    def system(self, molecule: Molecule) -> openmm.System:
        """See `SystemCalculator.system`."""
        if self._system is None:
            return self._parametrized(molecule)
        _check_same(molecule, self._system, self.level)
        return self._system

    def _parametrized(self, molecule: Molecule) -> openmm.System:
        import openmm

        assert self._force_field is not None
        try:
            return self._force_field.createSystem(
                _topology(molecule), nonbondedMethod=openmm.app.NoCutoff, constraints=None, rigidWater=False
            )
        except Exception as error:  # OpenMM has errors of many kinds for a damaged file
            raise CalculatorError(
                "no parameters", f"{molecule.name}: {self.level} has no parameters for this molecule: {error}"
            ) from error


def _path(file: str | Path) -> Path:
    """The file, or one of that name among those that OpenMM ships."""
    import openmm.app

    shipped = Path(openmm.app.__file__).parent / "data" / file
    for path in (Path(file), shipped):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{file}: no such file, here or among OpenMM's own")


def _root(path: Path) -> ET.Element:
    try:
        return ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{path} is not XML: {error}") from error


def _without_scripts(path: Path) -> None:
    """Refuse a force field that holds code, or includes a file that does."""
    root = _root(path)
    if any("script" in str(element.tag).lower() for element in root.iter()):
        raise ValueError(
            f"{path} holds a script: Python code, which OpenMM would run. If you trust it: calculator.scripts=true"
        )
    for include in root.iter("Include"):
        name = include.get("file", "")
        beside = path.parent / name
        _without_scripts(beside if beside.is_file() else _path(name))


def _without_python(path: Path) -> None:
    """Refuse a system with a force in Python: OpenMM unpickles it, which runs code."""
    if any(node.get("type") == "PythonForce" for node in _root(path).iter()):
        raise ValueError(
            f"{path} holds a PythonForce: Python code, which OpenMM would run. If you trust it: calculator.scripts=true"
        )


def _topology(molecule: Molecule) -> openmm.app.Topology:
    """One residue; templates are matched by elements and bonds, so names do not matter."""
    import openmm.app

    topology = openmm.app.Topology()
    residue = topology.addResidue("MOL", topology.addChain())
    element = openmm.app.Element.getByAtomicNumber
    atoms = [
        topology.addAtom(f"{element(int(number)).symbol}{i + 1}", element(int(number)), residue)
        for i, number in enumerate(molecule.numbers)
    ]
    for i, j in molecule.bonds:
        topology.addBond(atoms[i], atoms[j])
    return topology


def _check_same(molecule: Molecule, system: openmm.System, level: str) -> None:
    """Refuse a system of another molecule, as far as its particles, masses and bonds tell."""
    import openmm
    from openmm.app import Element

    masses = [system.getParticleMass(i)._value for i in range(system.getNumParticles())]
    expected = sum(molecule.masses(lambda number: Element.getByAtomicNumber(number).mass._value))
    if len(masses) != molecule.n_atoms or abs(sum(masses) - expected) > _MASS:
        raise CalculatorError(
            "another molecule",
            f"{molecule.name}: {level} has {len(masses)} particles of {sum(masses):.1f} dalton; the molecule has "
            f"{molecule.n_atoms} atoms of {expected:.1f} dalton",
        )
    pairs = {
        tuple(sorted(force.getBondParameters(i)[:2]))
        for force in system.getForces()
        if isinstance(force, openmm.HarmonicBondForce | openmm.CustomBondForce)
        for i in range(force.getNumBonds())
    }
    missing = [(int(i), int(j)) for i, j in molecule.bonds if (int(i), int(j)) not in pairs]
    if pairs and missing and not system.getNumConstraints():
        i, j = missing[0]
        raise CalculatorError(
            "another molecule",
            f"{molecule.name}: {level} has no bond between atoms {i + 1} and {j + 1}; its particles must be in the "
            "molecule's order",
        )


def _check_plain(molecule: Molecule, system: openmm.System, level: str) -> None:
    """Refuse what has no energy of a lone molecule: constraints, virtual sites, a periodic box."""
    faults = []
    if system.getNumConstraints():
        faults.append(f"{system.getNumConstraints()} constraints, which stand for bonds without an energy")
    if system.getNumParticles() != molecule.n_atoms or any(map(system.isVirtualSite, range(molecule.n_atoms))):
        faults.append("particles that are not atoms")
    if system.usesPeriodicBoundaryConditions():
        faults.append("a periodic box")
    if faults:
        raise CalculatorError(
            "unsuitable system", f"{molecule.name}: {level} has {' and '.join(faults)}; make it without"
        )

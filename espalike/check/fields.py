"""Force fields to check: those of a model, of OpenFF, or of OpenMM's ForceField XML."""

from __future__ import annotations

import hashlib
import io
import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from espalike.chem.molecule import Molecule
from espalike.energy import energy
from espalike.files import version_of

if TYPE_CHECKING:
    import openmm.app

    from espalike.system import MMSystem

_CALCULATORS = ("gaff2", "garnet")
"""Calculators that make systems of a molecule."""


@dataclass(frozen=True)
class Field:
    """A force field for many molecules.

    Attributes:
        name: what reports call it.
        identity: changes when the force field changes.
        parameters: gives the parameters of a molecule; None where only systems are known.
        system: gives the system of a molecule, without cut-off and constraints.
        forcefield: gives OpenMM's ForceField with the molecule, for systems of many copies.
        energy: gives the energy [kcal/mol] of a molecule at coordinates [Å] `(A, 3)` without its system, since OpenMM
            takes a second to compile custom forces; None where only systems are known.
    """

    name: str
    identity: str
    parameters: Callable[[Molecule], MMSystem] | None
    system: Callable[[Molecule], openmm.System]
    forcefield: Callable[[Molecule], openmm.app.ForceField]
    energy: Callable[[Molecule, np.ndarray], float] | None = None


def field_of(source: str) -> Field:
    """The force field of a name or file.

    Args:
        source: a shipped model or a model file; `openff-2.2.1` or another of OpenFF's, or an .offxml file; or .xml
            files of OpenMM's `ForceField`, joined by `+` (`amber14-all.xml+mine.xml`); or `gaff2` or `garnet`.

    Raises:
        FileNotFoundError, ModelFileError: see `espalike.load`; or when AmberTools is missing.
        ImportError: when OpenFF's packages or Garnet's are missing.
        ValueError: for an XML file that is no `ForceField`, or holds code that espalike did not write.
    """
    if source.endswith(".xml"):
        return _xml(source)
    if source.startswith("openff") or source.endswith(".offxml"):
        from espalike.assigners.openff import OpenFFAssigner, installed_file

        file = installed_file(source)
        assigner = OpenFFAssigner(file)
        given = Path(file)
        identity = hashlib.sha256(given.read_bytes()).hexdigest() if given.is_file() else str(file)
        return _assigned(source, identity, lambda molecule: assigner([molecule]))
    if source in _CALCULATORS:
        return _calculated(source)
    from espalike.model import find, load

    model = load(source).double()
    return _assigned(source, hashlib.sha256(Path(find(source)).read_bytes()).hexdigest(), model.parametrize)


def kept_field(source: str) -> Field:
    """`field_of`, made once as long as its files stay as they are."""
    return _kept(source, tuple(map(version_of, source.split("+"))))


@lru_cache(maxsize=2)
def _kept(source: str, versions: tuple[tuple[str, int, int], ...]) -> Field:
    return field_of(source)


def _assigned(name: str, identity: str, parameters: Callable[[Molecule], MMSystem]) -> Field:
    """A force field that gives parameters, from which systems are made."""
    from openmm import app

    from espalike.export import texts, to_openmm

    def forcefield(molecule: Molecule) -> app.ForceField:
        return app.ForceField(*map(io.StringIO, texts(parameters(molecule), "ffxml").values()))

    def energy_of(molecule: Molecule, xyz: np.ndarray) -> float:
        return float(energy(parameters(molecule), torch.from_numpy(xyz[None]), forces=False).energy[0, 0])

    return Field(name, identity, parameters, lambda molecule: to_openmm(parameters(molecule)), forcefield, energy_of)


def _calculated(source: str) -> Field:
    """A force field of a calculator that makes systems."""
    from espalike.evaluation.baselines import calculator
    from espalike.qm.base import CalculatorError
    from espalike.qm.openmm_xml import SystemCalculator

    made = calculator(source, {})
    assert isinstance(made, SystemCalculator)

    def system(molecule: Molecule) -> openmm.System:
        try:
            return made.system(molecule)
        except CalculatorError as error:
            raise ValueError(str(error)) from error

    def forcefield(molecule: Molecule) -> openmm.app.ForceField:
        raise ValueError(f"{source} cannot be checked with liquids: it makes systems of single molecules")

    return Field(source, made.program, None, system, forcefield)


def _xml(source: str) -> Field:
    from openmm import app

    from espalike.export import to_topology

    files = source.split("+")
    for file in filter(os.path.isfile, files):
        _refuse_code(Path(file))
    forcefield = app.ForceField(*files)
    texts = [Path(file).read_bytes() for file in files if Path(file).is_file()]
    identity = hashlib.sha256(b"".join([source.encode(), *texts])).hexdigest()

    def system(molecule: Molecule) -> openmm.System:
        settings = {"nonbondedMethod": app.NoCutoff, "constraints": None, "rigidWater": False, "removeCMMotion": False}
        return forcefield.createSystem(to_topology(molecule), **settings)

    return Field(source, identity, None, system, lambda molecule: forcefield)


def _refuse_code(path: Path) -> None:
    """Refuse a file with Python code, which OpenMM would run, unless espalike writes such code; and included files."""
    from espalike.export.template_cache import is_ours

    try:
        root = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{path} is not XML: {error}") from error
    if root.tag != "ForceField":
        raise ValueError(f"{path}: expected OpenMM's ForceField XML, found <{root.tag}>")
    for node in root.iter():
        tag = str(node.tag).lower()
        if tag == "include" or ("script" in tag and not (node.tag == "Script" and is_ours(node.text or ""))):
            raise ValueError(f"{path}: its <{node.tag}> is not espalike's, and OpenMM would run it")

"""A force field and an expensive potential in one simulation: multiple time steps, overlap of their ensembles."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp

from espalike.potential import Difference, ForceFieldCalculator, force_of, potential
from espalike.qm.base import batched
from espalike.units import BOLTZMANN, magnitude

if TYPE_CHECKING:
    import openmm

    from espalike.chem.molecule import Molecule
    from espalike.potential import Source
    from espalike.system import MMSystem

_CHARGE = 1e-4
"""Largest difference of a charge in a system and in the parameters [e]: files round it."""


def multiple_time_step(
    system: MMSystem,
    source: Source,
    *,
    outer: float = 4.0,
    inner: float = 1.0,
    temperature: float = 300.0,
    friction: float = 1.0,
    within: openmm.System | None = None,
    atoms: Sequence[int] | None = None,
) -> tuple[openmm.System, openmm.MTSLangevinIntegrator]:
    """Dynamics on an expensive potential whose fast forces are those of a force field.

    The force field acts at every inner step. The difference of the potential and the force field is small and smooth,
    and acts at every outer step, so that the potential is computed once per outer step (r-RESPA: M. Tuckerman,
    B. J. Berne, G. J. Martyna, J. Chem. Phys. 1992, 97, 1990; with OpenMM's BAOAB integrator). The sum of both is the
    potential's energy.

    Args:
        system: the force field of one molecule.
        source: the expensive potential, e.g. the name of a calculator; see `espalike.potential.potential`.
        outer: outer time step [fs], a multiple of the inner one.
        inner: inner time step [fs].
        temperature: [K].
        friction: [1/ps].
        within: a system that contains the molecule, e.g. in water, with this force field; None: the molecule alone.
        atoms: particles of `within` that are the molecule's atoms, in its order; None: all.

    Returns:
        The system, with the forces of `within` in force group 0 and the difference in group 1, and the integrator.

    Raises:
        ValueError: when the outer step is not a multiple of the inner one, the temperature is not positive, the system
            is not one molecule, or particles of `within` have other charges than the molecule's atoms.
        NotInstalled: see `espalike.potential.potential`.

    Examples:
        >>> import espalike
        >>> ethanol = espalike.Molecule.from_smiles("CCO", "ethanol")
        >>> mm = espalike.load("espalike-1").parametrize(ethanol)
        >>> both, integrator = multiple_time_step(mm, "mmff94", outer=4.0, inner=1.0)
        >>> both.getNumForces(), integrator.getStepSize()
        (5, 0.004 ps)
    """
    from espalike.export import to_openmm

    integrator = _integrator(outer, inner, temperature, friction)
    atoms = None if atoms is None else list(atoms)
    molecule = _molecule(system)
    both = to_openmm(system) if within is None else copy.deepcopy(within)
    for force in both.getForces():
        force.setForceGroup(0)
    if atoms is None and both.getNumParticles() != molecule.n_atoms:
        raise ValueError(
            f"{molecule.name}: the system has {both.getNumParticles()} particles; give those of the molecule in `atoms`"
        )
    if within is not None:
        _check_charges(system, within, range(molecule.n_atoms) if atoms is None else atoms)
    force = force_of(Difference(potential(source, molecule), ForceFieldCalculator(system, molecule)), molecule, atoms)
    force.setForceGroup(1)
    both.addForce(force)
    return both, integrator


def _integrator(outer: float, inner: float, temperature: float, friction: float) -> openmm.MTSLangevinIntegrator:
    """The integrator: force group 1 acts at outer steps, group 0 at inner ones; for arguments see `multiple_time_step`.

    Raises:
        ValueError: when steps, temperature or friction are out of range.
    """
    import openmm

    outer, inner = magnitude(outer, "femtosecond"), magnitude(inner, "femtosecond")
    temperature, friction = magnitude(temperature, "kelvin"), magnitude(friction, "1/picosecond")
    substeps = _substeps(outer, inner)
    _check_temperature(temperature)
    if not 0.0 <= friction < np.inf:
        raise ValueError(f"friction={friction}: expected a number per picosecond, 0 or more")
    return openmm.MTSLangevinIntegrator(temperature, friction, outer * 1e-3, [(1, 1), (0, substeps)])


def _molecule(system: MMSystem) -> Molecule:
    """The molecule of a system of one.

    Raises:
        ValueError: when there are several, or none.
    """
    if len(system.molecules) != 1:
        raise ValueError(f"expected the parameters of one molecule, got {len(system.molecules)}")
    return system.molecules[0]


def _check_charges(system: MMSystem, within: openmm.System, atoms: Sequence[int]) -> None:
    """Check by the charges that particles are the molecule's atoms in its order, with its force field.

    Raises:
        ValueError: naming the first particle that differs.
    """
    import openmm

    from espalike.export import to_openmm

    (molecule,) = system.molecules
    alone = to_openmm(system)  # must stay, since its forces belong to it
    expected, present = (
        next((force for force in one.getForces() if isinstance(force, openmm.NonbondedForce)), None)
        for one in (alone, within)
    )
    if expected is None or present is None:
        return
    for number, particle in enumerate(map(int, atoms)):
        if not 0 <= particle < within.getNumParticles():
            raise ValueError(f"{molecule.name}: no particle {particle}; the system has {within.getNumParticles()}")
        (charge, *_), (found, *_) = expected.getParticleParameters(number), present.getParticleParameters(particle)
        if abs(charge._value - found._value) > _CHARGE:
            raise ValueError(
                f"{molecule.name}: particle {particle} has a charge of {found._value:.4f} e, but atom {number + 1} of "
                f"the molecule has {charge._value:.4f} e; expected its atoms in their order, with its force field"
            )


def _substeps(outer: float, inner: float) -> int:
    """Number of inner time steps in an outer one."""
    number = round(outer / inner) if inner > 0 and np.isfinite([outer, inner]).all() else 0
    if number < 1 or abs(number * inner - outer) > 1e-9 * outer:
        raise ValueError(f"outer={outer}, inner={inner}: the outer time step must be a multiple of the inner one")
    return number


def _check_temperature(temperature: float) -> None:
    if not 0.0 < temperature < np.inf:
        raise ValueError(f"temperature={temperature}: expected a positive number of kelvin")


@dataclass(frozen=True)
class Overlap:
    """How much the ensemble of a force field has in common with that of a better potential.

    Attributes:
        free_energy: of the molecule on the potential minus that on the force field, less the mean difference of the
            energies [kcal/mol].
        effective: effective number of frames divided by their number, from 0 to 1 (L. Kish, Survey Sampling, 1965).
        weights: of the frames in the ensemble of the potential; they add up to 1, shape `(K,)`.
    """

    free_energy: float
    effective: float
    weights: np.ndarray


def overlap(system: MMSystem, source: Source, xyz: np.ndarray, temperature: float = 300.0) -> Overlap:
    """Reweight frames of dynamics on a force field to a better potential (R. Zwanzig, J. Chem. Phys. 1954, 22, 1420).

    Args:
        system: the force field of one molecule.
        source: the better potential.
        xyz: independent frames [Å], shape `(K, A, 3)`, sampled on the force field at `temperature`.
        temperature: [K].

    Raises:
        CalculatorError: when the potential cannot compute a frame.
        ValueError: without frames, for frames of another number of atoms, or a temperature that is not positive.
    """
    molecule = _molecule(system)
    xyz, temperature = magnitude(xyz, "angstrom"), magnitude(temperature, "kelvin")
    _check_temperature(temperature)
    if np.ndim(xyz) != 3 or not len(xyz) or np.shape(xyz)[1:] != (molecule.n_atoms, 3):
        raise ValueError(f"{molecule.name}: expected frames of shape (K, {molecule.n_atoms}, 3), got {np.shape(xyz)}")
    xyz = np.asarray(xyz, dtype=np.float64)
    upper = batched(potential(source, molecule), molecule, xyz)[0]
    lower = batched(ForceFieldCalculator(system, molecule), molecule, xyz)[0]
    difference = upper - lower
    difference -= difference.mean()
    logarithms = -difference / (BOLTZMANN * temperature)
    total = logsumexp(logarithms)
    weights = np.exp(logarithms - total)
    free_energy = -BOLTZMANN * temperature * (total - np.log(len(weights)))
    return Overlap(float(free_energy), float(1.0 / (weights**2).sum() / len(weights)), weights)

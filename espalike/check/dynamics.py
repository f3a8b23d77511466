"""Checks by dynamics: energy is kept, molecules stay whole at 300 and 500 K, and compressed ones have an energy."""

from __future__ import annotations

import numpy as np

from espalike.check.case import ENSEMBLES, STEP, Case, Fault, relative_error

_LONGEST = 1.5
"""Longest bond relative to the minimum; a longer one is broken."""
_DRIFT = 0.2
"""Largest drift of the total energy [kcal/mol/ns] per atom."""
_AGAIN = 45.0
"""Length of a second run where the energy of the first seems to drift [ps], at least."""
_COMPRESSED = 0.8


def energy_kept(case: Case) -> float:
    """At constant energy, the total energy does not drift. Value: the drift per atom [kcal/mol/ns]."""
    start, engine = case.relaxed, case.engine
    engine.integrator.setCurrentIntegrator(0)
    engine.context.setPositions(start / 10)
    engine.context.setVelocities(np.zeros_like(start))
    engine.integrator.step(2000)
    engine.integrator.setCurrentIntegrator(len(ENSEMBLES))
    totals: list[float] = []
    length = 0.0
    for more in (case.picoseconds, max(_AGAIN, 9 * case.picoseconds)):  # fluctuations can look like a drift
        for _, total, xyz in engine.run(round(more * 1000 / STEP)):
            _longest(case, xyz)
            totals.append(total)
        length += more
        slope = float(np.polyfit(np.linspace(0.0, length / 1000, len(totals)), totals, 1)[0]) / case.molecule.n_atoms
        if abs(slope) < _DRIFT:
            return slope
    raise Fault(f"energy drifts by {slope:+.2f} kcal/mol/ns per atom over {length:g} ps")


def stable_300(case: Case) -> float:
    """At 300 K no bond breaks, and the temperature is kept. Value: longest bond relative to the minimum."""
    return _stable(case, 1)


def stable_500(case: Case) -> float:
    """At 500 K no bond breaks, and the temperature is kept. Value: longest bond relative to the minimum."""
    return _stable(case, 2)


def compressed(case: Case) -> None:
    """Energy and forces are finite when all distances are 0.8 times those of the minimum."""
    xyz = _COMPRESSED * (case.relaxed - case.relaxed.mean(0))
    energy, forces = case.engine.energy(xyz), case.engine.forces(xyz)
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise Fault("energy or forces are not finite when all distances shrink to 0.8 times")
    if case.molecule.n_atoms > 1 and energy < case.engine.energy(case.relaxed):
        raise Fault("the energy falls when all distances shrink to 0.8 times")


def _stable(case: Case, number: int) -> float:
    """Dynamics with one of `ENSEMBLES`."""
    (temperature, friction), start, engine = ENSEMBLES[number], case.relaxed, case.engine
    engine.integrator.setCurrentIntegrator(number)
    engine.context.setPositions(start / 10)
    engine.context.setVelocitiesToTemperature(2 * temperature, 1)  # half goes into the potential energy
    for _ in engine.run(round(2000 / STEP)):
        pass
    samples = [(t, _longest(case, xyz)) for t, _, xyz in engine.run(round(case.picoseconds * 1000 / STEP))]
    error = relative_error(3 * case.molecule.n_atoms, case.picoseconds, friction)
    mean = float(np.mean([kelvin for kelvin, _ in samples]))
    if not abs(mean / temperature - 1) < max(0.05, 5 * error):
        raise Fault(f"the mean temperature is {mean:.0f} K at {temperature:g} K")
    return max(longest for _, longest in samples)


def _longest(case: Case, xyz: np.ndarray) -> float:
    """The longest bond relative to the minimum; a broken one is a fault."""
    ratio = case.lengths(xyz) / case.lengths(case.relaxed)
    if not ratio.max(initial=0.0) < _LONGEST:
        raise Fault(f"a bond reaches {ratio.max():.2f} times its length", case.molecule.bonds[int(np.argmax(ratio))])
    return float(ratio.max(initial=0.0))

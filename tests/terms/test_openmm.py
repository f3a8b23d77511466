"""Every term against OpenMM, built here from the expressions of its primitives: energy, forces, parameter slopes."""

import itertools
import re

import numpy as np
import openmm
import pytest
import torch

from espalike.energy import energy
from espalike.export.engine import shapes
from espalike.geometry import Angle, Dihedral, Distance
from espalike.terms.base import PairTerm
from espalike.units import COULOMB, KJ_PER_KCAL, convert
from tests.terms.common import N_ATOMS, TERMS, of_atoms, positions, system_of, with_values

FUNCTION = {Distance: "distance", Angle: "angle", Dihedral: "dihedral"}
ANGSTROM = convert(1.0, "nm", "angstrom")


def in_kj(expression: str, *definitions: str) -> str:
    """An expression in kcal/mol, in kJ/mol, with further definitions at the end."""
    value, *others = expression.split(";")
    return ";".join([f"{KJ_PER_KCAL}*({value})", *others, *definitions])


def primitives(bound):
    return bound.term.primitives(bound.values.unbind(-1))


def tensors(primitive):
    return {name: value for name, value in primitive.columns().items() if isinstance(value, torch.Tensor)}


def bonded(term, primitive):
    """A `CustomCompoundBondForce` whose coordinates are OpenMM's functions."""
    definitions = []
    for name, index in zip(primitive.names, primitive.indices, strict=True):
        coordinate = term.coordinates[index]
        call = f"{FUNCTION[type(coordinate)]}({','.join(f'p{a + 1}' for a in coordinate.atoms)})"
        definitions.append(f"{name}={f'{ANGSTROM}*' if isinstance(coordinate, Distance) else ''}{call}")
    fixed = [f"{name}={value!r}" for name, value in primitive.columns().items() if isinstance(value, float)]
    force = openmm.CustomCompoundBondForce(term.kind.size, in_kj(primitive.expression, *fixed, *definitions))
    for name in tensors(primitive):
        force.addPerBondParameter(name)
    return force


def nonbonded(term, primitive, left_out, scale):
    """A `CustomNonbondedForce` whose pair parameters are combined by OpenMM."""
    (q,) = primitive.names
    expression = re.sub(rf"\b{q}\b", "distance", primitive.expression)
    force = openmm.CustomNonbondedForce(f"{scale}*{in_kj(expression, term.combining, f'distance={ANGSTROM}*r')}")
    if scale != "1":
        force.addGlobalParameter(scale, 1.0)
    for p in term.params[: term.n_combined]:
        force.addPerParticleParameter(p.name)
    for pair in left_out:
        force.addExclusion(*pair)
    return force


class Engine:
    """The one-term system in OpenMM, in double precision; parameters can be set anew."""

    def __init__(self, bound):
        self.term, self.tuples = bound.term, bound.tuples
        system = openmm.System()
        for _ in range(N_ATOMS):
            system.addParticle(1.0)
        if isinstance(self.term, PairTerm):
            kinds = dict(zip(map(tuple, self.tuples.idx.tolist()), self.tuples.is14.tolist(), strict=True))
            every = list(itertools.combinations(range(N_ATOMS), 2))
            far, near = ([pair for pair in every if kinds.get(pair) is not is14] for is14 in (False, True))
            (primitive,) = shapes(self.term)
            self.forces = [nonbonded(self.term, primitive, far, "1"), nonbonded(self.term, primitive, near, "scale14")]
            for force, row in itertools.product(self.forces, of_atoms(self.term, bound.values).tolist()):
                force.addParticle(row)
        else:
            self.forces = [bonded(self.term, primitive) for primitive in primitives(bound)]
            for force, primitive in zip(self.forces, primitives(bound), strict=True):
                for atoms in self.tuples.idx.tolist():
                    force.addBond(atoms, [0.5] * len(tensors(primitive)))
        for force in self.forces:
            system.addForce(force)
        platform = openmm.Platform.getPlatform("Reference")
        self.context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
        self.set(bound)

    def set(self, bound):
        for number, force in enumerate(self.forces):
            if isinstance(self.term, PairTerm):
                for atom, row in enumerate(of_atoms(self.term, bound.values).tolist()):
                    force.setParticleParameters(atom, row)
            else:
                columns = torch.stack(list(tensors(primitives(bound)[number]).values()), -1)
                for i, (atoms, row) in enumerate(zip(self.tuples.idx.tolist(), columns.tolist(), strict=True)):
                    force.setBondParameters(i, atoms, row)
            force.updateParametersInContext(self.context)
        if isinstance(self.term, PairTerm):
            self.context.setParameter("scale14", float(bound.scale14))

    def __call__(self, xyz):
        """Energies [kcal/mol] `(K,)` and forces [kcal/mol/Å] `(K, N, 3)`."""
        energies, forces = [], []
        for x in xyz.numpy():
            self.context.setPositions(convert(x, "angstrom", "nm"))
            state = self.context.getState(energy=True, forces=True)
            energies.append(state.getPotentialEnergy()._value)
            forces.append(state.getForces(asNumpy=True)._value)
        return (
            convert(np.array(energies), "kJ/mol", "kcal/mol"),
            convert(np.array(forces), "kJ/mol/nm", "kcal/mol/angstrom"),
        )


@pytest.mark.parametrize("term", TERMS, ids=repr)
class TestAgainstOpenMM:
    def test_energy_and_forces(self, term):
        system, xyz = system_of(term, 11), positions(term, 11)
        actual, (energies, forces) = energy(system, xyz), Engine(system.terms[0])(xyz)
        assert np.abs(energies).min() > 1e-4
        np.testing.assert_allclose(actual.energy[:, 0], energies, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(actual.forces, forces, rtol=1e-7, atol=1e-8 * np.abs(forces).max())

    def test_slope_of_the_energy_in_each_parameter(self, term):
        """Autograd in torch, central differences in OpenMM."""
        system, xyz = system_of(term, 12), positions(term, 12, k=1)
        rows = system.terms[0].values.clone().requires_grad_()
        total = energy(with_values(system, rows), xyz, forces=False).energy.sum()
        (gradient,) = torch.autograd.grad(total, rows)
        engine, start = Engine(system.terms[0]), rows.detach()

        def slope(column, row):
            step = torch.zeros_like(start)
            step[row, column] = h = 1e-5 * max(1.0, float(start[row, column].abs().max()))
            ends = []
            for moved in (start + step, start - step):
                engine.set(with_values(system, moved).terms[0])
                ends.append(engine(xyz)[0].sum())
            return (ends[0] - ends[1]) / (2 * h)

        scale = float(gradient.abs().max())
        for c, p in enumerate(term.params):
            if p.name == "scale14":  # one number for all atoms: its slope is the sum over the column
                actual, expected = gradient[:, c].sum(), slope(c, slice(None))
            else:
                actual, expected = gradient[:, c], [slope(c, row) for row in range(len(start))]
            assert actual.abs().max() > 0  # every column enters the energy
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-8 * scale)


def test_coulomb_constant_of_the_engine():
    """Two unit charges at 1 Å in OpenMM's force give our constant."""
    system, force = openmm.System(), openmm.NonbondedForce()
    for _ in range(2):
        system.addParticle(1.0)
        force.addParticle(1.0, 1.0, 0.0)
    system.addForce(force)
    context = openmm.Context(system, openmm.VerletIntegrator(1.0), openmm.Platform.getPlatform("Reference"))
    context.setPositions([[0, 0, 0], [0.1, 0, 0]])
    actual = convert(context.getState(energy=True).getPotentialEnergy()._value, "kJ/mol", "kcal/mol")
    assert actual == pytest.approx(COULOMB, rel=1e-9)

"""Every functional form and every force field: torch, the OpenMM system and the force-field file agree."""

import numpy as np
import openmm
import pytest
import torch

from espalike import chem
from espalike.energy import energy
from espalike.export.ffxml import minimum
from espalike.export.ffxml_script import espalike_extend
from espalike.export.openmm import to_openmm
from espalike.export.recipes import custom, native
from espalike.export.single import select
from espalike.geometry import Angle, Distance
from espalike.system import Bound, MMSystem
from espalike.terms.base import PairTerm
from tests.export.common import (
    FIELDS,
    agree,
    evaluate,
    field_model,
    from_ffxml,
    only,
    perturbed,
    reference,
    with_term,
)
from tests.molecules import DRUGLIKE, SMALL
from tests.terms.common import TERMS

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)[O-]"
SLOWER = ("C1C2CC12", "CC#CC(=O)N", "COP(=O)([O-])OCC1OC(n2cnc3c(N)ncnc32)C(O)C1O")
BONDED = [term for term in TERMS if not isinstance(term, PairTerm)]
DEGENERATE = ("[Na+]", "O", "[H][H]", "C#C", "N#N")


@pytest.mark.parametrize("smiles", [ASPIRIN, *(pytest.param(s, marks=pytest.mark.slow) for s in SLOWER)])
@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_each_form_agrees(term, smiles):
    molecule, xyz, system = with_term(term, smiles)
    expected = reference(system, xyz)
    assert smiles != ASPIRIN or abs(expected[0]) > 1e-2  # this is not about zeros
    agree(evaluate(to_openmm(system), xyz), expected)
    agree(evaluate(from_ffxml(system, molecule), xyz), expected)


@pytest.mark.parametrize("smiles", DEGENERATE)
def test_molecules_without_tuples_agree(smiles):
    for term in {type(term): term for term in TERMS}.values():
        molecule, xyz, system = with_term(term, smiles)
        expected = reference(system, xyz)
        agree(evaluate(to_openmm(system), xyz), expected)
        agree(evaluate(from_ffxml(system, molecule), xyz), expected)


@pytest.mark.parametrize("term", [t for t in BONDED if native(with_term(t, "CC(=O)N")[2].terms[0])], ids=repr)
def test_native_forces_equal_the_expression(term):
    _, xyz, system = with_term(term, ASPIRIN)
    (bound,) = select(system).terms
    found = []
    for recipe in (native(bound), custom(bound)):
        built = openmm.System()
        for _ in range(len(system.numbers)):
            built.addParticle(1.0)
        assert recipe is not None
        assert espalike_extend(built, recipe, [list(range(len(system.numbers)))]).getName() == term.name
        found.append(evaluate(built, xyz))
    agree(*found)


def directions(bound: Bound, column: int, rng: np.random.Generator) -> torch.Tensor:
    """A random change of one parameter of every row, of the parameter's own size, that keeps the formal charge."""
    values, param = bound.values[:, column], bound.term.params[column]
    if param.universal:
        return torch.ones_like(values)
    drawn = torch.from_numpy(rng.uniform(0.5, 1.5, len(values)) * rng.choice([-1.0, 1.0], len(values)))
    return drawn - drawn.mean() if param.link == "charge" else drawn


@pytest.mark.parametrize("smiles", ["CC(=O)Oc1ccccc1C(=O)[O-]", pytest.param("O=C1C2CC12", marks=pytest.mark.slow)])
@pytest.mark.parametrize("term", TERMS, ids=repr)
def test_energy_derivatives_by_each_parameter_agree(term, smiles):
    """Autograd against central differences of OpenMM's energy, along a random direction for each parameter."""
    _, xyz, system = with_term(term, smiles)
    (bound,) = system.terms
    values = bound.values.clone().requires_grad_()
    leaf = MMSystem((Bound(term, bound.tuples, values),), system.numbers, system.mol, system.molecules)
    (gradient,) = torch.autograd.grad(energy(leaf, torch.from_numpy(xyz)[None], forces=False).energy.sum(), values)
    rng = np.random.default_rng(5)
    for column, param in enumerate(term.params):
        along = directions(bound, column, rng)
        step = 1e-4 * float(bound.values[:, column].abs().mean().clamp_min(0.1))
        at = []
        for sign in (1.0, -1.0):
            moved = bound.values.clone()
            moved[:, column] += sign * step * along
            one = MMSystem((Bound(term, bound.tuples, moved),), system.numbers, system.mol, system.molecules)
            at.append(evaluate(to_openmm(one), xyz)[0])
        expected = float((gradient[:, column] * along).sum())
        scale = float((gradient[:, column] * along).abs().sum())
        assert scale > 0.0, param.name
        assert (at[0] - at[1]) / (2.0 * step) == pytest.approx(expected, abs=2e-6 * scale), param.name


@pytest.mark.parametrize("smiles", ["CNC(=O)C1CC1", "[Na+]"])
@pytest.mark.parametrize("field", FIELDS)
def test_each_force_field_agrees(field, smiles):
    molecule = chem.from_smiles(smiles)
    system, xyz = field_model(field).parametrize(molecule), perturbed(molecule)
    expected = reference(system, xyz)
    agree(evaluate(to_openmm(system), xyz), expected)
    agree(evaluate(to_openmm(system, by_term=True), xyz), expected)
    agree(evaluate(from_ffxml(system, molecule), xyz), expected)


@pytest.mark.slow
@pytest.mark.parametrize("smiles", DRUGLIKE + SMALL)
def test_each_force_field_agrees_for_all_molecules(smiles):
    molecule = chem.from_smiles(smiles)
    for field in FIELDS:
        system, xyz = field_model(field).parametrize(molecule), perturbed(molecule)
        for one in (system, *(only(system, bound) for bound in system.terms)):
            expected = reference(one, xyz)
            agree(evaluate(to_openmm(one), xyz), expected)
            agree(evaluate(from_ffxml(one, molecule), xyz), expected)


@pytest.mark.parametrize("field", FIELDS)
def test_force_groups_split_the_energy_by_term(field):
    molecule = chem.from_smiles("CC(=O)Nc1ccc(O)cc1")
    system, xyz = field_model(field).parametrize(molecule), perturbed(molecule)
    built = to_openmm(system, by_term=True)
    context = openmm.Context(built, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(xyz / 10.0)
    by_term = energy(system, torch.from_numpy(xyz)[None]).by_term
    split = {bound.term.name: u.item() for bound, u in zip(system.terms, by_term, strict=True)}
    groups = {force.getForceGroup(): force.getName() for force in reversed(built.getForces())}
    for group, names in groups.items():
        found = context.getState(energy=True, groups={group}).getPotentialEnergy()._value / 4.184
        assert found == pytest.approx(sum(split.pop(name) for name in names.split("+")), rel=1e-9)
    assert not split


@pytest.mark.parametrize(
    "term", [t for t in BONDED if t.coordinates in ((Distance(0, 1),), (Angle(0, 1, 2),))], ids=repr
)
def test_rest_values_are_where_the_energy_is_least(term):
    """What constraints are set to."""
    _, _, system = with_term(term, ASPIRIN)
    values = system.terms[0].values
    found = minimum(term, values)
    names = [p.name for p in term.params]
    if "r0" in names or "theta0" in names:
        expected = values[:, names.index("r0" if "r0" in names else "theta0")]
    else:  # linear mixtures
        low, high = term.centres
        expected = (values[:, 0] * low + values[:, 1] * high) / values.sum(1)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6)

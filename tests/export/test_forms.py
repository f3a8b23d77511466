"""Every form in every engine: each cell of the table primitives × formats is run in the real program, or refused."""

import functools
import itertools
import runpy
from pathlib import Path

import numpy as np
import openmm
import pytest
import torch

from espalike import chem, export
from espalike.energy import energy
from espalike.export.engine import PLACES, place_of, shapes
from espalike.export.parts import ExportError
from espalike.geometry import Dihedral, Distance
from espalike.system import Bound, MMSystem
from espalike.terms.angle import HarmonicAngle
from espalike.terms.base import REVERSAL_2, PairTerm, Param, Term
from espalike.terms.bond import HarmonicBond, _Bond
from espalike.terms.coulomb import Coulomb
from espalike.terms.fourier import Fourier
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.primitives import Harmonic, Polynomial
from espalike.terms.torsion import PERIODS, PeriodicProper
from espalike.tuples import Kind
from tests.export.cases import (
    ASPIRIN,
    FAST,
    FIELDS,
    FURTHER,
    agree,
    by_term,
    evaluate,
    field_model,
    geometry,
    perturbed,
    plus,
    random_system,
    reference,
    with_equal_phases,
    with_term,
)
from tests.export.programs import PROGRAMS, needs
from tests.molecules import DRUGLIKE, SMALL
from tests.terms.common import CLASSES, TERMS

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
programs = pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in PROGRAMS])


class StiffBond(HarmonicBond):
    """A harmonic bond with other priors."""

    params = (Param("k", "kcal/mol/angstrom**2", mean=900.0, std=0.2, link="positive"), HarmonicBond.params[1])


class CubicBond(_Bond):
    """½ k d² (1 − d): a form of a plug-in."""

    params = HarmonicBond.params

    def primitives(self, p):
        k, r0 = p
        return (Polynomial(0, r0, 0.5 * k, -0.5 * k),)


class TwoSeries(PeriodicProper):
    """A torsion of two primitives, one of them odd about 60°."""

    def primitives(self, p):
        return Fourier((0,), PERIODS[:3], (0.0,) * 3, p[:3]), Fourier((0,), PERIODS[3:], (1.0,) * 3, p[3:])


class PureQuartic(Term):
    """A form without primitives, whose expression has a definition."""

    kind = Kind.BOND
    coordinates = (Distance(0, 1),)
    q_names = ("r",)
    symmetry = REVERSAL_2
    params = (Param("k", "kcal/mol/angstrom**4", 50.0, 1.0, "positive"), Param("r0", "angstrom", 1.3, 1.0, "positive"))
    expression = "k*d^4; d=r-r0"

    def energy(self, q, p):
        return p[0] * (q[0] - p[1]) ** 4


class StiffCharge(Coulomb):
    """Charges with other defaults."""

    usual14 = 0.7


class Reversed(HarmonicAngle):
    """An angle read from the other end: a place without a name, which OpenMM alone takes."""

    coordinates = (type(HarmonicAngle.coordinates[0])(2, 1, 0),)


class HarmonicTorsion(PeriodicProper):
    """½ k (φ − φ₀)²: a primitive that no engine but OpenMM has in this place, with a fixed centre."""

    params = PeriodicProper.params[:1]
    coordinates = (Dihedral(0, 1, 2, 3),)

    def primitives(self, p):
        return (Harmonic(0, p[0], 0.25),)


NEUTRAL = "CC(=O)Oc1ccccc1C(=O)O"
OURS = [StiffBond(), CubicBond(), PureQuartic(), TwoSeries(), StiffCharge(), Reversed(), HarmonicTorsion()]
FORMS = [*TERMS, *OURS]


def assert_exact(name: str, system: MMSystem, xyz: np.ndarray, folder: Path) -> None:
    """The program's energies are ours: in total, by the parts that it prints, and the forces if it gives them."""
    program = PROGRAMS[name]
    actual, forces = program.run(system, xyz, folder)
    expected, ours = reference(system, xyz), by_term(system, xyz)
    if name == "sander":
        ours |= {n: clipped(system, xyz, n) for n in ours if n in ("HarmonicAngle", "LinearMixtureAngle")}
    total = sum(ours.values())
    assert actual["total"] == pytest.approx(total, rel=1e-8, abs=program.tolerance)
    place = {bound.term.name: place_of(bound.term, shapes(bound.term)[0]) for bound in system.terms}
    parts = {key.replace(" ", "-"): u for key, u in actual.items()}
    for columns, places in program.parts:
        theirs = sum(parts.get(column, 0.0) for column in columns.split())
        mine = sum(u for term, u in ours.items() if place[term] in places)
        assert theirs == pytest.approx(mine, rel=1e-8, abs=program.tolerance), columns
    if forces is not None:
        agree((actual["total"] if name != "LAMMPS" else expected[0], forces), expected)


def clipped(system: MMSystem, xyz: np.ndarray, name: str) -> float:
    """Our angle energy where sander keeps the cosine above -0.999: it takes angles beyond 177.4° for 177.4°."""
    bound = system.bound(name)
    a, b, c = (xyz[bound.tuples.idx[:, n].numpy()] for n in range(3))
    cosine = ((a - b) * (c - b)).sum(-1) / np.linalg.norm(a - b, axis=-1) / np.linalg.norm(c - b, axis=-1)
    theta = torch.from_numpy(np.arccos(np.clip(cosine, -0.999, 0.999)))
    return float(bound.term.energy((theta,), bound.values.unbind(-1)).sum())


def one_term(name: str, term: Term) -> tuple[np.ndarray, MMSystem]:
    """A system of the term alone. For OpenFF atoms that the graph cannot tell apart have equal parameters."""
    if name in ("OpenMM", "ForceField", "LAMMPS"):
        _, xyz, system = with_term(term, ASPIRIN)
        return xyz, system
    smiles = NEUTRAL if name == "OpenFF" else ASPIRIN
    system, (_, xyz) = random_system(smiles, term), geometry(smiles)
    if name == "OpenFF":
        rows = torch.full_like(system.terms[0].values, 1.2)
        if isinstance(term, Coulomb):
            rows[:, 0] = 0.2 * torch.from_numpy(system.molecules[0].numbers - system.molecules[0].numbers.mean())
        if len(term.params) > len(type(term).params):
            rows[:, -1] = 0.4
        system = MMSystem((Bound(term, system.terms[0].tuples, rows),), system.numbers, system.mol, system.molecules)
    return xyz, system


@programs
@pytest.mark.parametrize("term", FORMS, ids=repr)
def test_each_form_is_exact_or_refused(name, term, tmp_path):
    xyz, system = one_term(name, term)
    format = PROGRAMS[name].format
    refused = export.refusals([term], [format])
    if not refused:
        assert_exact(name, system, xyz, tmp_path)
        assert abs(sum(by_term(system, xyz).values())) > 1e-3  # this is not about zeros
        return
    able = [other for other in export.FORMATS if not export.refusals([term], [other])]
    message = f"format '{format}' cannot express {term.name}"
    assert refused[format].startswith(message)
    assert refused[format].endswith(f"; formats that can express this force field: {', '.join(able)}")
    with pytest.raises(ExportError, match=message):
        export.write(system, tmp_path / f"x{export.FORMATS[format].endings[0]}")
    assert list(tmp_path.iterdir()) == []


def test_each_cell_of_the_table_is_a_form_above():
    """So that no cell is left out: every cell of every format is what one of the forms is written by."""
    keys = {(place_of(term, p), type(p).__name__) for term in FORMS for p in shapes(term)}
    head, *rows = export.table()
    assert head[2:] == list(export.FORMATS)
    assert {(place, primitive) for place, primitive, *_ in rows} <= keys
    for term in FORMS:
        for p in shapes(term):
            row = next((r for r in rows if r[:2] == [place_of(term, p), type(p).__name__]), None)
            assert row is not None or not set(export.refusals([term], ["system", "ffxml"]))


def test_what_is_refused_is_what_the_table_leaves_empty():
    """One form per cell; limits within a cell are in its label."""
    _, *rows = export.table()
    cells = {
        (row[0], row[1], format): cell for row in rows for format, cell in zip(export.FORMATS, row[2:], strict=True)
    }
    for term in FORMS:
        for format in export.FORMATS:
            labels = [cells.get((place_of(term, p), type(p).__name__, format), "–") for p in shapes(term)]
            refused = bool(export.refusals([term], [format]))
            if "–" in labels and format not in ("system", "ffxml"):
                assert refused, (term, format)
            elif refused:
                assert any(word in label for label in labels for word in ("one per", "up to", "Lorentz", "one set")), (
                    term,
                    format,
                )


def test_the_table_in_the_docs_is_the_one_that_the_code_prints(capsys):
    runpy.run_module("espalike.export", run_name="__main__")  # as `python -m espalike.export` does
    printed = capsys.readouterr().out
    docs = (Path(__file__).parents[2] / "docs/forms.md").read_text(encoding="utf-8")
    assert printed in docs


@functools.cache
def everything(name: str) -> tuple[Term, ...]:
    """All shipped forms that a program has, at once; 1-4 factors learned."""
    format = PROGRAMS[name].format
    bonded = [cls() for cls in CLASSES if not issubclass(cls, PairTerm)]
    pairs = [LennardJones(scale14="learned", mixing="geometric"), Coulomb(scale14="learned")]
    return tuple(term for term in (*bonded, *pairs) if not export.refusals([term], [format]))


CHECKED = [name for name in PROGRAMS if name != "OpenFF"]
SLOW = tuple(s for s in dict.fromkeys((*FURTHER, *DRUGLIKE, *SMALL)) if s not in FAST)
QUICK = ("OpenMM", "ForceField")
"""Programs that run in this process: class I is compared for all molecules, not only in slow tests."""


COMPILED = ("OpenMM", "ForceField")
"""Programs that compile the expressions of couplings, which takes seconds; both have the same forces in the end."""


def on_molecules(names, quick=(), compiled=()):
    """Programs × molecules; most molecules are slow tests, except for `quick` programs. `compiled` ones share FAST."""
    cases = []
    for name, smiles in itertools.product(names, (*FAST, *SLOW)):
        is_slow = smiles in SLOW and name not in quick
        if name in compiled and smiles in FAST:
            is_slow = compiled[FAST.index(smiles) % len(compiled)] != name
        cases.append(pytest.param(name, smiles, marks=[needs(name), *[pytest.mark.slow] * is_slow]))
    return pytest.mark.parametrize(("name", "smiles"), cases)


@on_molecules(CHECKED, compiled=COMPILED)
def test_all_forms_of_a_program_at_once(name, smiles, tmp_path):
    _, xyz = geometry(smiles)
    assert_exact(name, random_system(smiles, *everything(name)), xyz, tmp_path)


@on_molecules(PROGRAMS, QUICK)
def test_class_one(name, smiles, tmp_path):
    """Harmonic bonds and angles, propers of any phase, trefoil impropers, Lennard-Jones, Coulomb."""
    molecule, xyz = geometry(smiles)
    system = with_equal_phases(molecule)
    assert_exact(name, system, xyz, tmp_path)
    assert smiles != ASPIRIN or all(abs(u) > 0.1 for u in by_term(system, xyz).values())  # this is not about zeros


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in ("LAMMPS", "OpenFF")])
@pytest.mark.parametrize("smiles", FURTHER)
def test_small_and_odd_molecules(name, smiles, tmp_path):
    """Couplings that borrow their equilibrium values, so that several terms are one row of class2."""
    molecule = chem.from_smiles(smiles)
    system = with_equal_phases(molecule) if name == "OpenFF" else field_model("class2").parametrize(molecule)
    assert_exact(name, system, perturbed(molecule), tmp_path)


FORMATS_OF = {
    "class1": ("offxml", "gromacs", "amber", "lammps"), "class1_ub": ("gromacs", "amber", "lammps"),
    "morse": ("gromacs", "lammps"), "class2": ("lammps",), "class2_no14": ("lammps",), "dexp": (), "class2_dexp": (),
    "max": (),
}  # fmt: skip
"""Formats beside system and ffxml of each force field of `configs/forcefield`."""


COUPLED = ("class2", "class2_no14", "class2_dexp", "max")
"""Force fields whose couplings OpenMM compiles for seconds; slow where another one of them has the same."""


def on_force_fields():
    """Programs × force fields; those of `COUPLED` by one of the two programs of `COMPILED`, all others by all."""
    cases = []
    for name, field in itertools.product(PROGRAMS, FIELDS):
        is_slow = name in COMPILED and field in COUPLED and COMPILED[COUPLED.index(field) % 2] != name
        cases.append(pytest.param(name, field, marks=[needs(name), *[pytest.mark.slow] * is_slow]))
    return pytest.mark.parametrize(("name", "field"), cases)


@on_force_fields()
def test_each_force_field_is_exact_or_refused(name, field, tmp_path):
    made = field_model(field)
    refused = bool(export.refusals(made.terms, [PROGRAMS[name].format]))
    assert refused == (PROGRAMS[name].format not in {"system", "ffxml", *FORMATS_OF[field]})
    if refused:
        return
    molecule, xyz = geometry("CNC(=O)C1CC1")
    assert_exact(name, made.parametrize(molecule), xyz, tmp_path)


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in ("gmx", "gmx_d", "sander", "LAMMPS")])
@pytest.mark.parametrize("mixing", ["lorentz-berthelot", "geometric", "waldman-hagler"])
@pytest.mark.parametrize("scale14", [0.0, 0.4])
def test_mixing_rules_and_scales(name, mixing, scale14, tmp_path):
    """No torsions here: in Amber files, 1-4 pairs are carried by rows without energy."""
    smiles = "Cc1ncc([N+](=O)[O-])n1CCO"
    assert_exact(
        name, random_system(smiles, LennardJones(scale14, mixing), Coulomb(scale14=0.7)), geometry(smiles)[1], tmp_path
    )


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) for n in ("OpenMM", "LAMMPS", "gmx_d", "sander")])
def test_two_terms_on_the_same_atoms(name, tmp_path):
    molecule, xyz = geometry(ASPIRIN)
    system = with_equal_phases(molecule)
    for term in ("HarmonicBond", "HarmonicAngle", "PeriodicProper"):
        system = plus(system, system.bound(term))
    if name == "sander":
        ours, (actual, _) = sum(by_term(system, xyz).values()), PROGRAMS[name].run(system, xyz, tmp_path)
        assert actual["total"] == pytest.approx(ours, abs=1e-3)
    else:
        assert_exact(name, system, xyz, tmp_path)


def test_a_class_one_system_has_four_native_forces():
    molecule, xyz = geometry(ASPIRIN)
    system = field_model("class1").parametrize(molecule)
    built = export.to_openmm(system)
    names = ["HarmonicBondForce", "HarmonicAngleForce", "PeriodicTorsionForce", "NonbondedForce"]
    assert [type(force).__name__ for force in built.getForces()] == names
    assert built.getForce(2).getName() == "PeriodicProper+PeriodicImproper"
    values = system.bound("PeriodicProper").values.clone()
    values[:, 1:] = 0.0
    terms = [Bound(b.term, b.tuples, values) if b.term.name == "PeriodicProper" else b for b in system.terms]
    sparse = MMSystem(tuple(terms), system.numbers, system.mol, system.molecules)
    rows = len(values) + 3 * len(system.bound("PeriodicImproper").values)
    assert export.to_openmm(sparse).getForce(2).getNumTorsions() == rows  # none for k = 0
    custom = export.to_openmm(system, torsions="custom")
    assert [type(f).__name__ for f in custom.getForces()] == [*names[:2], "CustomTorsionForce", *names[2:]]
    agree(evaluate(custom, xyz), evaluate(built, xyz))
    with pytest.raises(ValueError, match="torsions='rb': expected one of 'native', 'custom'"):
        export.to_openmm(system, torsions="rb")


@pytest.mark.parametrize("field", [pytest.param(f, marks=[pytest.mark.slow] * (f in COUPLED[:2])) for f in FIELDS])
def test_force_groups_split_the_energy_by_term(field):
    molecule = chem.from_smiles("CC(=O)Nc1ccc(O)cc1")
    system, xyz = field_model(field).parametrize(molecule), perturbed(molecule)
    built = export.to_openmm(system, by_term=True)
    context = openmm.Context(built, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatform("Reference"))
    context.setPositions(xyz / 10.0)
    split = {
        b.term.name: u.item()
        for b, u in zip(system.terms, energy(system, torch.from_numpy(xyz)[None]).by_term, strict=True)
    }
    groups = {force.getForceGroup(): force.getName() for force in reversed(built.getForces())}
    for group, names in groups.items():
        actual = context.getState(energy=True, groups={group}).getPotentialEnergy()._value / 4.184
        assert actual == pytest.approx(sum(split.pop(name) for name in names.split("+")), rel=1e-9)
    assert not split


def test_places_are_distinct():
    assert len(set(PLACES.values())) == len(PLACES)

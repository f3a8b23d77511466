"""GROMACS files: several molecules in a topology, names, other readers. Energies by GROMACS: test_forms.py."""

import dataclasses
import math
import re
import subprocess

import numpy as np
import pytest
import torch
from openmm import app

from espalike import export
from espalike.export.parts import ExportError
from espalike.system import Bound, MMSystem
from espalike.terms.angle import HarmonicAngle
from espalike.terms.bond import HarmonicBond
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.units import convert
from tests.export.cases import FAST, by_term, evaluate, geometry, random_system, with_equal_phases
from tests.export.programs import PROGRAMS, gromacs_point, needs
from tests.export.test_forms import CubicBond


@pytest.mark.parametrize("program", [pytest.param(name, marks=needs(name)) for name in ("gmx", "gmx_d")])
def test_two_molecules_in_one_topology(program, tmp_path):
    """Their types differ in name, their 1-4 factors in value; at 4 nm, beyond the cut-off, energies add up."""
    systems = [
        random_system("CC#CC(=O)N", HarmonicBond(), LennardJones(0.3), Coulomb(0.4)),
        random_system("CONC", HarmonicBond(), LennardJones(0.5), Coulomb(0.7)),
    ]
    geometries = [geometry("CC#CC(=O)N")[1], geometry("CONC")[1]]
    expected, atoms, names = 0.0, [], []
    for name, system, xyz in zip("ab", systems, geometries, strict=True):
        export.write(system, tmp_path / f"{name}.top", xyz=xyz + (0.0 if name == "a" else 40.0))
        expected += sum(by_term(system, xyz).values())
        atoms += (tmp_path / f"{name}.gro").read_text().splitlines()[2:-1]
        names.append((tmp_path / f"{name}.top").read_text().split()[-2])
    head = (tmp_path / "a.top").read_text().partition("; types, then")[0]
    a_and_b = '#include "a.itp"\n#include "b.itp"'
    includes = f"#define TYPES_ONLY\n{a_and_b}\n#undef TYPES_ONLY\n{a_and_b}"
    (tmp_path / "m.top").write_text(f"{head}\n{includes}\n[ system ]\ntwo\n[ molecules ]\n{names[0]} 1\n{names[1]} 1\n")
    (tmp_path / "m.gro").write_text("\n".join(["two", str(len(atoms)), *atoms, "8.0 8.0 8.0", ""]))
    actual = gromacs_point(program, tmp_path, 2.0)["total"]
    assert math.isclose(actual, expected, abs_tol=PROGRAMS[program].tolerance)


def test_files_name_each_other_and_keep_the_given_coordinates(tmp_path):
    molecule, xyz = geometry(FAST[0])
    path = export.write(
        with_equal_phases(geometry(FAST[0])[0]), tmp_path / "lig.and.top", xyz=xyz, info={"Model": "a ; b \\"}
    )
    assert path == tmp_path / "lig.and.top"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lig.and.gro", "lig.and.itp", "lig.and.top"]
    assert path.read_text().count('#include "lig.and.itp"\n') == 1
    assert "; Model: a ; b\n" in (tmp_path / "lig.and.itp").read_text()
    lines = (tmp_path / "lig.and.gro").read_text().splitlines()[2:-1]
    actual = np.array([[float(line[20 + 12 * n : 32 + 12 * n]) for n in range(3)] for line in lines])
    np.testing.assert_allclose(actual * convert(1.0, "nm", "angstrom"), xyz, atol=1e-7)
    assert [line[10:15].strip().rstrip("0123456789") for line in lines] == [
        app.Element.getByAtomicNumber(int(z)).symbol for z in molecule.numbers
    ]
    with pytest.raises(ExportError, match=r"expected finite coordinates of shape \(20, 3\), got \(3, 3\)"):
        export.write(with_equal_phases(geometry(FAST[0])[0]), tmp_path / "x.top", xyz=np.zeros((3, 3)))


ACETAMIDE = "CC(=O)N"


def included(folder, defaults: str, molecules: str = "m 1", includes: str = '#include "m.itp"') -> None:
    """Write `m.top`: the given beginning, then the `.itp`."""
    (folder / "m.top").write_text(f"{defaults}\n{includes}\n[ system ]\nx\n[ molecules ]\n{molecules}\n")


def half_box(folder) -> float:
    return float((folder / "m.gro").read_text().split()[-1]) / 2 - 0.01


@pytest.mark.parametrize(
    "defaults",
    [
        *(f'#include "{name}.ff/forcefield.itp"' for name in ("amber99sb-ildn", "charmm27", "oplsaa")),
        "#define COMB_RULE_2\n[ defaults ]\n1 2 yes 0.3 0.7",
        "#define COMB_RULE_3\n[ defaults ]\n1 3 no 1.0 1.0",
    ],
)
@pytest.mark.parametrize("rule", ["lorentz-berthelot", "geometric", "waldman-hagler"])
@needs("gmx")
def test_the_energy_does_not_depend_on_the_defaults_above(defaults, rule, tmp_path):
    """1-4 pairs carry their charges and factors; pairs beyond are mixed by the force field's rule."""
    _, xyz = geometry(ACETAMIDE)
    terms = (HarmonicBond(), HarmonicAngle(), LennardJones(0.5, mixing=rule), Coulomb())
    system = random_system(ACETAMIDE, *terms)
    export.write(system, tmp_path / "m.top", xyz=xyz)
    alone = gromacs_point("gmx", tmp_path, half_box(tmp_path))["total"]
    assert math.isclose(alone, sum(by_term(system, xyz).values()), abs_tol=PROGRAMS["gmx"].tolerance)
    included(tmp_path, defaults)
    assert math.isclose(gromacs_point("gmx", tmp_path, half_box(tmp_path))["total"], alone, abs_tol=1e-4)


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ('#include "gromos54a7.ff/forcefield.itp"', "1 is not possible"),
        ("[ defaults ]\n1 1 no 1.0 1.0", "define COMB_RULE_2 or COMB_RULE_3"),
        ("[ defaults ]\n1 2 yes 0.5 0.8333", "define COMB_RULE_2 or COMB_RULE_3"),
        ("#define COMB_RULE_3\n#define _FF_AMBER\n[ defaults ]\n1 2 yes 0.5 0.8333", "are both defined"),
        ("#define COMB_RULE_2\n[ defaults ]\n2 1 no 1.0 1.0", "Too few parameters on line"),
    ],
)
@needs("gmx")
def test_grompp_stops_where_the_combining_rule_is_unknown_or_impossible(defaults, message, tmp_path):
    export.write(random_system("CO", HarmonicBond(), LennardJones(), Coulomb()), tmp_path / "m.top")
    included(tmp_path, defaults)
    with pytest.raises(AssertionError) as stop:
        gromacs_point("gmx", tmp_path, half_box(tmp_path))
    assert message in " ".join(str(stop.value).replace("\\n", " ").split())


@needs("gmx")
def test_grompp_stops_where_a_list_of_pairs_would_be_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr("espalike.export.gromacs._MAX_PAIRED_TYPES", 2)
    _, xyz = geometry("CO")
    system = random_system("CO", HarmonicBond(), LennardJones(), Coulomb())
    export.write(system, tmp_path / "m.top", xyz=xyz)
    included(tmp_path, '#include "amber99sb-ildn.ff/forcefield.itp"')
    actual = gromacs_point("gmx", tmp_path, half_box(tmp_path))["total"]
    assert math.isclose(actual, sum(by_term(system, xyz).values()), abs_tol=PROGRAMS["gmx"].tolerance)
    included(tmp_path, '#include "oplsaa.ff/forcefield.itp"')
    with pytest.raises(AssertionError, match="too many atom types"):
        gromacs_point("gmx", tmp_path, half_box(tmp_path))


@needs("gmx")
def test_two_poses_of_a_molecule_stand_side_by_side(tmp_path):
    """Each file is included once; molecules have the names of their files, and the energies add up."""
    molecule, xyz = geometry(ACETAMIDE)
    system = with_equal_phases(molecule)
    poses = {"pose": xyz, "pose-2": geometry(ACETAMIDE)[1][:, [1, 2, 0]] * 1.02 + 40.0}
    atoms = []
    for name, points in poses.items():
        export.write(system, tmp_path / f"{name}.top", xyz=points)
        atoms += (tmp_path / f"{name}.gro").read_text().splitlines()[2:-1]
    (tmp_path / "m.gro").write_text("\n".join(["two", str(len(atoms)), *atoms, "8.0 8.0 8.0", ""]))
    includes = "\n".join(f'#include "{name}.itp"' for name in poses)
    included(tmp_path, '#include "oplsaa.ff/forcefield.itp"', "pose 1\npose-2 1", includes)
    expected = sum(sum(by_term(system, points).values()) for points in poses.values())
    assert math.isclose(gromacs_point("gmx", tmp_path, 2.0)["total"], expected, abs_tol=PROGRAMS["gmx"].tolerance)


@pytest.mark.parametrize("name", ["amber99sb-ildn", "oplsaa"])
@needs("gmx")
def test_conditions_that_end_and_begin_again(name, tmp_path, monkeypatch):
    """Both halves of the 1-4 pairs, the list of pairs of types, and types that another pose has defined."""
    monkeypatch.setattr("espalike.export.gromacs._SKIPPED", 3)
    molecule, xyz = geometry(ACETAMIDE)
    system, atoms = with_equal_phases(molecule), []
    for pose in ("m", "n"):
        export.write(system, tmp_path / f"{pose}.top", xyz=xyz)
        atoms += (tmp_path / f"{pose}.gro").read_text().splitlines()[2:-1]
        xyz = xyz + 40.0
    assert (tmp_path / "m.itp").read_text().count("; the conditions go on") > 10
    expected = sum(by_term(system, xyz).values())
    alone = gromacs_point("gmx", tmp_path, half_box(tmp_path))["total"]
    assert math.isclose(alone, expected, abs_tol=PROGRAMS["gmx"].tolerance)
    both = '#include "m.itp"\n#include "n.itp"'
    (tmp_path / "m.gro").write_text("\n".join(["two", str(len(atoms)), *atoms, "8.0 8.0 8.0", ""]))
    for includes in (both, f"#define TYPES_ONLY\n{both}\n#undef TYPES_ONLY\n{both}"):
        included(tmp_path, f'#include "{name}.ff/forcefield.itp"', "m 1\nn 1", includes)
        actual = gromacs_point("gmx", tmp_path, 2.0)["total"]
        assert math.isclose(actual, 2 * expected, abs_tol=2 * PROGRAMS["gmx"].tolerance)


@needs("gmx")
def test_grompp_reads_a_molecule_of_many_types(tmp_path):
    """It calls itself for each line that it skips: after some 30,000 it crashed, without a message."""
    smiles = "C" * 90
    system = random_system(smiles, HarmonicBond(), LennardJones(), Coulomb())
    n = system.molecules[0].n_atoms
    xyz = 3.0 * np.stack(np.unravel_index(np.arange(n), (7, 7, 7)), axis=1).astype(np.float64)
    export.write(system, tmp_path / "m.top", xyz=xyz)
    assert (tmp_path / "m.itp").read_text().count("\n") > 30000
    expected = sum(by_term(system, xyz).values())
    assert math.isclose(gromacs_point("gmx", tmp_path, half_box(tmp_path))["total"], expected, rel_tol=1e-6)


@needs("gmx")
def test_a_decoupled_molecule_keeps_its_own_energy(tmp_path):
    """With `couple-intramol = no` the end state is the molecule in vacuum; nothing but it is in the box here."""
    molecule, xyz = geometry(ACETAMIDE)
    system = with_equal_phases(molecule)
    export.write(system, tmp_path / "m.top", xyz=xyz)
    included(tmp_path, '#include "charmm27.ff/forcefield.itp"')
    settings = "free-energy = yes\ncouple-moltype = m\ncouple-lambda0 = vdw-q\ncouple-lambda1 = none\n"
    settings += "couple-intramol = no\nfep-lambdas = 0 1\ninit-lambda-state = {}\n"
    expected = sum(by_term(system, xyz).values())
    for state in (0, 1):
        actual = gromacs_point("gmx", tmp_path, half_box(tmp_path), settings.format(state))["total"]
        assert math.isclose(actual, expected, abs_tol=PROGRAMS["gmx"].tolerance)


NAMED = ("CA", "HX", "C3", "HO", "1HA", "2HA", "D", "h2", "1HC", "HC1", "3", "H9")
"""Names of the atoms of propanol: heavy ones that begin with H, and hydrogens that do not."""


@needs("gmx")
def test_constraints_of_hydrogens_go_by_elements_and_not_by_the_names_of_the_input(tmp_path):
    """`h-bonds` constrains bonds of atoms whose names begin with H: 1HA was free, without a word."""
    molecule, xyz = geometry("CCCO")
    molecule = dataclasses.replace(molecule, atom_names=NAMED)
    export.write(with_equal_phases(molecule), tmp_path / "m.top", xyz=xyz)
    rows = (tmp_path / "m.gro").read_text().splitlines()[2:-1]
    assert [row[10:15].strip() for row in rows] == [
        "CA", "C1", "C3", "O1", "HA1", "HA2", "HD", "h2", "H1", "HC1", "H3", "H9"
    ]  # fmt: skip
    names = (tmp_path / "m.itp").read_text().partition("[ atoms ]")[2].splitlines()[2:14]
    assert [row.split()[4] for row in names] == [row[10:15].strip() for row in rows]
    gromacs_point("gmx", tmp_path, half_box(tmp_path), "constraints = h-bonds\nlincs-iter = 2\n")
    dump = subprocess.run(["gmx", "-quiet", "dump", "-s", "m.tpr"], cwd=tmp_path, capture_output=True, text=True).stdout
    constrained = {tuple(map(int, pair)) for pair in re.findall(r"\(CONSTR\) +(\d+) +(\d+)", dump)}
    assert constrained == {tuple(bond) for bond in molecule.bonds.tolist() if 1 in molecule.numbers[bond]}


def test_pairs_of_function_one_stand_only_below_the_defaults_of_the_top():
    def functions(system):
        text = export.texts(system, "gromacs", xyz=geometry("CO")[1])[".itp"]
        rows = text.partition("[ pairs ]")[2].partition("\n\n")[0].strip().splitlines()
        return [row.split()[2] if row[0] != "#" else row for row in rows]

    terms = (HarmonicBond(), HarmonicAngle(), LennardJones())
    either = ["1", "1", "1", "#else", "2", "2", "2", "#endif"]
    assert functions(random_system("CO", *terms, Coulomb())) == ["#ifdef FUDGE_QQ_OF_AMBER", *either]
    half = random_system("CO", *terms, Coulomb(scale14=0.5))
    assert functions(half) == ["#ifdef FUDGE_QQ_0_5", *either]  # below Amber's factor it keeps its own
    top = export.texts(half, "gromacs", xyz=geometry("CO")[1])[".top"]
    assert "#define FUDGE_QQ_0_5\n" in top
    assert "#define FUDGE_QQ_OF_AMBER" not in top


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # OpenMM leaves the files open
@pytest.mark.parametrize("scale14", [0.5, "learned"])
def test_another_reader_finds_the_same_energy_with_other_factors(scale14, tmp_path):
    _, xyz = geometry(ACETAMIDE)
    terms = (HarmonicBond(), HarmonicAngle(), LennardJones(scale14=scale14), Coulomb(scale14=scale14))
    system = random_system(ACETAMIDE, *terms)
    path = export.write(system, tmp_path / "m.top", xyz=xyz)
    built = app.GromacsTopFile(str(path)).createSystem(nonbondedMethod=app.NoCutoff)
    assert math.isclose(evaluate(built, xyz)[0], sum(by_term(system, xyz).values()), abs_tol=1e-5)


@needs("gmx")
@pytest.mark.parametrize("scale14", [0.5, "learned"])
def test_gromacs_itself_finds_it_with_other_factors(scale14, tmp_path):
    _, xyz = geometry(ACETAMIDE)
    terms = (HarmonicBond(), HarmonicAngle(), LennardJones(scale14=scale14), Coulomb(scale14=scale14))
    system = random_system(ACETAMIDE, *terms)
    export.write(system, tmp_path / "m.top", xyz=xyz)
    actual = gromacs_point("gmx", tmp_path, half_box(tmp_path))["total"]
    assert math.isclose(actual, sum(by_term(system, xyz).values()), abs_tol=PROGRAMS["gmx"].tolerance)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # OpenMM leaves the files open
@pytest.mark.parametrize("smiles", FAST[:3])
def test_another_reader_finds_the_same_energy(smiles, tmp_path):
    """OpenMM's reader, in float64: no binary is needed for this one."""
    molecule, xyz = geometry(smiles)
    system = with_equal_phases(molecule)
    path = export.write(system, tmp_path / "m.top", xyz=xyz)
    built = app.GromacsTopFile(str(path)).createSystem(nonbondedMethod=app.NoCutoff)
    assert math.isclose(evaluate(built, xyz)[0], sum(by_term(system, xyz).values()), abs_tol=1e-5)


def test_a_cube_without_a_square_is_refused(tmp_path):
    """Function 4 is k (d² + c d³)."""

    class Cube(CubicBond):
        def primitives(self, p):
            (polynomial,) = super().primitives(p)
            return (type(polynomial)(0, polynomial.q0, torch.zeros_like(p[0]), polynomial.c3),)

    system = random_system("CO", CubicBond())
    (bound,) = system.terms
    cubes = MMSystem((Bound(Cube(), bound.tuples, bound.values),), system.numbers, system.mol, system.molecules)
    with pytest.raises(ExportError, match="CO: Cube has a cubic part without a quadratic one; format 'gromacs' cannot"):
        export.write(cubes, tmp_path / "m.top")

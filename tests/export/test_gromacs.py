"""GROMACS files: several molecules in a topology, names, other readers. Energies by GROMACS: test_forms.py."""

import math

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
    includes = "\n".join(f'#include "{name}.itp"' for name in "abab")
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
    assert path.read_text().count('#include "lig.and.itp"\n') == 2
    assert "; Model: a ; b\n" in (tmp_path / "lig.and.itp").read_text()
    lines = (tmp_path / "lig.and.gro").read_text().splitlines()[2:-1]
    actual = np.array([[float(line[20 + 12 * n : 32 + 12 * n]) for n in range(3)] for line in lines])
    np.testing.assert_allclose(actual * convert(1.0, "nm", "angstrom"), xyz, atol=1e-7)
    assert [line[10:15].strip().rstrip("0123456789") for line in lines] == [
        app.Element.getByAtomicNumber(int(z)).symbol for z in molecule.numbers
    ]
    with pytest.raises(ExportError, match=r"expected finite coordinates of shape \(20, 3\), got \(3, 3\)"):
        export.write(with_equal_phases(geometry(FAST[0])[0]), tmp_path / "x.top", xyz=np.zeros((3, 3)))


def test_the_amber_scale_needs_no_charges_in_the_pairs():
    def functions(system):
        rows = (
            export.texts(system, "gromacs", xyz=geometry("CO")[1])[".itp"]
            .partition("[ pairs ]")[2]
            .partition("#endif")[0]
            .strip()
            .splitlines()
        )
        return {row.split()[2] for row in rows}

    terms = (HarmonicBond(), HarmonicAngle(), LennardJones())
    assert functions(random_system("CO", *terms, Coulomb())) == {"1"}
    assert functions(random_system("CO", *terms, Coulomb(scale14=0.5))) == {"2"}


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

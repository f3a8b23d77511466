"""Pairs of one molecule with Lennard-Jones parameters of their own: several molecules, complexes, large molecules."""

import functools
import io
import re
import subprocess

import numpy as np
import pytest
import torch
from openmm import app

from espalike import chem, export
from espalike.batch import batch_of
from espalike.chem.complexes import joined
from espalike.energy import energy
from espalike.export.parts import ExportError
from espalike.model import ForceFieldModel
from espalike.nn.convs import SAGE
from espalike.terms.base import LEARNED
from espalike.terms.bond import HarmonicBond
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.units import COULOMB
from tests.export.cases import evaluate, far, from_ffxml, geometry, perturbed, random_system, to_ffxml
from tests.export.programs import LMP, PROGRAMS, gromacs_point, lammps_script, lammps_tables, needs
from tests.export.test_mixed import topology_of

FIRST, SECOND = "CC(=O)NCCO", "OCCN"


@functools.cache
def model() -> ForceFieldModel:
    torch.manual_seed(0)
    terms = [HarmonicBond(), LennardJones(LEARNED, within=LEARNED), Coulomb(LEARNED)]
    return far(ForceFieldModel(terms, SAGE, width=16, layers=2, hidden=16))


def between(first, second, x: np.ndarray, y: np.ndarray) -> float:
    """Lorentz–Berthelot and Coulomb between two molecules, from the parameters of pairs of different molecules."""
    total = 0.0
    (s, e), (t, d) = (system.bound("LennardJones").values[:, :2].numpy().T for system in (first, second))
    q, p = (system.bound("Coulomb").values[:, 0].numpy() for system in (first, second))
    for i, j in np.ndindex(len(x), len(y)):
        r = np.linalg.norm(x[i] - y[j])
        six = (0.5 * (s[i] + t[j]) / r) ** 6
        total += 4.0 * np.sqrt(e[i] * d[j]) * (six**2 - six) + COULOMB * q[i] * p[j] / r
    return total


def alone(system, xyz: np.ndarray) -> float:
    return energy(system, torch.from_numpy(xyz)[None]).energy.item()


def two() -> tuple:
    """Two molecules 4 Å apart, with the parameters and energies of each, and what is between them."""
    molecules = [chem.from_smiles(smiles) for smiles in (FIRST, SECOND)]
    systems = [model().parametrize(molecule) for molecule in molecules]
    points = [perturbed(molecules[0]), perturbed(molecules[1]) + np.array([0.0, 6.0, 1.0])]
    u = between(*systems, *points)
    own = [alone(system, xyz) for system, xyz in zip(systems, points, strict=True)]
    return molecules, systems, points, own, u


def test_parameters_within_and_between_differ():
    _, systems, *_ = two()
    assert systems[0].bound("LennardJones").values[:, 2:4].abs().mean() > 0.01


def test_a_complex_has_wells_of_its_own_in_each_molecule_and_others_between():
    molecules, _, points, own, u = two()
    pair, xyz = joined(molecules), torch.from_numpy(np.concatenate(points))[None]
    system = model().parametrize(pair)
    assert energy(system, xyz).energy.item() == pytest.approx(sum(own) + u, rel=1e-10)
    across = system.between_components(batch_of([pair]).component)
    assert energy(across, xyz).energy.item() == pytest.approx(u, rel=1e-10)
    (part,) = system.split()
    assert energy(part, xyz).energy.item() == pytest.approx(sum(own) + u, rel=1e-10)
    x = xyz.clone().requires_grad_()
    step = torch.zeros_like(x)
    step[0, 3, 1] = 1e-4
    slope = (energy(system, xyz + step).energy - energy(system, xyz - step).energy) / 2e-4
    assert energy(system, xyz).forces[0, 3, 1].item() == pytest.approx(-slope.item(), rel=1e-6)


def test_files_of_a_complex_have_both_wells():
    molecules, _, points, own, u = two()
    pair, xyz = joined(molecules), np.concatenate(points)
    system = model().parametrize(pair)
    for built in (export.to_openmm(system), from_ffxml(system, pair)):
        assert evaluate(built, xyz)[0] == pytest.approx(sum(own) + u, rel=1e-9)
    with pytest.raises(ExportError, match="format 'lammps' has one set for all pairs"):
        export.texts(system, "lammps", xyz=xyz)


@pytest.mark.parametrize("program", [pytest.param("gmx_d", marks=needs("gmx_d"))])
def test_gromacs_excludes_the_pairs_of_each_molecule_of_a_complex(program, tmp_path):
    molecules, _, points, *_ = two()
    xyz = np.concatenate(points)
    xyz = np.round(xyz - xyz.min(0), 5)  # the digits of a .gro
    system = model().parametrize(joined(molecules))
    found, _ = PROGRAMS[program].run(system, xyz, tmp_path)
    assert found["total"] == pytest.approx(alone(system, xyz), rel=1e-8, abs=PROGRAMS[program].tolerance)


def test_two_molecules_and_copies_in_one_force_field():
    molecules, systems, points, own, u = two()
    made = app.ForceField(*(io.StringIO(to_ffxml(system)) for system in systems))
    total, _ = evaluate(made.createSystem(topology_of(*molecules)), np.concatenate(points))
    assert total == pytest.approx(sum(own) + u, rel=1e-8)
    copy = points[0] @ np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) + np.array([9.0, 0.0, 0.5])
    total, _ = evaluate(made.createSystem(topology_of(molecules[0], molecules[0])), np.concatenate([points[0], copy]))
    assert total == pytest.approx(2 * own[0] + between(systems[0], systems[0], points[0], copy), rel=1e-8)


@pytest.mark.parametrize("program", [pytest.param(name, marks=needs(name)) for name in ("gmx", "gmx_d")])
@pytest.mark.parametrize("defaults", ["", '#include "oplsaa.ff/forcefield.itp"'])
def test_two_molecules_in_a_topology(program, defaults, tmp_path):
    """Pairs between them are combined from the atom types, whatever the rule of the topology."""
    smiles = "CC(=O)N"
    system = random_system(smiles, HarmonicBond(), LennardJones(0.4, within=LEARNED), Coulomb(0.7))
    _, xyz = geometry(smiles)
    copy = xyz + np.array([0.0, 5.0, 0.5])
    export.write(system, tmp_path / "m.top", xyz=xyz)
    head = (tmp_path / "m.top").read_text()
    name = head.split()[-2]
    body = f'\n#include "m.itp"\n[ system ]\ntwo\n[ molecules ]\n{name} 2\n'
    (tmp_path / "m.top").write_text((defaults or head.partition("; types, then")[0]) + body)
    atoms = (tmp_path / "m.gro").read_text().splitlines()[2:-1]
    export.write(system, tmp_path / "c.top", xyz=copy)
    atoms += (tmp_path / "c.gro").read_text().splitlines()[2:-1]
    (tmp_path / "m.gro").write_text("\n".join(["two", str(len(atoms)), *atoms, "8.0 8.0 8.0", ""]))
    expected = alone(system, xyz) + alone(system, copy) + between(system, system, xyz, copy)
    actual = gromacs_point(program, tmp_path, 2.5)["total"]
    assert actual == pytest.approx(expected, abs=PROGRAMS[program].tolerance)


def test_a_lammps_script_has_the_wells_between_molecules(tmp_path):
    system = model().parametrize(chem.from_smiles("CO"))
    export.write(system, tmp_path / "m.lmp")
    script, data = (tmp_path / "m.in").read_text(), (tmp_path / "m.lmp").read_text()
    sigma, epsilon, shift, depth, _ = system.bound("LennardJones").values[0].tolist()
    inner, outer = (line.split() for line in script.splitlines() if line.startswith("# pair_coeff 1 1 "))
    assert [" ".join(words[4:6]) for words in (inner, outer)] == ["lj/cut/coul/cut 1", "lj/cut/coul/cut 2"]
    np.testing.assert_allclose([float(x) for x in outer[6:]], [epsilon, sigma], rtol=1e-12)
    row = data.partition("Pair Coeffs # lj/cut/coul/cut\n\n")[2].splitlines()[0].split()
    for found in (inner[6:], row[1:]):
        expected = [epsilon * np.exp(depth), sigma * np.exp(shift)]
        np.testing.assert_allclose([float(x) for x in found], expected, rtol=1e-12)


@needs("LAMMPS")
def test_its_lines_give_the_energy_of_several_molecules(tmp_path):
    """Two molecules and a copy of the first, 4 Å apart."""
    if "hybrid/molecular" not in subprocess.run([LMP, "-h"], capture_output=True, text=True).stdout:
        pytest.skip("needs LAMMPS of 2023 or later")
    _, systems, points, own, u = two()
    for stem, system, xyz in zip("ab", systems, points, strict=True):
        export.write(system, tmp_path / f"{stem}.lmp", xyz=xyz)
    first, second = ((tmp_path / f"{stem}.in").read_text() for stem in "ab")
    kinds = ("atom", "bond", "angle", "dihedral", "improper")
    counts = [
        [int(re.search(rf"(\d+) {kind} types", (tmp_path / f"{stem}.lmp").read_text())[1]) for kind in kinds]
        for stem in "ab"
    ]
    extra = " ".join(f"extra/{kind}/types {n}" for kind, n in zip(kinds, counts[1], strict=True))
    lines = [line[2:] for line in first.splitlines() if line.startswith(("# pair_style", "# pair_modify"))]
    for script, offset in ((first, 0), (second, counts[0][0])):
        rows = (line.split() for line in script.splitlines() if line.startswith("# pair_coeff"))
        lines += [f"pair_coeff {int(i) + offset} {int(i) + offset} {' '.join(rest)}" for _, _, i, _, *rest in rows]
    copy = points[0] + np.array([0.0, -6.0, 0.5])
    export.write(systems[0], tmp_path / "c.lmp", xyz=copy)
    u += between(systems[0], systems[0], points[0], copy) + between(systems[1], systems[0], points[1], copy)
    offset = " ".join(map(str, counts[0]))
    reads = [
        f'read_data "a.lmp" {extra} extra/bond/per/atom 20 extra/special/per/atom 60',
        f'read_data "b.lmp" add append offset {offset}',
        'read_data "c.lmp" add append',
    ]
    head, tail = re.split(r"(?m)^read_data .*", first)
    (row, *_) = lammps_tables(lammps_script("\n".join([head, *reads, *lines, tail]), tmp_path))
    assert row["PotEng"] == pytest.approx(2 * own[0] + own[1] + u, rel=1e-8)


def test_refusals(monkeypatch):
    system = model().parametrize(chem.from_smiles("CCO"))
    for format in ("amber", "offxml"):
        with pytest.raises(ExportError, match="LennardJones with separate parameters for pairs of one molecule"):
            export.texts(system, format)
    monkeypatch.setattr("espalike.export.pairs._MOST_ATOMS", 8)
    for format in ("system", "ffxml", "gromacs"):
        with pytest.raises(ExportError, match="9 atoms: the force field has separate parameters"):
            export.texts(system, format)
    with pytest.raises(ValueError, match="within is shared or learned; got 'own'"):
        LennardJones(within="own")
    with pytest.raises(ValueError, match="within=learned needs mixing lorentz-berthelot; got 'geometric'"):
        LennardJones(mixing="geometric", within=LEARNED)

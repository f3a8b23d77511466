"""Torsion scans: angles are the grid's, energies those of independent relaxed scans, whatever goes round first."""

import numpy as np
import pytest
from rdkit.Chem import rdForceFieldHelpers, rdMolTransforms

from espalike.chem import embed, from_smiles, to_rdkit
from espalike.qm.base import CalculatorError
from espalike.qm.mmff import MMFFCalculator
from espalike.qm.models import ModelCalculator
from espalike.qm.sampling import Scan, Wavefront, constrained, intact, rotatable
from espalike.qm.sampling.restrained import side_by_side
from espalike.qm.sampling.torsions import grid
from espalike.qm.xtb import XTBCalculator
from espalike.units import convert

ETHANE = (2, 0, 1, 5)


def angle(molecule, xyz, atoms):
    """RDKit's own measurement on the whole molecule."""
    return rdMolTransforms.GetDihedralDeg(to_rdkit(molecule, xyz).GetConformer(), *atoms)


def off(a, b):
    return abs((a - b + 180) % 360 - 180)


def by_rdkit(molecule, atoms, degrees):
    """Relaxed MMFF94 energies [kcal/mol] with RDKit's minimiser and torsion restraints, the lowest of some starts."""
    lowest = []
    for value in degrees:
        energies = []
        for start in embed(molecule, 4, seed=5):
            mol = to_rdkit(molecule, start)
            rdMolTransforms.SetDihedralDeg(mol.GetConformer(), *atoms, float(value))
            properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
            held = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
            held.Initialize()
            held.MMFFAddTorsionConstraint(*atoms, False, float(value), float(value), 100.0)
            while held.Minimize(maxIts=2000, forceTol=1e-5, energyTol=1e-9):
                pass
            energies.append(rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties).CalcEnergy())
        lowest.append(min(energies))
    return np.array(lowest)


def by_ase(molecule, atoms, degrees):
    """Relaxed GFN2-xTB energies [kcal/mol] with ASE's optimiser and constraint on tblite's ASE calculator."""
    from ase import Atoms
    from ase.constraints import FixInternals
    from ase.optimize import BFGS
    from tblite.ase import TBLite

    energies = []
    for value in degrees:
        system = Atoms(numbers=molecule.numbers, positions=embed(molecule, seed=2)[0])
        side = [i for i, j in molecule.bonds[:, ::-1] if j == atoms[2]] + [atoms[2]]
        system.set_dihedral(*atoms, value, indices=side)
        system.set_constraint(FixInternals(dihedrals_deg=[[value % 360, list(atoms)]]))
        system.calc = TBLite(method="GFN2-xTB", verbosity=0)
        BFGS(system, logfile=None).run(fmax=0.005, steps=200)
        energies.append(convert(system.get_potential_energy(), "ev", "kcal/mol"))
    return np.array(energies)


def test_the_barrier_of_ethane():
    molecule, calculator = from_smiles("CC", "ethane"), XTBCalculator()
    scan = Scan(calculator, spacing=60, dihedrals=[ETHANE])
    frames = scan(molecule)
    assert frames.shape == (6, 8, 3)
    np.testing.assert_array_equal(frames, frames.astype(np.float32))
    assert all(off(angle(molecule, xyz, ETHANE), want) < 0.1 for xyz, want in zip(frames, grid(60), strict=True))
    energies = np.array([calculator(molecule, xyz)[0] for xyz in frames])
    energies -= energies.min()
    staggered = np.array(grid(60)) % 120 == 60
    np.testing.assert_allclose(energies[staggered], 0, atol=0.01)
    assert 2.5 < energies[~staggered].min() < 3.1  # 2.9 kcal/mol in experiment
    np.testing.assert_allclose(energies[~staggered], energies[~staggered].mean(), atol=0.01)
    low, high = by_ase(molecule, ETHANE, [60.0, 0.0])
    assert energies[~staggered].mean() == pytest.approx(high - low, abs=0.02)


def test_butane_against_another_minimiser():
    molecule, calculator = from_smiles("CCCC", "butane"), MMFFCalculator()
    (entry,) = Scan(calculator, spacing=60).entries(molecule).values()
    assert entry.driven == (0, 1, 2, 3)
    frames = entry(molecule)
    assert all(intact(molecule, xyz) for xyz in frames)
    energies = np.array([calculator(molecule, xyz)[0] for xyz in frames])
    np.testing.assert_allclose(energies, by_rdkit(molecule, (0, 1, 2, 3), grid(60)), atol=0.02)


def test_scans_are_reproducible():
    scan = Scan(XTBCalculator(), spacing=60, dihedrals=[[2, 0, 1, 3]])
    np.testing.assert_array_equal(scan(from_smiles("OO")), scan(from_smiles("OO")))


def test_a_scan_leaves_no_angle_out():
    class Refuses(MMFFCalculator):
        def __call__(self, molecule, xyz):
            if off(angle(molecule, xyz, ETHANE), 60) < 5:
                raise CalculatorError("failed", f"{molecule.name}: not here")
            return super().__call__(molecule, xyz)

    with pytest.raises(CalculatorError, match="ethane: not here"):
        Scan(Refuses(), spacing=120, dihedrals=[ETHANE], minimise=0)(from_smiles("CC", "ethane"))


def test_wavefronts_find_what_scans_find():
    molecule, calculator = from_smiles("OCC", "ethanol"), MMFFCalculator()
    torsion = (2, 1, 0, 3)
    scanned = Scan(calculator, spacing=60, dihedrals=[torsion])(molecule)
    (entry,) = Wavefront(calculator, spacing=60, dihedrals=[torsion]).entries(molecule).values()
    frames = entry(molecule)
    assert all(off(angle(molecule, xyz, torsion), want) < 0.1 for xyz, want in zip(frames, grid(60), strict=True))
    np.testing.assert_allclose(
        [calculator(molecule, xyz)[0] for xyz in frames], [calculator(molecule, xyz)[0] for xyz in scanned], atol=0.02
    )


def test_two_torsions_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    molecule, calculator = from_smiles("OCO", "methanediol"), MMFFCalculator()
    scans = Wavefront(calculator, spacing=120, dimensions=2, starts=1).entries(molecule)
    assert list(scans) == ["wavefront-3-0-1-2-0-1-2-6"]
    (entry,) = scans.values()
    assert entry.driven is None
    assert entry.frames == 9
    frames = entry(molecule)
    wanted = [(a, b) for a in grid(120) for b in grid(120)]
    assert len(frames) == len(wanted)
    for xyz, (first, second) in zip(frames, wanted, strict=True):
        assert off(angle(molecule, xyz, (3, 0, 1, 2)), first) < 0.1
        assert off(angle(molecule, xyz, (0, 1, 2, 6)), second) < 0.1
    energy = {key: calculator(molecule, xyz)[0] for key, xyz in zip(wanted, frames, strict=True)}
    for first, second in wanted:  # the mirror image, and the two hydroxyls exchanged
        image = tuple((-value + 180) % -360 + 180 for value in (first, second))
        assert energy[first, second] == pytest.approx(energy[image], abs=0.02)
        assert energy[first, second] == pytest.approx(energy[second, first], abs=0.02)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("smiles", ["c1ccccc1-c1ccccc1", "CC(=O)N", "CS(=O)(=O)NC"])
def test_constrained_minima_have_no_force_but_along_the_torsion(smiles):
    molecule, calculator = from_smiles(smiles), MMFFCalculator()
    torsion = rotatable(molecule, "[!D1]-&!@[!D1]")[0]
    energy, xyz = constrained(
        calculator, molecule, embed(molecule, seed=1)[0], {torsion: 40.0}, convergence="GAU_TIGHT"
    )
    again, forces = calculator(molecule, xyz)
    assert energy == pytest.approx(again, abs=1e-6)
    assert off(angle(molecule, xyz, torsion), 40) < 0.01
    slope = np.zeros(xyz.shape)
    for i in np.ndindex(xyz.shape):
        step = np.zeros(xyz.shape)
        step[i] = 1e-4
        slope[i] = (angle(molecule, xyz + step, torsion) - angle(molecule, xyz - step, torsion)) / 2e-4
    slope /= np.linalg.norm(slope)
    left = forces - (forces * slope).sum() * slope
    assert np.abs(left).max() < 0.05
    assert np.linalg.norm(forces) > 10 * np.linalg.norm(left)


@pytest.mark.parametrize(
    ("smiles", "torsions"),
    [
        ("CCCC", [(0, 1, 2, 3)]),
        ("CC", []),  # methyls only
        ("CC#CC", []),
        ("C1CCCCC1", []),
        ("c1ccccc1C(=O)O", [(0, 5, 6, 7), (7, 6, 8, 14)]),  # the outer atoms: the heaviest, then the first
        ("[NH3+]CCO", [(0, 1, 2, 3), (1, 2, 3, 11)]),
    ],
)
def test_rotatable_bonds(smiles, torsions):
    assert rotatable(from_smiles(smiles)) == torsions


def test_chosen_torsions(tmp_path):
    table = tmp_path / "torsions.csv"
    table.write_text("name,dihedral\nbutane,0 1 2 3\nbutane,4 0 1 2\nother,0 1 2 3\n")
    butane = from_smiles("CCCC", "butane")
    assert Scan(MMFFCalculator(), dihedrals=str(table)).entries(from_smiles("CCO", "not listed")) == {}
    entries = Scan(MMFFCalculator(), dihedrals=str(table)).entries(butane)
    assert {name: entry.driven for name, entry in entries.items()} == {
        "scan-0-1-2-3": (0, 1, 2, 3),
        "scan-4-0-1-2": (4, 0, 1, 2),
    }
    assert list(Scan(MMFFCalculator(), bonds="[CH3]-[CH2]").entries(butane)) == ["scan-4-0-1-2", "scan-1-2-3-11"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dihedrals": [[0, 1, 2]]}, "butane.*expected 4 atom indices"),
        ({"dihedrals": [[0, 1, 3, 2]]}, "butane.*not a chain of bonds"),
        ({"dihedrals": [[0, 1, 2, 99]]}, "butane.*not a chain of bonds"),
        ({"bonds": "[N]-[N]"}, "butane: no bond matches"),
        ({"bonds": "nonsense("}, "SMARTS"),
    ],
)
def test_torsions_that_are_none(settings, message):
    with pytest.raises(ValueError, match=message):
        Scan(MMFFCalculator(), **settings).entries(from_smiles("CCCC", "butane"))


def test_other_wrong_settings(tmp_path):
    with pytest.raises(ValueError, match="divides 360"):
        Scan(MMFFCalculator(), spacing=50)
    with pytest.raises(ValueError, match="dimensions=3"):
        Wavefront(MMFFCalculator(), dimensions=3)
    (tmp_path / "bad.csv").write_text("name,atoms\nbutane,0 1 2 3\n")
    with pytest.raises(ValueError, match=r"bad.csv: expected columns name and dihedral"):
        Scan(MMFFCalculator(), dihedrals=str(tmp_path / "bad.csv")).entries(from_smiles("CCCC", "butane"))
    with pytest.raises(ValueError, match="2 torsions to scan"):
        Scan(MMFFCalculator())(from_smiles("CCCCC"))


@pytest.mark.parametrize("spacing", [15, 24, 60, 180])
def test_grids(spacing):
    angles = grid(spacing)
    assert len(angles) == 360 // spacing
    assert min(angles) > -180
    assert max(angles) == 180
    assert set(np.diff(angles)) == {spacing}


class OneByOne:
    """A calculator without its batches."""

    def __init__(self, calculator):
        self.calculator, self.level, self.program = calculator, calculator.level, calculator.program

    def __call__(self, molecule, xyz):
        return self.calculator(molecule, xyz)


def test_two_torsions_side_by_side_are_those_one_by_one():
    force_field = ModelCalculator("espalike-small")
    molecule, torsions = from_smiles("OCO", "methanediol"), ((3, 0, 1, 2), (0, 1, 2, 6))
    settings = {"spacing": 120, "dihedrals": [sum(torsions, ())], "starts": 1, "steps": 400}
    calls = []

    class Counted(OneByOne):
        def batch(self, molecule, xyz):
            calls.append(len(xyz))
            return force_field.batch(molecule, xyz)

    together = Wavefront(Counted(force_field), **settings)(molecule)
    assert max(calls) >= 4  # points that are due at the same time are computed at the same time
    angles = [(a, b) for a in grid(120) for b in grid(120)]
    for xyz, targets in zip(together, angles, strict=True):
        assert intact(molecule, xyz)
        assert all(off(angle(molecule, xyz, four), value) < 0.1 for four, value in zip(torsions, targets, strict=True))
    alone = Wavefront(OneByOne(force_field), **settings)(molecule)
    energies = [force_field.batch(molecule, frames)[0] for frames in (together, alone)]
    assert np.ptp(energies[1]) > 2
    np.testing.assert_allclose(*energies, atol=0.1)


def test_a_pair_with_a_bond_in_a_ring_is_done_one_by_one():
    molecule = from_smiles("C1CCCCC1CO")
    ring, free = (0, 1, 2, 3), (0, 5, 6, 7)
    force_field = ModelCalculator("espalike-small")
    assert side_by_side(force_field, molecule, [free])
    assert not side_by_side(force_field, molecule, [free, ring])
    assert not side_by_side(OneByOne(force_field), molecule, [free])


def test_a_scan_side_by_side_ends_at_constrained_minima():
    """geomeTRIC, which gets the same force field without its batches, finds nothing lower nearby."""
    force_field = ModelCalculator("espalike-small")
    molecule, torsion = from_smiles("CCC(=O)NC"), (1, 2, 4, 5)
    frames = Scan(force_field, spacing=15, dihedrals=[torsion])(molecule)
    energies = force_field.batch(molecule, frames)[0]
    by_angle = dict(zip(grid(15), energies, strict=True))
    assert np.ptp(energies) > 5
    assert all(abs(by_angle[value] - by_angle[-value]) < 0.3 for value in range(15, 180, 15))  # it is not chiral
    assert all(off(angle(molecule, xyz, torsion), value) < 0.1 for value, xyz in zip(grid(15), frames, strict=True))
    assert all(intact(molecule, xyz) for xyz in frames)
    for i in range(2, 24, 7):
        value = grid(15)[i]
        assert constrained(OneByOne(force_field), molecule, frames[i], {torsion: value})[0] > energies[i] - 0.25


def test_amides_beside_rings_are_rotatable():
    for smiles in ("O=C(Nc1ccccc1)C", "O=C(c1ccccc1)NC", "CN1CCC(CC1)C(=O)N"):
        molecule = from_smiles(smiles)
        ring = {atom.GetIdx() for atom in to_rdkit(molecule).GetAtoms() if atom.IsInRing()}
        torsions = rotatable(molecule)
        assert any((j in ring) != (k in ring) for _, j, k, _ in torsions), smiles  # ring to amide
        numbers = molecule.numbers
        assert any({int(numbers[j]), int(numbers[k])} == {6, 7} and not {j, k} <= ring for _, j, k, _ in torsions), (
            smiles
        )

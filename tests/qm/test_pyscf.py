"""PySCF: dipoles and potentials against independent paths, any functional, restarts that agree with cold starts."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("pyscf")

from espalike.chem import embed, from_smiles
from espalike.qm.base import CalculatorError, gives, labelled
from espalike.qm.pyscf import PySCFCalculator
from espalike.qm.shells import MERZ_KOLLMAN, fibonacci, shells
from espalike.units import BOHR, COULOMB, DEBYE, HARTREE


def perturbed(smiles, seed=0, size=0.05, name=None):
    molecule = from_smiles(smiles, name)
    xyz = embed(molecule, seed=7)[0]
    return molecule, xyz + np.random.default_rng(seed).normal(0, size, xyz.shape)


def quick(**settings):
    return PySCFCalculator(**{"xc": "pbe", "basis": "def2-svp", "disp": "", "grid": 1, "scf_grid": 1} | settings)


def energy_in_field(calculator, molecule, xyz, strength):
    """Energy [hartree] of the molecule in a uniform electric field [hartree/(e bohr)]."""
    field = calculator._mean_field(molecule, xyz)
    field.grids.level, field.conv_tol = calculator.grid, 1e-11
    electrons = np.einsum("x,xij->ij", strength, field.mol.intor("int1e_r"))
    plain = field.get_hcore()
    field.get_hcore = lambda *_: plain + electrons
    nuclei = strength @ (field.mol.atom_charges() @ field.mol.atom_coords())
    return field.kernel() - nuclei


@pytest.mark.parametrize("smiles", ["O", "[OH-]", "[NH4+]"])
def test_the_dipole_is_the_slope_of_the_energy_in_a_field(smiles):
    calculator = quick(conv_tol=1e-11)
    molecule, xyz = perturbed(smiles)
    xyz += [1.0, -2.0, 0.5]  # of an ion it depends on the origin
    dipole = calculator.label(molecule, xyz).dipole
    step = 1e-3
    slope = [
        (
            energy_in_field(calculator, molecule, xyz, -step * axis)
            - energy_in_field(calculator, molecule, xyz, step * axis)
        )
        / (2 * step)
        for axis in np.eye(3)
    ]
    np.testing.assert_allclose(dipole, np.array(slope) * BOHR, atol=2e-4)
    assert np.abs(dipole).max() > 0.1


def test_the_dipole_of_an_ion_follows_the_origin():
    calculator = quick(conv_tol=1e-10)
    molecule, xyz = perturbed("[OH-]")
    shift = np.array([0.7, -0.2, 0.4])
    before, after = (calculator.label(molecule, at).dipole for at in (xyz, xyz + shift))
    np.testing.assert_allclose(after - before, -shift, atol=1e-4)


def test_water_is_as_polar_as_known():
    dipole = PySCFCalculator(xc="b3lyp", basis="def2-tzvpd", disp="").label(*perturbed("O", size=0.0)).dipole
    assert np.linalg.norm(dipole) / DEBYE == pytest.approx(1.855, abs=0.06)  # measured: 1.855 D


@pytest.mark.parametrize("smiles", ["O", "[OH-]"])
def test_the_potential_is_that_of_the_density_on_a_grid(smiles):
    """Independent of the integrals and of density fitting: ρ/|r − r′| summed over a fine quadrature grid."""
    import pyscf.dft

    molecule, xyz = perturbed(smiles)
    label = quick(grid=3, scf_grid=3).label(molecule, xyz, esp=True)
    mole = pyscf.gto.M(
        atom=list(zip(["O", "H", "H"], xyz.tolist(), strict=False)),
        basis="def2-svp",
        charge=molecule.net_charge,
        verbose=0,
    )
    field = pyscf.dft.RKS(mole, xc="pbe").run()
    grids = pyscf.dft.gen_grid.Grids(mole)
    grids.level = 7
    grids.build()
    orbitals = pyscf.dft.numint.eval_ao(mole, grids.coords)
    electrons = grids.weights * pyscf.dft.numint.eval_rho(mole, orbitals, field.make_rdm1())
    points = label.esp_points[::17]
    between = np.linalg.norm(points[:, None] - grids.coords * BOHR, axis=-1)
    to_nuclei = np.linalg.norm(points[:, None] - xyz, axis=-1)
    expected = HARTREE * BOHR * ((molecule.numbers / to_nuclei).sum(1) - (electrons / between).sum(1))
    np.testing.assert_allclose(
        label.esp_values[::17], expected, atol=0.05
    )  # the grid’s error where points lie in the density
    assert np.abs(expected).max() > 10


@pytest.mark.parametrize("smiles", ["CO", "[OH-]"])
def test_far_away_the_potential_is_that_of_charge_and_dipole(smiles, monkeypatch):
    far = 60.0 * fibonacci(40)
    monkeypatch.setattr("espalike.qm.pyscf.shells", lambda *_: far)
    molecule, xyz = perturbed(smiles)
    xyz -= xyz.mean(0)
    label = quick().label(molecule, xyz, esp=True)
    expected = COULOMB * (molecule.net_charge / 60.0 + far @ label.dipole / 60.0**3)
    # what is left is the quadrupole's, a few e Å² over r³
    np.testing.assert_allclose(label.esp_values, expected, atol=COULOMB * 3.0 / 60.0**3)
    assert np.ptp(expected) > 10 * np.abs(label.esp_values - expected).max()


def test_potentials_fit_in_pieces(monkeypatch):
    molecule, xyz = perturbed("O")
    calculator = quick(esp_density=0.3)
    whole = calculator.label(molecule, xyz, esp=True)
    monkeypatch.setattr("espalike.qm.pyscf._BLOCK", 1e5)
    pieces = calculator.label(molecule, xyz, esp=True)
    np.testing.assert_allclose(pieces.esp_values, whole.esp_values, atol=5e-3)  # converged anew
    np.testing.assert_array_equal(pieces.esp_points, whole.esp_points)


def test_the_potential_is_given_only_where_it_is_asked_for():
    calculator = quick(esp_density=0.1)
    molecule, xyz = perturbed("O")
    assert gives(calculator, "esp")
    assert labelled(calculator, molecule, xyz).esp_values is None
    label = labelled(calculator, molecule, xyz, esp=True)
    assert label.esp_points.shape == (len(label.esp_values), 3)
    energy, forces = calculator(molecule, xyz)
    assert label.energy == pytest.approx(energy, abs=1e-3)
    np.testing.assert_allclose(label.forces, forces, atol=0.02)


@pytest.mark.parametrize("scale", MERZ_KOLLMAN)
def test_points_lie_on_the_outer_surface_of_each_shell(scale):
    molecule, xyz = perturbed("CC(=O)[O-]")
    points = shells(molecule, xyz, density=3.0, scales=(scale,))
    radii = scale * np.array([{1: 1.10, 6: 1.70, 8: 1.52}[z] for z in molecule.numbers])
    depth = np.linalg.norm(points[:, None] - xyz, axis=-1) - radii
    np.testing.assert_allclose(depth.min(1), 0, atol=1e-5)
    # what is left of the spheres, by chance instead of by lattice
    rng = np.random.default_rng(0)
    area = 0.0
    for i, radius in enumerate(radii):
        random = rng.normal(size=(4000, 3))
        random = xyz[i] + radius * random / np.linalg.norm(random, axis=1, keepdims=True)
        outside = np.linalg.norm(random[:, None] - xyz, axis=-1) >= radii - 1e-9
        area += 4 * np.pi * radius**2 * outside.all(1).mean()
    assert len(points) == pytest.approx(3.0 * area, rel=0.05)


def test_points_are_evenly_spread_and_the_same_at_every_call():
    points = fibonacci(200)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1)
    np.testing.assert_allclose(points.T @ points / 200, np.eye(3) / 3, atol=0.01)
    nearest = np.sort(np.linalg.norm(points[:, None] - points, axis=-1), axis=1)[:, 1]
    assert nearest.min() > 0.6 * np.sqrt(4 * np.pi / 200)
    molecule, xyz = perturbed("CO")
    np.testing.assert_array_equal(shells(molecule, xyz), shells(molecule, xyz))
    np.testing.assert_array_equal(shells(molecule, xyz), shells(molecule, xyz).astype(np.float32))


def cycles(calculator, monkeypatch):
    """Runs a geometry and tells how many cycles it took."""
    fields = []
    make = calculator._mean_field
    monkeypatch.setattr(calculator, "_mean_field", lambda *a: fields.append(make(*a)) or fields[-1])

    def run(molecule, xyz):
        return calculator(molecule, xyz), fields[-1].cycles

    return run


def test_the_last_density_saves_cycles_and_changes_nothing(monkeypatch):
    molecule, xyz = perturbed("CO")
    near = xyz + np.random.default_rng(1).normal(0, 0.005, xyz.shape)
    calculator = quick(conv_tol=1e-9)
    run = cycles(calculator, monkeypatch)
    run(molecule, xyz)
    (energy, forces), warm = run(molecule, near)
    calculator._last = None
    (expected, expected_forces), cold = run(molecule, near)
    assert warm <= cold - 2
    assert energy == pytest.approx(expected, abs=1e-9 * HARTREE * 10)
    np.testing.assert_allclose(forces, expected_forces, atol=5e-3)


def test_a_geometry_far_away_starts_afresh(monkeypatch):
    molecule, xyz = perturbed("CO")
    calculator = quick()
    run = cycles(calculator, monkeypatch)
    run(molecule, xyz)
    (energy, _), _ = run(molecule, xyz[:, [1, 2, 0]])
    assert (
        energy
        == PySCFCalculator(**{k: getattr(calculator, k) for k in ("xc", "basis", "disp", "grid", "scf_grid")})(
            molecule, xyz[:, [1, 2, 0]]
        )[0]
    )


def test_labels_do_not_depend_on_what_was_computed_before(monkeypatch):
    """A run that is killed and goes on gives the very same labels; unless restarts are asked for."""
    molecule, xyz = perturbed("O")
    near = xyz + 0.003
    near[0] -= 0.002
    fresh = quick().label(molecule, near)
    calculator = quick()
    calculator(molecule, xyz)
    label = calculator.label(molecule, near)
    assert label.energy == fresh.energy
    np.testing.assert_array_equal(label.forces, fresh.forces)
    restarting = quick(restart=True)
    fields = []
    make = restarting._mean_field
    monkeypatch.setattr(restarting, "_mean_field", lambda *a: fields.append(make(*a)) or fields[-1])
    restarting.label(molecule, near)
    assert restarting.label(molecule, near).energy == pytest.approx(fresh.energy, abs=1e-4)
    assert fields[1].cycles <= fields[0].cycles - 3


def test_open_shells_are_refused_by_name():
    water = from_smiles("O", "my-water")
    with pytest.raises(CalculatorError, match="my-water: 9 electrons") as caught:
        quick()(replace(water, charges=np.array([1, 0, 0])), np.zeros((3, 3)))
    assert caught.value.reason == "open shell"


@pytest.mark.parametrize(
    ("xc", "disp", "told"),
    [
        ("b3lip", "", "B3LIP"),
        ("b3lyp", "d7", "d7"),
        ("svwn", "d3bj", "svwn"),
        ("wb97x-d", "", "not supported"),
        ("b97-3c", "", "composite"),
    ],
)
def test_unknown_functionals_and_dispersions_are_refused_at_once(xc, disp, told):
    with pytest.raises(ValueError, match=told):
        PySCFCalculator(xc=xc, disp=disp)


@pytest.mark.parametrize(
    ("xc", "basis", "disp", "level"),
    [
        ("hf", "def2-svp", "d3bj", "HF-D3BJ/DEF2-SVP"),
        ("pbe", "def2-svp", "d4", "PBE-D4/DEF2-SVP"),
        ("b3lyp", "dzvp", "d3bj", "B3LYP-D3BJ/DZVP"),
        pytest.param("wb97x-d3bj", "def2-svp", "", "WB97X-D3BJ/DEF2-SVP", marks=pytest.mark.slow),
        pytest.param("wb97m-v", "def2-svp", "", "WB97M-V/DEF2-SVP", marks=pytest.mark.slow),
    ],
)
def test_forces_at_any_level_are_the_negative_slope_of_the_energy(xc, basis, disp, level):
    calculator = PySCFCalculator(xc=xc, basis=basis, disp=disp, grid=3, scf_grid=3, conv_tol=1e-9)
    assert calculator.level == level
    molecule, xyz = perturbed("O")
    direction = np.random.default_rng(1).normal(size=xyz.shape)
    direction /= np.linalg.norm(direction)
    up, down = (calculator(molecule, xyz + sign * 3e-3 * direction)[0] for sign in (1, -1))
    assert np.vdot(calculator(molecule, xyz)[1], direction) == pytest.approx((down - up) / 6e-3, abs=0.02)


@pytest.mark.parametrize(("xc", "disp"), [("hf", ""), ("pbe", "")])
def test_energies_are_those_without_density_fitting(xc, disp):
    import pyscf.dft

    molecule, xyz = perturbed("O")
    mole = pyscf.gto.M(atom=list(zip("OHH", xyz.tolist(), strict=True)), basis="def2-svp", verbose=0)
    plain = pyscf.scf.RHF(mole) if xc == "hf" else pyscf.dft.RKS(mole, xc=xc)
    energy, _ = quick(xc=xc, disp=disp, grid=3, scf_grid=3)(molecule, xyz)
    assert energy == pytest.approx(plain.kernel() * HARTREE, abs=0.1)


def test_rotation_and_numbering_change_nothing_but_the_frame():
    from scipy.spatial.transform import Rotation

    calculator = quick(xc="hf", conv_tol=1e-10)  # without a grid, which turns with nothing
    molecule, xyz = perturbed("CO")
    label = calculator.label(molecule, xyz)
    turn = Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix()
    turned = calculator.label(molecule, xyz @ turn.T)
    assert turned.energy == pytest.approx(label.energy, abs=1e-5)
    np.testing.assert_allclose(turned.forces, label.forces @ turn.T, atol=5e-3)
    np.testing.assert_allclose(turned.dipole, turn @ label.dipole, atol=1e-4)
    order = np.array([5, 0, 3, 1, 4, 2])
    renumbered = replace(molecule, numbers=molecule.numbers[order], charges=molecule.charges[order])
    other = calculator.label(renumbered, xyz[order])
    assert other.energy == pytest.approx(label.energy, abs=1e-4)
    np.testing.assert_allclose(other.forces, label.forces[order], atol=1e-3)
    np.testing.assert_allclose(other.dipole, label.dipole, atol=1e-4)

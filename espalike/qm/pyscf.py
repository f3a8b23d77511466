"""Density functional theory by PySCF: B3LYP-D3BJ/DZVP as OpenFF's data were computed, or another level."""

from __future__ import annotations

import warnings

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.qm.base import CalculatorError, Label, checked, finite
from espalike.qm.shells import shells
from espalike.units import BOHR, HARTREE

_NEAR = 0.15
"""Largest RMS displacement of the atoms [Å] at which the last density matrix starts the next calculation."""
_NONLOCAL_GRID = 1
"""Grid level of nonlocal correlation (VV10): at a tenth of the cost, water's forces are within 0.003 kcal/mol/Å
of those at PySCF's default of 3."""
_BLOCK = 64e6
"""Bytes of integrals held at once when a potential is evaluated."""


class PySCFCalculator:
    """Restricted Kohn–Sham with density fitting: energy, forces, dipole moment and electrostatic potential.

    The density matrix of the last geometry starts a call for the next one of the same molecule when they are near: for
    methanol and acetamide a displacement of 0.01 Å saves 2 to 3 of 8 to 10 cycles, one of 0.1 Å saves one, and
    between thermal frames in random order it costs cycles instead. A label starts afresh unless `restart` is set, so
    that it is the same whatever was computed before.

    The orbitals are converged on a coarse grid; energy and gradient are then evaluated with them on a finer one, since
    it is their quadrature that makes the grid error. For methanesulfonamide, forces of `grid` 2 deviate from those of
    level 3 by 0.036 kcal/mol/Å RMS, whether `scf_grid` is 2 or 1; 2 costs a third more.

    Args:
        xc: functional in PySCF's names; `hf` is Hartree–Fock.
        basis: basis set in PySCF's names; spherical functions.
        disp: dispersion correction in PySCF's names (`d3bj`, `d4`), or empty for none.
        grid: PySCF grid level of energy and gradient.
        scf_grid: PySCF grid level on which the orbitals are converged.
        conv_tol: energy convergence [hartree].
        max_cycle: cycles before a second-order solver takes over.
        memory: what a calculation may hold [MB]; larger integrals go to disk.
        restart: whether labels start from the last density matrix too, as for the near geometries of a scan.
        esp_density: points of the electrostatic potential on each of the four Merz–Kollman shells [1/Å²].

    Raises:
        ValueError: when PySCF has no such functional, or no such dispersion correction for it.
    """

    properties = frozenset({"dipole", "esp"})

    def __init__(
        self,
        xc: str = "b3lyp",
        basis: str = "dzvp",
        disp: str = "d3bj",
        grid: int = 2,
        scf_grid: int = 1,
        conv_tol: float = 1e-8,
        max_cycle: int = 60,
        memory: int = 2000,
        restart: bool = False,
        esp_density: float = 1.0,
    ):
        import pyscf.dft

        pyscf.lib.num_threads(1)  # two one-thread processes beat one of two threads
        _check(xc, disp)
        self.xc, self.basis, self.disp = xc, basis, disp
        self.grid, self.scf_grid, self.conv_tol, self.max_cycle = grid, scf_grid, conv_tol, max_cycle
        self.memory, self.restart, self.esp_density = memory, restart, esp_density
        self.level = "-".join(part.upper() for part in (xc, disp) if part) + "/" + basis.upper()
        self.program = f"pyscf {pyscf.__version__}"
        self._last: tuple[Molecule, np.ndarray, np.ndarray] | None = None

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`; see `espalike.qm.base.Calculator`."""
        label = self._label(molecule, xyz, False)
        return label.energy, label.forces

    def label(self, molecule: Molecule, xyz: np.ndarray, esp: bool = False) -> Label:
        """Energy, forces and dipole moment, and the electrostatic potential if `esp` is true.

        The dipole moment is that of the electrons and nuclei about the origin of the coordinates, for ions too. The
        potential is evaluated exactly, not from fitted densities, at the points of `espalike.qm.shells`.

        Raises:
            CalculatorError: when the calculation fails, naming the molecule.
        """
        if not self.restart:
            self._last = None
        return self._label(molecule, xyz, esp)

    def _label(self, molecule: Molecule, xyz: np.ndarray, esp: bool) -> Label:
        xyz = checked(molecule, xyz)
        field = self._mean_field(molecule, xyz)
        try:
            energy = self._converge(molecule, xyz, field)
            gradient = field.nuc_grad_method().kernel()
        except (RuntimeError, np.linalg.LinAlgError, ArithmeticError) as error:
            if isinstance(error, CalculatorError):
                raise
            raise CalculatorError("failed", f"{molecule.name}: {self.level}: {error}") from error
        density = field.make_rdm1()
        self._last = (molecule, xyz, density)
        energy, forces = finite(molecule, self.level, energy * HARTREE, -np.asarray(gradient) * (HARTREE / BOHR))
        dipole = field.dip_moment(dm=density, unit="AU", verbose=0) * BOHR
        if not esp:
            return Label(energy, forces, dipole)
        points = shells(molecule, xyz, self.esp_density)
        return Label(energy, forces, dipole, points, potential(field.mol, density, points))

    def _mean_field(self, molecule: Molecule, xyz: np.ndarray):
        import pyscf.dft
        from pyscf.data.elements import ELEMENTS

        electrons = int(molecule.numbers.sum()) - molecule.net_charge
        if electrons % 2:
            raise CalculatorError("open shell", f"{molecule.name}: {electrons} electrons; closed shells only")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # advice on a missing basis; the error is enough
                mole = pyscf.gto.M(
                    atom=[(ELEMENTS[number], row) for number, row in zip(molecule.numbers, xyz.tolist(), strict=True)],
                    basis=self.basis,
                    charge=molecule.net_charge,
                    cart=False,
                    unit="Angstrom",
                    verbose=0,
                    max_memory=self.memory,
                )
        except (RuntimeError, KeyError) as error:  # BasisNotFoundError is a RuntimeError
            raise CalculatorError("basis", f"{molecule.name}: {self.basis}: {error}") from error
        field = pyscf.dft.RKS(mole, xc=self.xc).density_fit()
        field.disp = self.disp or None
        field.nlcgrids.level = _NONLOCAL_GRID
        field.max_cycle = self.max_cycle
        return field

    def _start(self, molecule: Molecule, xyz: np.ndarray) -> np.ndarray | None:
        """The last density matrix, when it is of this molecule and of a geometry near by."""
        last = self._last  # read once: another thread may replace it
        if last is None or last[0] is not molecule:
            return None
        _, before, density = last
        return density if np.sqrt(((xyz - before) ** 2).sum(1).mean()) < _NEAR else None

    def _converge(self, molecule: Molecule, xyz: np.ndarray, field) -> float:
        field.grids.level, field.conv_tol = self.scf_grid, self.conv_tol
        energy = field.kernel(dm0=self._start(molecule, xyz))
        if not field.converged:
            newton = field.newton()
            energy = newton.kernel(dm0=field.make_rdm1())
            field.mo_coeff, field.mo_occ, field.mo_energy = newton.mo_coeff, newton.mo_occ, newton.mo_energy
            field.e_tot, field.converged = energy, newton.converged
        if not field.converged:
            raise CalculatorError("not converged", f"{molecule.name}: {self.level} did not converge")
        if self.grid != self.scf_grid:
            field.grids.reset()
            field.grids.level = self.grid
            energy = field.energy_tot()
        return energy


def _check(xc: str, disp: str) -> None:
    """Try functional and dispersion correction on a hydrogen molecule, so that a wrong name is reported at once."""
    import pyscf.dft

    if xc.lower().endswith("3c"):
        raise ValueError(f"{xc}: composite methods, which have their own basis, are not supported")
    field = pyscf.dft.RKS(pyscf.gto.M(atom="H 0 0 0; H 0 0 0.74", basis="sto-3g", verbose=0), xc=xc)
    field.disp = disp or None
    try:
        field._numint.libxc.is_hybrid_xc(field.xc)
        field.get_dispersion()
    except ImportError as error:
        raise ImportError(f"dispersion {disp!r} needs pyscf-dispersion: pip install 'espalike[qm]'") from error
    except (KeyError, ValueError, RuntimeError) as error:  # NotImplementedError is a RuntimeError
        name = "-".join(part for part in (xc, disp) if part)
        raise ValueError(f"PySCF does not know {name!r}: {str(error).strip()}; give xc and disp as it does") from error


def potential(mole, density: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Electrostatic potential of nuclei and electrons at points [kcal/mol/e], shape `(G,)`.

    V(r) = Σ_A Z_A / |r − R_A| − Σ_μν D_μν ∫ φ_μ(r′) φ_ν(r′) / |r − r′| dr′, exact within the basis.

    Args:
        mole: PySCF's molecule.
        density: density matrix in its basis.
        points: [Å], shape `(G, 3)`.
    """
    at = points / BOHR
    distance = np.linalg.norm(at[:, None] - mole.atom_coords(), axis=-1)
    values = (mole.atom_charges() / distance).sum(1)
    size = max(1, int(_BLOCK / (8 * mole.nao**2)))
    for start in range(0, len(at), size):
        block = slice(start, start + size)
        integrals = mole.intor("int1e_grids", hermi=1, grids=at[block])
        values[block] -= np.einsum("gij,ij->g", integrals, density)
    return values * HARTREE

"""Minimisation at given torsions, by geomeTRIC on any calculator."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager

import numpy as np
from rdkit.Chem import rdMolTransforms

from espalike.chem import to_rdkit
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError
from espalike.qm.sampling.torsions import measured
from espalike.units import BOHR, HARTREE

TOLERANCE = 0.05
"""Largest miss of a constrained torsion [degree]."""


def constrained(
    calculator: Calculator,
    molecule: Molecule,
    xyz: np.ndarray,
    angles: Mapping[tuple[int, ...], float],
    steps: int = 200,
    convergence: str = "GAU",
) -> tuple[float, np.ndarray]:
    """Energy [kcal/mol] and geometry [Å] `(A, 3)` of the minimum near `xyz` under torsion constraints.

    The torsions are turned to their angles first, then everything else relaxes in delocalised internal coordinates
    (geomeTRIC, L.-P. Wang and C. Song, J. Chem. Phys. 144 (2016) 214108), made from the molecule's own bonds.

    Args:
        calculator: gives energy and forces.
        molecule: the graph.
        xyz: where it starts [Å], shape `(A, 3)`.
        angles: the constraints: four atoms and their torsion angle [degree].
        steps: of the optimiser.
        convergence: a set of criteria by geomeTRIC's name: `GAU_LOOSE`, `GAU`, `GAU_TIGHT`.

    Raises:
        CalculatorError: when the calculator fails, the minimisation does not converge or the constraints do not hold.
    """
    from geometric.errors import Error
    from geometric.internal import DelocalizedInternalCoordinates, Dihedral
    from geometric.optimize import Optimize
    from geometric.params import OptParams

    start = turned(molecule, xyz, angles)
    where = ", ".join(f"{'-'.join(map(str, atoms))} at {angle:g}°" for atoms, angle in angles.items())
    topology = _molecule(molecule, start)
    targets = [float(np.deg2rad(angle)) for angle in angles.values()]
    constraints = [Dihedral(*map(int, atoms)) for atoms in angles]
    params = OptParams(convergence_set=convergence, maxiter=steps)
    try:
        # geomeTRIC divides by zero on its way past linear angles, and recovers
        with np.errstate(all="ignore"), _contained():
            internal = DelocalizedInternalCoordinates(
                topology, build=True, connect=True, constraints=constraints, cvals=targets, conmethod=1
            )
            engine = _engine(calculator, molecule, topology)
            path = Optimize(start.ravel() / BOHR, topology, internal, engine, "", params, print_info=False)
    except (Error, np.linalg.LinAlgError, ValueError, RuntimeError) as error:
        if isinstance(error, CalculatorError):
            raise
        text = str(error).strip().splitlines()
        raise CalculatorError("not minimised", f"{molecule.name}: {where}: {text[0] if text else error!r}") from error
    end = np.array(path.xyzs[-1], dtype=np.float64)
    if any(abs((measured(end, atoms) - angle + 180) % 360 - 180) > TOLERANCE for atoms, angle in angles.items()):
        raise CalculatorError("not minimised", f"{molecule.name}: {where}: ends more than {TOLERANCE}° off")
    return float(path.qm_energies[-1]) * HARTREE, end


def turned(molecule: Molecule, xyz: np.ndarray, angles: Mapping[tuple[int, ...], float]) -> np.ndarray:
    """`xyz` [Å] with one side of each torsion turned to its angle [degree]; torsions in rings stay as they are."""
    mol = to_rdkit(molecule, xyz)
    conformer = mol.GetConformer()
    for atoms, angle in angles.items():
        i, j, k, l = map(int, atoms)  # noqa: E741
        if not mol.GetBondBetweenAtoms(j, k).IsInRing():
            rdMolTransforms.SetDihedralDeg(conformer, i, j, k, l, float(angle))
    return np.array(conformer.GetPositions())


@contextmanager
def _contained():
    """Keep geomeTRIC's log of every step to itself, and give its random moves out of trouble a seed of their own."""
    from geometric.nifty import logger

    before, logger.disabled = logger.disabled, True
    state = np.random.get_state()  # noqa: NPY002 - geomeTRIC draws from NumPy's global generator
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        logger.disabled = before
        np.random.set_state(state)  # noqa: NPY002


def _molecule(molecule: Molecule, xyz: np.ndarray):
    """geomeTRIC's molecule, its bonds taken from the graph instead of guessed from distances."""
    from geometric.molecule import Molecule as GeometricMolecule
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    made = GeometricMolecule()
    made.elem = [table.GetElementSymbol(int(z)) for z in molecule.numbers]
    made.xyzs = [np.array(xyz)]
    made.bonds = [(int(i), int(j)) for i, j in molecule.bonds]
    made.top_settings["read_bonds"] = True
    made.build_topology()
    return made


def _engine(calculator: Calculator, molecule: Molecule, topology):
    from geometric.engine import Engine

    class CalculatorEngine(Engine):
        def calc(self, coords, dirname, read_data=False, copydir=None):
            energy, forces = calculator(molecule, np.asarray(coords).reshape(-1, 3) * BOHR)
            return {"energy": energy / HARTREE, "gradient": -forces.ravel() * (BOHR / HARTREE)}

    return CalculatorEngine(topology)

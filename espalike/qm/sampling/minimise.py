"""Minimisation on any calculator: one geometry at a time, or many at once where the calculator computes batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError, batched

Bias = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""`(xyz (k, A, 3), numbers (k,)) -> energies (k,), forces (k, A, 3)`, which are added to those of the calculator.
`numbers` says which of the geometries these are."""
_MEMORY = 8
_FARTHEST = 0.2
_SHORTEST = 1e-5


def minimised(calculator: Calculator, molecule: Molecule, xyz: np.ndarray, steps: int = 200) -> np.ndarray:
    """Geometry [Å] `(A, 3)` after at most `steps` steps of L-BFGS from `xyz`, to 0.1 kcal/mol/Å.

    Where a long step of the line search leads to a geometry that the calculator cannot do, the search begins again in
    boxes of ±0.1 Å, ten of them at most.

    Raises:
        CalculatorError: when that fails too.
    """

    def objective(flat: np.ndarray):
        energy, forces = calculator(molecule, flat.reshape(-1, 3))
        return energy, -forces.ravel()

    def search(start: np.ndarray, box: float) -> np.ndarray:
        bounds = np.stack([start - box, start + box], axis=1)
        options = {"maxiter": steps, "gtol": 0.1, "maxls": 30}
        return minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x

    point = np.ravel(xyz).astype(np.float64)
    try:
        return search(point, np.inf).reshape(-1, 3)
    except CalculatorError:
        for _ in range(10):
            before, point = point, search(point, 0.1)
            if np.abs(point - before).max() < 0.099:
                break
    return point.reshape(-1, 3)


def minimised_batch(
    calculator: Calculator,
    molecule: Molecule,
    xyz: np.ndarray,
    steps: int = 200,
    bias: Bias | None = None,
    tolerance: float = 0.1,
) -> np.ndarray:
    """Geometries [Å] `(K, A, 3)` after at most `steps` evaluations each, all of them side by side.

    L-BFGS (J. Nocedal, Math. Comput. 35 (1980) 773) with steps that shrink where the energy rises, instead of a line
    search. Geometries that have converged are not computed again.

    Args:
        calculator: best one that computes batches.
        molecule: the graph.
        xyz: where they start [Å], shape `(K, A, 3)`.
        steps: evaluations of each geometry, at most.
        bias: energies and forces that are added.
        tolerance: largest force component at which a geometry has converged [kcal/mol/Å].

    Raises:
        CalculatorError: when the calculator fails.
    """

    def evaluate(points: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        energies, forces = batched(calculator, molecule, points)
        if bias is not None:
            more, pull = bias(points, numbers)
            energies, forces = energies + more, forces + pull
        return energies, -forces.reshape(len(points), -1)

    x = np.array(xyz, dtype=np.float64)
    shape = x.shape[1:]
    x = x.reshape(len(x), -1)
    history = _History(*x.shape)
    limit = np.full(len(x), 0.5 * _FARTHEST)
    energy, gradient = evaluate(x.reshape(-1, *shape), np.arange(len(x)))
    for _ in range(steps - 1):
        active = np.flatnonzero((np.abs(gradient).max(axis=1) > tolerance) & (limit > _SHORTEST))
        if not len(active):
            break
        step = history.direction(active, gradient[active])
        step *= np.minimum(1.0, limit[active] / np.abs(step).max(axis=1))[:, None]
        new_energy, new_gradient = evaluate((x[active] + step).reshape(-1, *shape), active)
        lower = new_energy < energy[active]
        good, bad = active[lower], active[~lower]
        history.add(good, step[lower], new_gradient[lower] - gradient[good])
        x[good] += step[lower]
        energy[good], gradient[good] = new_energy[lower], new_gradient[lower]
        limit[good] = np.minimum(2.0 * limit[good], _FARTHEST)
        limit[bad] = 0.3 * np.abs(step[~lower]).max(axis=1)
        history.forget(bad)
    return x.reshape(-1, *shape)


class _History:
    """The last steps of each geometry and the changes of the gradient on them, from which L-BFGS takes curvatures."""

    def __init__(self, count: int, size: int):
        self._steps = np.zeros((_MEMORY, count, size))
        self._changes = np.zeros((_MEMORY, count, size))
        self._weights = np.zeros((_MEMORY, count))  # 1 / step · change; 0: none

    def add(self, numbers: np.ndarray, steps: np.ndarray, changes: np.ndarray) -> None:
        """The newest step of some geometries; one along which the curvature is not positive counts as none."""
        product = (steps * changes).sum(axis=1)
        for rows, new in ((self._steps, steps), (self._changes, changes)):
            rows[1:, numbers] = rows[:-1, numbers]
            rows[0, numbers] = new
        self._weights[1:, numbers] = self._weights[:-1, numbers]
        self._weights[0, numbers] = np.where(product > 1e-10, 1.0 / np.maximum(product, 1e-10), 0.0)

    def forget(self, numbers: np.ndarray) -> None:
        """Drop the steps of some geometries."""
        self._weights[:, numbers] = 0.0

    def direction(self, numbers: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Steps [Å] of some geometries by the two-loop recursion; along the gradient where nothing is known."""
        steps, changes, weights = (rows[:, numbers] for rows in (self._steps, self._changes, self._weights))
        q = gradient.copy()
        alphas = np.zeros(weights.shape)
        for i in range(_MEMORY):
            alphas[i] = weights[i] * (steps[i] * q).sum(axis=1)
            q -= alphas[i][:, None] * changes[i]
        curvature = weights[0] * (changes[0] ** 2).sum(axis=1)
        q /= np.where(curvature > 0, curvature, 1000.0)[:, None]  # kcal/mol/Å²: a bond's, until a step is known
        for i in reversed(range(_MEMORY)):
            beta = weights[i] * (changes[i] * q).sum(axis=1)
            q += (alphas[i] - beta)[:, None] * steps[i]
        uphill = (q * gradient).sum(axis=1) <= 0
        q[uphill] = gradient[uphill] / 1000.0
        return -q

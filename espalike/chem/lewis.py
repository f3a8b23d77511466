"""Bond orders and formal charges of a closed-shell molecule whose bonds are known: the best of all Lewis structures.

An integer programme finds it exactly: every bond has order 1, 2 or 3, every atom one of its element's valence states,
the orders at an atom add up to its valence, the formal charges to the total charge, and the states' costs are least.
"""

from __future__ import annotations

import numpy as np

HALOGENS = (9, 17, 35, 53)
STATES = {
    1: ((1, 0, 0.0),),
    5: ((3, 0, 0.0), (4, -1, 1.0)),
    6: ((4, 0, 0.0), (3, -1, 3.0), (3, 1, 4.0)),
    7: ((3, 0, 0.0), (4, 1, 1.0), (2, -1, 1.05)),
    8: ((2, 0, 0.0), (1, -1, 1.0), (3, 1, 2.0)),
    14: ((4, 0, 0.0),),
    15: ((3, 0, 0.0), (5, 0, 0.3), (4, 1, 1.2)),
    16: ((2, 0, 0.0), (4, 0, 0.3), (6, 0, 0.4), (3, 1, 1.5), (1, -1, 0.9)),
    **dict.fromkeys(HALOGENS, ((1, 0, 0.0),)),
}
"""Valence, formal charge [e] and cost of the states of each element. A charge costs about 1, more where it is unusual;
expanded octets cost less than the two charges that would avoid them."""


_AT_THE_END = 0.1
"""What a nitrogen anion costs less at the end of a chain: N=[N+]=[N-] is better than [N-][N+]#N."""
_AS_DRAWN = 0.04
"""Cost of an order by one from the drawn one: about the difference of states that are equally usual."""


def lewis(
    numbers: np.ndarray, bonds: np.ndarray, charge: int | None, drawn: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Bond orders and formal charges, or None when there is no closed-shell structure of the elements in `STATES`.

    Args:
        numbers: atomic numbers, shape `(A,)`.
        bonds: bonded pairs, shape `(B, 2)`.
        charge: total charge [e]; None: that of the best structure of any charge.
        drawn: orders that are preferred among structures of about equal cost, shape `(B,)`.

    Returns:
        Bond orders, shape `(B,)`, and formal charges [e], shape `(A,)`; int64.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import, and most files say the bond orders

    if not set(numbers.tolist()) <= STATES.keys():
        return None
    atoms, rows = len(numbers), len(bonds)
    states = [(i, *state) for i, number in enumerate(numbers.tolist()) for state in STATES[number]]
    of_atom, valence, charges, cost = (np.array(column) for column in zip(*states, strict=True))
    neighbours = np.bincount(np.ravel(bonds), minlength=atoms)
    cost = cost - _AT_THE_END * ((charges < 0) & (neighbours[of_atom] == 1) & (numbers[of_atom] == 7))
    columns = rows + len(states)
    at = rows + np.arange(len(states))
    one, sums, total = np.zeros((atoms, columns)), np.zeros((atoms, columns)), np.zeros((1, columns))
    one[of_atom, at] = 1
    sums[of_atom, at] = -valence
    for end in bonds.T:
        sums[end, np.arange(rows)] = 1
    total[0, at] = charges
    objective = np.concatenate([np.zeros(rows), cost])
    low, high = np.r_[np.ones(rows), np.zeros(len(states))], np.r_[np.full(rows, 3), np.ones(len(states))]
    constraints = [LinearConstraint(one, 1, 1), LinearConstraint(sums, 0, 0)]
    constraints += [] if charge is None else [LinearConstraint(total, charge, charge)]
    if drawn is not None:  # one more column per bond: how far its order is from the drawn one
        order = np.eye(rows, columns)
        apart = np.block([[order, np.eye(rows)], [-order, np.eye(rows)]])
        constraints = [LinearConstraint(np.pad(c.A, ((0, 0), (0, rows))), c.lb, c.ub) for c in constraints]
        constraints.append(LinearConstraint(apart, np.r_[drawn, -drawn], np.inf))
        objective = np.r_[objective, np.full(rows, _AS_DRAWN)]
        low, high = np.r_[low, np.zeros(rows)], np.r_[high, np.full(rows, 3)]
    integer = np.r_[np.ones(columns), np.zeros(len(objective) - columns)]
    solution = milp(objective, integrality=integer, bounds=Bounds(low, high), constraints=constraints)
    if solution.x is None:
        return None
    values = np.rint(solution.x[:columns]).astype(np.int64)
    return values[:rows], np.bincount(of_atom, values[rows:] * charges, atoms).astype(np.int64)


def cost(numbers: np.ndarray, bonds: np.ndarray, orders: np.ndarray, charges: np.ndarray) -> float:
    """Cost of a structure that `lewis` found."""
    valences = np.bincount(np.ravel(bonds), np.repeat(orders, 2), len(numbers)).astype(int)
    known = {(z, valence, charge): price for z, states in STATES.items() for valence, charge, price in states}
    return sum(known[row] for row in zip(numbers.tolist(), valences.tolist(), charges.tolist(), strict=True))

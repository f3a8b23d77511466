"""Interaction energies of the wrong sign or unit, and total energies in their place, are refused."""

import re
from dataclasses import replace

import numpy as np
import pytest

from espalike.chem.complexes import complex_from_smiles
from espalike.chem.conformers import Conformers
from espalike.data.audit import Audit
from espalike.data.schema import Record

WATER = np.array([[0, 0, 0], [0.957, 0, 0], [-0.24, 0.927, 0]])
DISTANCES = np.array([2.5, 2.8, 3.2, 4.0, 6.0])
WELL = np.array([2.0, -4.5, -3.0, -1.0, -0.1])  # [kcal/mol]


def verdict(energies, molecules=4):
    """The audit's verdict on dimers of water at these distances, in another order."""
    order = np.array([3, 0, 4, 2, 1])[: len(energies)]
    xyz = np.stack([np.vstack([WATER, WATER + np.array([0, 0, d])]) for d in DISTANCES[: len(energies)]])[
        np.argsort(order)
    ]
    energies = np.asarray(energies, dtype=np.float64)[np.argsort(order)]
    conformers = Conformers(xyz, np.full(len(xyz), np.nan), None, "CCSD(T)", "dimers", interaction=energies)
    record = Record("dimer", complex_from_smiles("[O:1]([H:2])[H:3].[O:4]([H:5])[H:6]", "dimer"), conformers)
    audit = Audit()
    for number in range(molecules):
        audit.add(replace(record, id=f"dimer-{number}"))
    (found,) = Audit(audit.state()).verdicts()
    assert (found.audit, found.where) == ("interaction", "dimers, CCSD(T)")
    return found


@pytest.mark.parametrize(
    ("energies", "molecules", "outcome", "message"),
    [
        (WELL, 4, "passed", "from -4.5 to 2 kcal/mol; 4 of 4 complexes have a minimum along the distance"),
        (WELL, 2, "skipped", "too few complexes"),
        (WELL[:1], 4, "skipped", "from 2 to 2 kcal/mol; too few complexes"),
        (-WELL, 4, "failed", "4 of 4 complexes have a maximum .*, and 0 a minimum: .* of the opposite sign"),
        (WELL / 627.5, 4, "failed", "less than 0.02 kcal/mol in most of 4 complexes: hartree?"),
        (WELL - 95_800.0, 1, "failed", "in 1 of 1 complexes too large: total energies?"),
    ],
)
def test_signs_and_sizes(energies, molecules, outcome, message):
    found = verdict(energies, molecules)
    assert found.outcome == outcome
    assert re.search(message, found.message), found.message

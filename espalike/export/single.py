"""What all exporters share: one molecule out of a system, checked, in float64, and torsions as Fourier series."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch

from espalike.chem.molecule import Molecule
from espalike.model import fit_to_formal
from espalike.system import Bound, MMSystem
from espalike.terms.base import PairTerm
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.torsion import PERIODS, PeriodicImproper, PeriodicProper, PeriodicProperOdd, PeriodicProperPhase
from espalike.tuples import Tuples


class ExportError(ValueError):
    """A system that a file format cannot express, or that is not fit to be written."""


def select(system: MMSystem, index: int | None = None) -> MMSystem:
    """The system of one molecule: float64, detached, on the CPU, charges summing to the formal charge.

    Args:
        system: parametrized molecules, with their graphs.
        index: which molecule; may be left out if there is one.

    Raises:
        ExportError: when the graphs are missing, the molecule is not named among several, a parameter is not a finite
            number, or the charges belong to another protonation state.
    """
    graphs = system.molecules
    if not graphs:
        raise ExportError(
            "the system carries no molecules, so their bonds and charges are unknown; make it by parametrize"
        )
    if index is None and len(graphs) > 1:
        names = ", ".join(f"{i} {m.name}" for i, m in enumerate(graphs[:10]))
        raise ExportError(f"the system holds {len(graphs)} molecules; say which one with index= ({names}, …)")
    index = 0 if index is None else index
    if not 0 <= index < len(graphs):
        raise ExportError(f"there is no molecule {index}; the system holds {len(graphs)}, counted from 0")
    molecule = graphs[index]
    atoms = torch.nonzero(system.mol == index)[:, 0]
    terms = []
    for bound in system.terms:
        rows = torch.nonzero(bound.tuples.mol == index)[:, 0]
        is14 = None if bound.tuples.is14 is None else bound.tuples.is14[rows].cpu()
        values = bound.values[atoms if isinstance(bound.term, PairTerm) else rows].detach().cpu().double().clone()
        if not torch.isfinite(values).all():
            raise ExportError(f"{molecule.name}: parameters of {bound.term.name} are not all finite numbers")
        for column, param in enumerate(bound.term.params):
            if param.link == "charge":
                values[:, column] = torch.from_numpy(fit_to_formal(molecule, values[:, column].numpy()))
        idx = bound.tuples.idx[rows].cpu() - int(atoms[0])
        terms.append(Bound(bound.term, Tuples(idx, torch.zeros(len(idx), dtype=torch.int64), is14), values))
    numbers = system.numbers[atoms].cpu()
    return MMSystem(tuple(terms), numbers, torch.zeros_like(numbers), (molecule,))


def fourier(bound: Bound) -> list[list[tuple[int, float, float]]] | None:
    """Per tuple the (periodicity, phase [rad], k [kcal/mol]) of each of its dihedrals; None if it is no Fourier series.

    Energy k (1 + cos(nφ − phase)); zeros are left out. The dihedrals are `term.coordinates`. The sum over a molecule is
    the term's energy, constants included.
    """
    kind, values = type(bound.term), bound.values.tolist()
    if kind is PeriodicProperOdd:
        return _with_sines(values)
    if kind is PeriodicProper:
        return [[(n, 0.0, k) for n, k in zip(PERIODS, row, strict=True) if k] for row in values]
    if kind is PeriodicProperPhase:
        half = len(PERIODS)
        return [[(n, d, k) for n, k, d in zip(PERIODS, row[:half], row[half:], strict=True) if k] for row in values]
    if kind is PeriodicImproper:
        return [[(2, math.pi, k / 3.0)] if k else [] for (k,) in values]
    return None


def _with_sines(values: list[list[float]]) -> list[list[tuple[int, float, float]]]:
    """k (1 + cos nφ) + s sin nφ is a (1 + cos(nφ − δ)) + k − a with a² = k² + s², tan δ = s/k.

    The constants of all rows stand in the first row, as c/2 (1 + cos φ) + c/2 (1 + cos(φ − π)) = c.
    """
    half, constant = len(PERIODS), 0.0
    rows: list[list[tuple[int, float, float]]] = []
    for row in values:
        rows.append([])
        for n, k, s in zip(PERIODS, row[:half], row[half:], strict=True):
            if amplitude := math.hypot(k, s):
                rows[-1].append((n, math.atan2(s, k), amplitude))
                constant += k - amplitude
    if constant:
        rows[0] += [(1, 0.0, constant / 2.0), (1, math.pi, constant / 2.0)]
    return rows


def pair_scales(bound: Bound, n_atoms: int) -> np.ndarray:
    """Factor on each pair's interaction, `(A, A)`, upper triangle: 0 excluded, `scale14` for 1-4, 1 beyond."""
    scales = np.zeros((n_atoms, n_atoms))
    i, j = bound.tuples.idx.numpy().T
    is14 = np.zeros(len(i), dtype=bool) if bound.tuples.is14 is None else bound.tuples.is14.numpy()
    scales[np.minimum(i, j), np.maximum(i, j)] = np.where(is14, float(bound.scale14), 1.0)
    return scales


def nonbonded(system: MMSystem) -> tuple[Bound | None, Bound | None]:
    """The Lennard-Jones and the Coulomb term of a one-molecule system, None where it has none."""
    found = {type(bound.term): bound for bound in system.terms}
    return found.get(LennardJones), found.get(Coulomb)


def facts(molecule: Molecule, info: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every file says of itself: program, molecule, formal charge, and the caller's provenance."""
    from importlib.metadata import version

    own = {"Source": f"espalike {version('espalike')}", "Molecule": molecule.name, "SMILES": molecule.smiles}
    return own | {"FormalCharge": str(molecule.net_charge)} | {key: str(text) for key, text in (info or {}).items()}

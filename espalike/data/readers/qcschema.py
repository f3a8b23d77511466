"""QCSchema results, versions 1 and 2, as dictionaries: what was computed, in bohr and hartree.

https://molssi.github.io/QCElemental describes the models. Result kinds are told apart by their fields: an optimisation
has a trajectory, a torsion drive has final molecules, the rest is a single point.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from espalike.data.schema import RecordError

MAPPED_SMILES = "canonical_isomeric_explicit_hydrogen_mapped_smiles"
"""Where QCArchive keeps the mapped SMILES: among a molecule's identifiers or extras, or an entry's attributes."""
_LEVELS = ("ccsd_prt_pr", "ccsd", "mp2", "scf")
_METHODS = {"gfn1-xtb": "GFN1-xTB", "gfn2-xtb": "GFN2-xTB", "gfn0-xtb": "GFN0-xTB", "gfn-ff": "GFN-FF"}
_OF_QCPORTAL = (
    "; a record of qcportal: write json.loads(record.to_qcschema_result().json()), or the data set by create_view()"
)
_SAME = 1e-7
"""hartree between two values of the same energy."""


@dataclass(frozen=True, eq=False)
class Point:
    """One geometry.

    Attributes:
        xyz: coordinates [bohr], shape `(A, 3)`.
        energy: [hartree], or None.
        gradient: dE/dx [hartree/bohr], shape `(A, 3)`, or None.
        dipole: [e bohr], shape `(3,)`, or None.
    """

    xyz: np.ndarray
    energy: float | None
    gradient: np.ndarray | None = None
    dipole: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """A computation's geometries, all of the same atoms and level.

    Attributes:
        kind: `single point`, `optimisation` or `torsion drive`.
        symbols: elements.
        charge: total charge [e].
        smiles: mapped SMILES, empty for none.
        bonds: bonded pairs where the molecule says them, or None.
        level: level of theory.
        points: the geometries.
        dihedrals: driven torsions.
        grid: the angles [degree] of each geometry of a drive.
    """

    kind: str
    symbols: tuple[str, ...]
    charge: int
    smiles: str
    bonds: tuple[tuple[int, int], ...] | None
    level: str
    points: tuple[Point, ...]
    dihedrals: list = field(default_factory=list)
    grid: list | None = None

    @property
    def identity(self) -> tuple | None:
        """What single points of the same molecule and level have in common; None for other kinds."""
        if self.kind != "single point":
            return None
        return self.symbols, self.charge, self.smiles, self.bonds, self.level


def level_of(model: Mapping[str, Any], keywords: Mapping[str, Any] | None = None) -> str:
    """Level of theory of a model, spelt in one way: `b3lyp-d3bj`, `dzvp` → `B3LYP-D3BJ/DZVP`.

    A dispersion correction or a solvent that only the keywords name is part of it, so that levels are not mixed.
    """
    keywords = keywords or {}
    method = str(model.get("method") or "").lower()
    basis = model.get("basis") or ""
    basis = str(basis.get("name", "") if isinstance(basis, Mapping) else basis).lower()
    if not method:
        return ""
    dispersion = next((keywords[k] for k in ("dispersion", "disp") if isinstance(keywords.get(k), str)), "").lower()
    if dispersion.strip("-") not in method:
        method += f"-{dispersion.strip('-')}"
    spelt = _METHODS.get(method) or re.sub(r"^[wω](?=b97|pbe)", "w", method.upper(), flags=re.IGNORECASE)
    if basis and method not in _METHODS:
        spelt += f"/{_basis(basis)}"
    solvent = [key for key in ("pcm", "ddx", "solvent") if keywords.get(key)]
    return f"{spelt}+{solvent[0].upper()}" if solvent else spelt


def _basis(name: str) -> str:
    """`def2-svp` → `def2-SVP`, `aug-cc-pvtz` → `aug-cc-pVTZ`, `6-31g*` → `6-31G*`."""
    name = re.sub(r"[a-z]+", lambda word: word[0].upper(), name)
    return re.sub(r"DEF2|(?:AUG|JUN|HEAV|MAUG)-|CC-P|PC(?=W?C?V)|MA-", lambda word: word[0].lower(), name)


def result_of(data: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> Result:
    """What a QCSchema result says.

    Args:
        data: the result.
        attributes: what stands beside it, such as a data set entry's attributes; may hold the SMILES.

    Raises:
        RecordError: for a failed computation, something else than a result, open shells, ghost atoms, other atoms in
            one geometry than in the next.
    """
    if data.get("success") is False:
        error = data.get("error") or {}
        lines = str(error.get("error_message", "") if isinstance(error, Mapping) else error).strip().splitlines()
        raise RecordError("computation failed", f"the computation failed ({lines[-1] if lines else 'no message'})")
    try:
        if "trajectory" in data or "trajectory_results" in data:
            return _optimisation(data, attributes)
        if "final_molecules" in data:
            return _torsion_drive(data, attributes)
        if "return_result" in data and "method" not in data:
            return _single_point(data, attributes)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError("QCSchema unreadable", f"not as QCSchema has it ({type(error).__name__}: {error})") from error
    raise RecordError(
        "no QCSchema result",
        f"expected a QCSchema result of a single point, optimisation or torsion drive; found fields {sorted(data)[:8]}"
        + (_OF_QCPORTAL if {"record_type", "method"} & data.keys() else ""),
    )


def _specification(data: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    """Model, keywords and driver of a single point, in an optimisation (1) or in a torsion drive's (2)."""
    if "input_data" in data:  # version 2
        data = data["input_data"]["specification"]
        for _ in range(depth):
            data = data["specification"]
        return data
    return data["input_specification"] if depth else data


def _single_point(data: Mapping[str, Any], attributes: Mapping[str, Any] | None) -> Result:
    spec = _specification(data, 0)
    molecule = data["molecule"] if "molecule" in data else data["input_data"]["molecule"]
    level = level_of(spec["model"], spec.get("keywords"))
    return _together("single point", molecule, [(molecule, _point(data, molecule, spec["driver"]))], level, attributes)


def _optimisation(data: Mapping[str, Any], attributes: Mapping[str, Any] | None) -> Result:
    spec = _specification(data, 1)
    initial = data["initial_molecule"] if "initial_molecule" in data else data["input_data"]["initial_molecule"]
    frames = [_frame(step) for step in data.get("trajectory") or data.get("trajectory_results") or []]
    if not frames and data.get("final_molecule"):
        energies = data.get("energies") or [p["return_energy"] for p in data.get("trajectory_properties") or []]
        final = data["final_molecule"]
        frames = [(final, Point(_xyz(final), float(energies[-1])))]
    level = level_of(spec["model"], spec.get("keywords"))
    return _together("optimisation", initial, frames, level, attributes)


def _frame(step: Mapping[str, Any]) -> tuple[Mapping, Point]:
    molecule = step["molecule"] if "molecule" in step else step["input_data"]["molecule"]
    return molecule, _point(step, molecule, _specification(step, 0)["driver"])


def _torsion_drive(data: Mapping[str, Any], attributes: Mapping[str, Any] | None) -> Result:
    """The final geometries on the grid, in its order; with gradients where the optimisations are kept."""
    spec = _specification(data, 2)
    version2 = "input_data" in data
    keywords = data["input_data"]["specification"]["keywords"] if version2 else data["keywords"]
    initial = data["input_data"]["initial_molecule"] if version2 else data["initial_molecule"]
    if version2:
        energies = {key: p["return_energy"] for key, p in data["scan_properties"].items()}
    else:
        energies = data["final_energies"]
    history = data.get("scan_results" if version2 else "optimization_history") or {}
    frames, grid = [], []
    for key, molecule in data["final_molecules"].items():
        energy = float(energies[key])
        gradient = _last_gradient(history.get(key) or [], energy, _xyz(molecule))
        frames.append((molecule, Point(_xyz(molecule), energy, gradient)))
        grid.append([float(angle) for angle in re.findall(r"-?[\d.]+", key)])
    order = sorted(range(len(grid)), key=grid.__getitem__)
    if not all(point.gradient is not None for _, point in frames):
        frames = [(molecule, Point(point.xyz, point.energy)) for molecule, point in frames]
    first = initial[0] if isinstance(initial, list | tuple) else initial
    result = _together(
        "torsion drive", first, [frames[i] for i in order], level_of(spec["model"], spec.get("keywords")), attributes
    )
    return Result(
        **{**vars(result), "dihedrals": [list(d) for d in keywords["dihedrals"]], "grid": [grid[i] for i in order]}
    )


def _last_gradient(optimisations: list, energy: float, xyz: np.ndarray) -> np.ndarray | None:
    """Gradient of the final geometry of a grid point: of the optimisation's step that has its energy and geometry."""
    for optimisation in optimisations:
        steps = optimisation.get("trajectory") or optimisation.get("trajectory_results") or []
        if not steps:
            continue
        molecule, point = _frame(steps[-1])
        same = point.energy is not None and abs(point.energy - energy) < _SAME
        if same and np.abs(_xyz(molecule) - xyz).max() < 1e-6:
            return point.gradient
    return None


def _point(data: Mapping[str, Any], molecule: Mapping[str, Any], driver: str) -> Point:
    properties = data.get("properties") or {}
    xyz = _xyz(molecule)
    energy = properties.get("return_energy")
    gradient = properties.get("return_gradient")
    driver = str(getattr(driver, "value", driver))
    if energy is None and driver == "energy":
        energy = data["return_result"]
    if gradient is None and driver == "gradient":
        gradient = data["return_result"]
    if gradient is not None:
        gradient = np.asarray(gradient, dtype=np.float64)
        if gradient.size != xyz.size:
            raise RecordError("shapes disagree", f"{gradient.size} numbers in the gradient, expected {xyz.size}")
        gradient = gradient.reshape(-1, 3)
    dipole = None
    for level in _LEVELS:
        moment, total = properties.get(f"{level}_dipole_moment"), properties.get(f"{level}_total_energy")
        if moment is not None and (total is None or energy is None or abs(total - energy) < _SAME):
            dipole = np.asarray(moment, dtype=np.float64).reshape(3)
            break
    return Point(xyz, None if energy is None else float(energy), gradient, dipole)


def _xyz(molecule: Mapping[str, Any]) -> np.ndarray:
    xyz = np.asarray(molecule["geometry"], dtype=np.float64)
    if xyz.size != 3 * len(molecule["symbols"]):
        raise RecordError(
            "shapes disagree", f"{xyz.size} coordinates of {len(molecule['symbols'])} atoms, expected three per atom"
        )
    return xyz.reshape(-1, 3)


def _together(
    kind: str, molecule: Mapping[str, Any], frames: list, level: str, attributes: Mapping[str, Any] | None
) -> Result:
    """A result of geometries that must be of the atoms, charge and multiplicity of its molecule."""
    if not frames:
        raise RecordError(
            "no geometries kept", f"the {kind} keeps no geometry; it was run with a protocol that drops them"
        )
    symbols, charge = _atoms(molecule)
    for k, (other, _) in enumerate(frames, start=1):
        if _atoms(other) != (symbols, charge):
            raise RecordError(
                "atoms differ within a result", f"geometry {k} has other atoms or another charge than the molecule"
            )
    bonds = molecule.get("connectivity")
    return Result(
        kind=kind,
        symbols=symbols,
        charge=charge,
        smiles=_smiles(molecule, attributes),
        bonds=tuple(sorted((min(int(i), int(j)), max(int(i), int(j))) for i, j, _ in bonds)) if bonds else None,
        level=level,
        points=tuple(point for _, point in frames),
    )


def _atoms(molecule: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    charge = float(molecule.get("molecular_charge") or 0.0)
    multiplicity = molecule.get("molecular_multiplicity") or 1
    if round(float(multiplicity)) != 1:
        raise RecordError("open shell", f"multiplicity {multiplicity}; closed-shell molecules are expected")
    if charge != round(charge):
        raise RecordError("charge unreadable", f"its charge is {charge}; expected a whole number")
    real = molecule.get("real")
    if real is not None and not np.all(real):
        raise RecordError("ghost atoms", "some of its atoms are ghosts")
    return tuple(str(symbol).capitalize() for symbol in molecule["symbols"]), round(charge)


def _smiles(molecule: Mapping[str, Any], attributes: Mapping[str, Any] | None) -> str:
    places = (molecule.get("identifiers"), molecule.get("extras"), attributes)
    return next((str(place[MAPPED_SMILES]) for place in places if place and place.get(MAPPED_SMILES)), "")

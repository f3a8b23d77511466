"""OpenFF SMIRNOFF force fields with NAGL charges: an `MMSystem`, or reference charges and Lennard-Jones values.

SMIRNOFF specification: https://openforcefield.github.io/standards/standards/smirnoff/. The OpenFF packages are
imported by the constructor only (seconds), and everything they do is local: no network.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from espalike.assigners import AssignerError
from espalike.chem.molecule import Molecule
from espalike.system import Bound, MMSystem
from espalike.terms.angle import HarmonicAngle
from espalike.terms.bond import HarmonicBond
from espalike.terms.coulomb import Coulomb
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.torsion import PeriodicImproper, PeriodicProperPhase
from espalike.topology import enumerate_tuples
from espalike.tuples import Kind, Tuples

FORCE_FIELD = "openff_unconstrained-2.2.1.offxml"
CHARGE_MODEL = "openff-gnn-am1bcc-1.0.0.pt"

_ENERGY = "kilocalorie / mole"
_BOND_K = "kilocalorie / mole / angstrom**2"
_ANGLE_K = "kilocalorie / mole / radian**2"
_WIDTH = {Kind.BOND: (2, 2), Kind.ANGLE: (3, 2), Kind.PROPER: (4, 12), Kind.IMPROPER: (4, 1), Kind.ATOM: (1, 2)}
"""Atoms and parameter columns of the terms of each kind."""

Rows = tuple[np.ndarray, np.ndarray]
"""Tuples `(T, k)` int64 and parameter values `(T, P)` float64 of one molecule."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Third-party warnings of the OpenFF packages and of the graph library below NAGL, which no user can act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def packages() -> Iterator[None]:
    """Imports of the OpenFF packages: without their warnings, and with the extra to install if they are missing."""
    os.environ.setdefault("DGLBACKEND", "pytorch")  # or the graph library below NAGL writes a file into the home folder
    with quiet():
        try:
            yield
        except ImportError as error:
            raise ImportError(
                f"the OpenFF assigner needs the OpenFF packages ({error.name or error} is missing): "
                "pip install 'espalike[openff]', or openff-toolkit and openff-nagl from conda-forge"
            ) from error


def installed_file(name: str) -> str:
    """The offxml file of a force field, `openff-2.2.1` for instance; without constraints if there is such a file.

    Args:
        name: of the force field; or the file itself, which is returned as it is.

    Raises:
        ImportError: when the OpenFF packages are missing.
        ValueError: when the force field is not installed, listing those that are.
    """
    if name.endswith(".offxml"):
        return name
    with packages():
        from openff.toolkit import get_available_force_fields
    installed = set(get_available_force_fields())
    version = name.removeprefix("openff-")
    for kind in ("openff_unconstrained", "openff", "openff_no_water_unconstrained", "openff_no_water"):
        if (file := f"{kind}-{version}.offxml") in installed:
            return file
    known = sorted(file.removesuffix(".offxml") for file in installed if file.startswith("openff-"))
    raise ValueError(f"no OpenFF force field {name!r} is installed; installed: {', '.join(known)}")


def _load(force_field: str, nagl: str | None) -> tuple[Any, Any, str, Any]:
    """The toolkit's `Molecule` class, the force field, the NAGL model's name and the NAGL model."""
    with packages():
        from openff.nagl import GNNModel
        from openff.nagl_models import validate_nagl_model_path
        from openff.toolkit import ForceField, Molecule
    with quiet():
        field = ForceField(force_field)
        named = "NAGLCharges" in field.registered_parameter_handlers
        nagl = nagl or (field["NAGLCharges"].model_file if named else CHARGE_MODEL)
        return Molecule, field, nagl, GNNModel.load(str(validate_nagl_model_path(nagl)), eval_mode=True)


def neutralised(charge: np.ndarray, net_charge: int) -> np.ndarray:
    """Charges [e] `(A,)` in float64 whose sum is the formal charge, the rounding residual spread evenly."""
    charge = np.asarray(charge, dtype=np.float64)
    return charge + (net_charge - charge.sum()) / len(charge)


class OpenFFAssigner:
    """A SMIRNOFF force field with NAGL charges; systems have library charges where they cover a whole molecule.

    Propers and impropers are those of the force field, also where the learned model has none (through linear atoms).

    Args:
        force_field: name of an offxml file known to the OpenFF toolkit, or a path.
        nagl: name of a NAGL charge model installed with `openff-nagl-models`, or a path; None: the one that the
            force field names, or `openff-gnn-am1bcc-1.0.0.pt` for a force field that asks for AM1-BCC.

    Raises:
        ImportError: when the OpenFF packages are missing, naming the extra to install.
        AssignerError: if the force field has a functional form that `espalike` has no term for.
    """

    def __init__(self, force_field: str = FORCE_FIELD, nagl: str | None = None):
        self.force_field = force_field
        self._molecule_class, self._ff, self.nagl, self._charge_model = _load(force_field, nagl)
        for p in self._ff["ImproperTorsions"].parameters:
            angles = [phase.m_as("degree") for phase in p.phase]
            if (
                set(p.periodicity) != {2}
                or set(angles) != {180.0}
                or self._ff["ImproperTorsions"].default_idivf != "auto"
            ):
                raise AssignerError(f"{force_field}: improper {p.id} is not k (1 + cos(2φ − 180°)) averaged over three")
        for tag, handler, known in (
            ("Bonds", "potential", {"harmonic", "(k/2)*(r-length)^2"}),
            ("Angles", "potential", {"harmonic"}),
            ("vdW", "combining_rules", {"Lorentz-Berthelot"}),
        ):
            if getattr(self._ff[tag], handler) not in known:
                raise AssignerError(
                    f"{force_field}: {tag} {handler} {getattr(self._ff[tag], handler)!r} is not supported"
                )

    def __repr__(self) -> str:
        return f"OpenFFAssigner({self.force_field!r}, {self.nagl!r})"

    def reference(self, molecule: Molecule) -> tuple[np.ndarray, np.ndarray]:
        """Partial charges [e] `(A,)` and Lennard-Jones sigma [Å], epsilon [kcal/mol] `(A, 2)`, both float64.

        All charges, also those of water, are NAGL's, so that one model gives all of them; a monatomic ion has its
        formal charge.

        Raises:
            AssignerError: naming the molecule and what the force field or charge model does not cover.
        """
        with quiet():
            offmol, topology = self._openff(molecule)
            return self._nagl(molecule, offmol), self._lj(molecule, topology)

    def __call__(self, molecules: Sequence[Molecule]) -> MMSystem:
        """All terms of the molecules, float64.

        Raises:
            AssignerError: naming the molecule and what the force field or charge model does not cover.
        """
        parts = []
        for molecule in molecules:
            with quiet():
                offmol, topology = self._openff(molecule)
                rows = self._bonded(molecule, offmol, topology)
                lj = self._lj(molecule, topology)
                charge = self._charges(molecule, offmol, topology)
            parts.append(
                (
                    rows,
                    lj,
                    charge,
                    enumerate_tuples(molecule.numbers, molecule.bonds, molecule.orders, molecule.charges),
                )
            )
        return self._assemble(tuple(molecules), parts)

    def _openff(self, molecule: Molecule) -> tuple[Any, Any]:
        try:
            offmol = self._molecule_class.from_mapped_smiles(molecule.smiles, allow_undefined_stereo=True)
        except Exception as error:  # the toolkit's exceptions have no common base
            raise AssignerError(f"{molecule.name}: the OpenFF toolkit cannot read it: {error}") from error
        return offmol, offmol.to_topology()

    def _matches(self, tag: str, topology) -> dict[tuple[int, ...], Any]:
        return {tuple(key): match.parameter_type for key, match in self._ff[tag].find_matches(topology).items()}

    def _covered(self, molecule: Molecule, tag: str, expected, topology) -> dict[tuple[int, ...], Any]:
        """Matches of a handler, with an error if any of the `expected` tuples has none."""
        matches = self._matches(tag, topology)
        missing = [t for t in expected if t not in matches and t[::-1] not in matches]
        if missing:
            symbols = "-".join(f"{_symbol(molecule.numbers[i])}{i + 1}" for i in missing[0])
            raise AssignerError(
                f"{molecule.name}: {self.force_field} has no {tag} parameters "
                f"for {len(missing)} of its atom groups, first {symbols}"
            )
        return matches

    def _bonded(self, molecule: Molecule, offmol, topology) -> dict[Kind, Rows]:
        def indices(groups) -> list[tuple[int, ...]]:
            return [tuple(atom.molecule_atom_index for atom in group) for group in groups]

        bonds = self._covered(molecule, "Bonds", indices([(b.atom1, b.atom2) for b in offmol.bonds]), topology)
        angles = self._covered(molecule, "Angles", indices(offmol.angles), topology)
        propers = self._covered(molecule, "ProperTorsions", indices(offmol.propers), topology)
        impropers = self._matches("ImproperTorsions", topology)
        rows = {
            Kind.BOND: [(t, [p.k.m_as(_BOND_K), p.length.m_as("angstrom")]) for t, p in bonds.items()],
            Kind.ANGLE: [(t, [p.k.m_as(_ANGLE_K), p.angle.m_as("radian")]) for t, p in angles.items()],
            Kind.PROPER: [(t, values) for t, p in propers.items() for values in _proper_rows(molecule, p)],
            Kind.IMPROPER: [(t, [k.m_as(_ENERGY)]) for t, p in impropers.items() for k in p.k],
        }
        return {kind: _arrays(kind, sorted(of_kind)) for kind, of_kind in rows.items()}

    def _lj(self, molecule: Molecule, topology) -> np.ndarray:
        matches = self._covered(molecule, "vdW", [(i,) for i in range(molecule.n_atoms)], topology)
        values = [(matches[(i,)].sigma, matches[(i,)].epsilon) for i in range(molecule.n_atoms)]
        return np.array([[sigma.m_as("angstrom"), epsilon.m_as(_ENERGY)] for sigma, epsilon in values])

    def _charges(self, molecule: Molecule, offmol, topology) -> np.ndarray:
        """Library charges if they cover the whole molecule (water, ions), as SMIRNOFF demands; otherwise NAGL's."""
        library = self._matches("LibraryCharges", topology)
        listed = {
            i: q.m_as("elementary_charge") for key, p in library.items() for i, q in zip(key, p.charge, strict=True)
        }
        if len(listed) == molecule.n_atoms:
            return neutralised(np.array([listed[i] for i in range(molecule.n_atoms)]), molecule.net_charge)
        return self._nagl(molecule, offmol)

    def _nagl(self, molecule: Molecule, offmol) -> np.ndarray:
        if molecule.n_atoms == 1:
            return molecule.charges.astype(np.float64)
        try:
            charge = self._charge_model.compute_property(
                offmol, as_numpy=True, readout_name="am1bcc_charges", check_domains=True, error_if_unsupported=True
            )
        except Exception as error:  # out of domain is a ValueError, a failed featurisation may be anything
            raise AssignerError(f"{molecule.name}: no {self.nagl} charges: {error}") from error
        return neutralised(charge, molecule.net_charge)

    def _assemble(self, molecules: tuple[Molecule, ...], parts) -> MMSystem:
        sizes = [m.n_atoms for m in molecules]
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

        def tuples(arrays: list[np.ndarray], is14: list[np.ndarray] | None = None) -> Tuples:
            idx = np.concatenate([a + o for a, o in zip(arrays, offsets, strict=True)])
            mol = np.repeat(np.arange(len(arrays)), [len(a) for a in arrays])
            flags = None if is14 is None else torch.from_numpy(np.concatenate(is14))
            return Tuples(torch.from_numpy(idx), torch.from_numpy(mol), flags)

        def bonded(term) -> Bound:
            rows = [of_molecule[term.kind] for of_molecule, *_ in parts]
            return Bound(term, tuples([t for t, _ in rows]), torch.from_numpy(np.concatenate([v for _, v in rows])))

        pairs = tuples([p.pairs for *_, p in parts], [p.is14 for *_, p in parts])
        lj = torch.from_numpy(np.concatenate([lj for _, lj, _, _ in parts]))
        charge = torch.from_numpy(np.concatenate([charge for _, _, charge, _ in parts])).unsqueeze(1)
        return MMSystem(
            terms=(
                bonded(HarmonicBond()),
                bonded(HarmonicAngle()),
                bonded(PeriodicProperPhase()),
                bonded(PeriodicImproper()),
                Bound(LennardJones(scale14=float(self._ff["vdW"].scale14)), pairs, lj),
                Bound(Coulomb(scale14=float(self._ff["Electrostatics"].scale14)), pairs, charge),
            ),
            numbers=torch.from_numpy(np.concatenate([m.numbers for m in molecules])),
            mol=torch.from_numpy(np.repeat(np.arange(len(molecules)), sizes)),
            molecules=molecules,
        )


def _symbol(number: int) -> str:
    from rdkit.Chem import GetPeriodicTable

    return GetPeriodicTable().GetElementSymbol(int(number))


def _arrays(kind: Kind, rows: list[tuple[tuple[int, ...], list[float]]]) -> Rows:
    atoms, columns = _WIDTH[kind]
    idx = np.array([t for t, _ in rows], dtype=np.int64).reshape(-1, atoms)
    return idx, np.array([v for _, v in rows], dtype=np.float64).reshape(-1, columns)


def _proper_rows(molecule: Molecule, parameter) -> list[list[float]]:
    """k1…k6 [kcal/mol] and phases [rad] of a proper; a second row where one periodicity has several phases."""
    rows: list[list[float]] = []
    divisors = parameter.idivf or ["auto"] * len(parameter.k)
    for n, k, phase, divisor in zip(parameter.periodicity, parameter.k, parameter.phase, divisors, strict=True):
        if not 1 <= n <= 6:
            raise AssignerError(f"{molecule.name}: proper {parameter.id} has periodicity {n}; 1 to 6 are supported")
        if divisor == "auto":
            raise AssignerError(f"{molecule.name}: proper {parameter.id} has idivf 'auto', which is not supported")
        row = next((r for r in rows if r[n - 1] == 0.0), None)
        if row is None:
            row = [0.0] * 12
            rows.append(row)
        row[n - 1] = k.m_as(_ENERGY) / float(divisor)
        row[n + 5] = phase.m_as("radian")
    return rows

"""Where partial charges of a molecule come from: the model, the input, AM1-BCC, or a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from espalike.chem import Entry, read_charges
from espalike.chem.charges import fit_to_formal
from espalike.chem.molecule import Molecule
from espalike.export.output import charges_of
from espalike.model import ForceFieldModel

_UNLIKE, _APART = 0.3, 0.3
"""Charges in another order have a smaller correlation with the model's, and differ by more from one of them [e].

Over 24 molecules, the correlation of the charges of `espalike-1` with MMFF94's is above 0.7, with Gasteiger's above
0.5, and with themselves in a random order about 0.
"""
CHARGE_SOURCES = ("model", "input", "am1bcc")

Charges = tuple[np.ndarray | None, str, tuple[str, ...]]
"""Partial charges [e] to use (None: the model's), where they come from, and notes on corrections."""


def charge_source(source: str | Path, model: ForceFieldModel, n_entries: int) -> Callable[[Entry], Charges]:
    """A function that gives the partial charges of an entry.

    Args:
        source: one of `CHARGE_SOURCES`, or a file of plain numbers [e], one per atom in input order.
        model: the model.
        n_entries: number of molecules.

    Raises:
        ValueError: for an unknown source, a force field without charges, or a file for several molecules.
        ImportError: when AM1-BCC charges need packages that are not installed.
    """
    has_charges = any(param.link == "charge" for term in model.terms for param in term.params)
    if source == "model":
        return lambda entry: (None, "model" if has_charges else "none: the model has no charge term", ())
    if not has_charges:
        raise ValueError(f"charges {source}: the model's force field has no charge term")
    if source == "input":
        return _charges_of_input
    if source == "am1bcc":
        from espalike.assigners.openff import OpenFFAssigner

        assigner = OpenFFAssigner()
        label = f"AM1-BCC by {assigner.nagl}"
        return lambda entry: (assigner.reference(molecule_of(entry))[0], label, ())
    if not Path(source).is_file():
        raise ValueError(f"charges {str(source)!r}: no such file, and none of {', '.join(CHARGE_SOURCES)}")
    if n_entries != 1:
        raise ValueError(
            f"charges {source}: a charge file belongs to one molecule, got {n_entries}; for several, write "
            "the charges into the SDF as <atom.dprop.PartialCharge> and use the charges 'input'"
        )
    values = read_charges(source)
    return lambda entry: _of_file(molecule_of(entry), values, str(source), model)


def _charges_of_input(entry: Entry) -> Charges:
    if entry.charges is None:
        raise ValueError(
            "the input holds no partial charges; expected <atom.dprop.PartialCharge> in an SDF (one number per atom) "
            "or the charges of a MOL2"
        )
    return _fitted(molecule_of(entry), entry.charges, "input")


def _of_file(molecule: Molecule, values: np.ndarray, source: str, model: ForceFieldModel) -> Charges:
    """Charges of a text file, with a note where they are so unlike the model's that they may be in another order."""
    charges, label, notes = _fitted(molecule, values, source)
    if charges is None or any(getattr(term, "charges", "") == "input" for term in model.terms):
        return charges, label, notes
    own = charges_of(model.parametrize(molecule))
    if own is None or not own.std() or not charges.std():
        return charges, label, notes
    alike, apart = float(np.corrcoef(own, charges)[0, 1]), np.abs(own - charges)
    if alike >= _UNLIKE or apart.max() < _APART:
        return charges, label, notes
    atom = int(apart.argmax())
    note = (
        f"charges of {source} are unlike the model's (correlation {alike:.2f}): atom {atom + 1} has "
        f"{charges[atom]:+.2f} e, the model's is {own[atom]:+.2f} e; are they in the order of the atoms?"
    )
    return charges, label, (*notes, note)


def _fitted(molecule: Molecule, charges: np.ndarray, source: str) -> Charges:
    """Given charges, corrected so that they sum to the formal charge, with a note on the correction."""
    try:
        fitted = fit_to_formal(molecule, charges)
    except ValueError as error:
        raise ValueError(f"charges of {source}: {error}") from error
    excess = float(charges.sum()) - molecule.net_charge
    if abs(excess) <= 1e-9:
        return fitted, source, ()
    note = (
        f"charges of {source} summed to {charges.sum():+.6f} e, not {molecule.net_charge:+d}; "
        f"{-excess / len(charges):+.1e} e was added to each atom"
    )
    return fitted, f"{source}, corrected by {-excess / len(charges):+.1e} e per atom", (note,)


def molecule_of(entry: Entry) -> Molecule:
    """The molecule of an entry.

    Raises:
        ValueError: if it has none, saying why.
    """
    if entry.molecule is None:
        raise ValueError(entry.error)
    return entry.molecule

"""Data set views of qcportal: SQLite files with a data set's entries and records, opened without a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalike.data.readers.base import ReaderError
from espalike.data.readers.qcschema import MAPPED_SMILES, Result, result_of
from espalike.data.schema import RecordError

if TYPE_CHECKING:
    from qcportal.dataset_models import BaseDataset

_KINDS = ("singlepoint", "optimization", "torsiondrive")


def view_items(path: Path, specification: str | None = None) -> Iterator[tuple[str, Result | RecordError]]:
    """Name and result of each record of a view, one at a time, in the order of entry names.

    Names are those of the entries, followed by the specification's where there are several.

    Raises:
        ReaderError: when qcportal is not installed, cannot open the view, or its data set is of another kind.
    """
    dataset = open_view(path)
    chosen = [specification] if specification else sorted(dataset.specification_names)
    if specification and specification not in dataset.specification_names:
        known = ", ".join(sorted(dataset.specification_names))
        raise ReaderError(f"{path}: no specification {specification!r}; there are: {known}")
    for spec in chosen:
        for entry_name in sorted(dataset.entry_names):
            name = entry_name if len(chosen) == 1 else f"{entry_name}/{spec}"
            item = _item(dataset, entry_name, spec)
            if item is not None:  # else it was not submitted: the view holds nothing of it
                yield name, item


def _item(dataset: BaseDataset, entry_name: str, specification: str) -> Result | RecordError | None:
    try:
        record = dataset.get_record(entry_name, specification)
        if record is None:
            return None
        entry = dataset.get_entry(entry_name)
        return result_of(as_qcschema(record, entry), getattr(entry, "attributes", None))
    except RecordError as error:
        return error
    except Exception as error:  # SQLite, msgpack, zstandard and pydantic each raise their own errors
        return RecordError("record unreadable", f"qcportal cannot read its record ({type(error).__name__}: {error})")


def open_view(path: Path) -> BaseDataset:
    """A view's data set.

    Raises:
        ReaderError: as `view_items`.
    """
    try:
        from qcportal.dataset_models import load_dataset_view
    except ImportError as error:
        raise ReaderError(
            f"{path}: views are read by qcportal; install it with: pip install 'espalike[fractal]'"
        ) from error
    try:
        dataset = load_dataset_view(str(path))
    except Exception as error:  # SQLite, msgpack, zstandard and pydantic each raise their own errors
        raise ReaderError(f"{path}: not a data set view, or damaged ({type(error).__name__}: {error})") from error
    if dataset.dataset_type not in _KINDS:
        raise ReaderError(f"{path}: a data set of kind {dataset.dataset_type}; expected one of {', '.join(_KINDS)}")
    return dataset


def as_qcschema(record: Any, entry: Any = None) -> Mapping[str, Any]:
    """A record of qcportal in the form of QCSchema version 1; `entry` is its data set entry.

    Raises:
        RecordError: when it is not complete, or parts of it are not in the view.
    """
    status = str(getattr(record.status, "value", record.status))
    if status != "complete":
        raise RecordError("computation not complete", f"its status on the server was {status!r}")
    try:
        if record.record_type == "singlepoint":
            if record.molecule_ is None and getattr(entry, "molecule", None) is not None:
                return _single_point(record, entry.molecule)  # a view may leave molecules to its entries
            return _single_point(record)
        if record.record_type == "optimization":
            return _optimisation(record)
        return _torsion_drive(record)
    except RuntimeError as error:  # qcportal would ask the server for what is not there
        raise RecordError(
            "view incomplete",
            f"its molecules or the records below it are not in the view ({error}); make the view with them, "
            "qcportal.dataset_models.create_dataset_view(..., include=['**'])",
        ) from error


def _model(specification: Any) -> dict[str, Any]:
    """Model and keywords of a specification."""
    keywords = dict(specification.keywords or {})
    model = {"method": specification.method, "basis": specification.basis}
    return {"model": model, "keywords": keywords, "driver": str(specification.driver.value)}


def _atoms(molecule: Any) -> dict[str, Any]:
    """A molecule of QCElemental, of whatever version, as a dictionary."""
    fields = ("symbols", "geometry", "molecular_charge", "molecular_multiplicity", "real", "connectivity", "extras")
    smiles = getattr(molecule.identifiers, MAPPED_SMILES, None)
    return {name: getattr(molecule, name) for name in fields} | {"identifiers": {MAPPED_SMILES: smiles}}


def _single_point(record: Any, molecule: Any = None) -> dict[str, Any]:
    properties = dict(record.properties or {})
    return {
        "molecule": _atoms(molecule or record.molecule),
        **_model(record.specification),
        "properties": properties,
        "return_result": properties.get("return_result"),
    }


def _optimisation(record: Any) -> dict[str, Any]:
    initial, final = record.initial_molecule, record.final_molecule
    return {
        "initial_molecule": _atoms(initial),
        "final_molecule": None if final is None else _atoms(final),
        "energies": record.energies,
        "input_specification": _model(record.specification.qc_specification),
        "trajectory": [_single_point(step) for step in _children(record, "trajectory")],
    }


def _torsion_drive(record: Any) -> dict[str, Any]:
    best = record.minimum_optimizations
    keys = {key: str(list(key)) for key in best}
    return {
        "initial_molecule": [_atoms(molecule) for molecule in record.initial_molecules],
        "keywords": {"dihedrals": record.specification.keywords.dihedrals},
        "input_specification": _model(record.specification.optimization_specification.qc_specification),
        "final_energies": {keys[key]: optimisation.energies[-1] for key, optimisation in best.items()},
        "final_molecules": {keys[key]: _atoms(optimisation.final_molecule) for key, optimisation in best.items()},
        "optimization_history": {
            keys[key]: [{"trajectory": [_single_point(step) for step in _children(optimisation, "trajectory")[-1:]]}]
            for key, optimisation in best.items()
        },
    }


def _children(record: Any, name: str) -> list:
    """Records below a record; none where the view was made without them."""
    try:
        return list(getattr(record, name) or [])
    except RuntimeError:  # there is no server to ask
        return []

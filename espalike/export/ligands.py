"""Molecules to force-field files: charges, parameters, files, and a result for each molecule."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espalike.chem import ChemistryError, Entry, SafeNames, read_any
from espalike.chem.molecule import Molecule
from espalike.chem.names import is_misnamed
from espalike.export.charges import Charges as Charges
from espalike.export.charges import charge_source as charge_source
from espalike.export.charges import molecule_of
from espalike.export.output import Output as Output
from espalike.export.output import Result as Result
from espalike.export.output import charges_of, earlier, not_written, reason_of, write_files
from espalike.export.output import existing as existing
from espalike.model import Ensemble, ForceFieldModel
from espalike.system import MMSystem
from espalike.terms.base import PairTerm


@dataclass(frozen=True)
class Done:
    """One molecule: its result, and its parameters or the error.

    Attributes:
        result: what the report says.
        system: the parametrized molecule; None if it failed.
        error: the error, or the first one if some files could not be written; None if there was none.
    """

    result: Result
    system: MMSystem | None = None
    error: Exception | None = None


def read(sources: Iterable[Any], smiles: str | None = None) -> Iterator[tuple[str, Entry]]:
    """Molecules with the source they came from; an unreadable file is an entry with its error.

    Args:
        sources: SMILES, files and molecules; see `espalike.chem.read_any`.
        smiles: bond orders and charges of a PDB or mmCIF.

    Raises:
        TypeError: for anything else, with its number where it is not the first.
    """
    for number, source in enumerate(sources, start=1):
        typed = isinstance(source, str | os.PathLike)
        try:
            for entry in read_any(source, smiles):
                yield str(source) if typed else entry.name, entry
        except ChemistryError as error:
            yield str(source), Entry(Path(source).stem, error=str(error))
        except TypeError as error:
            raise TypeError(f"molecule {number}: {error}" if number > 1 else str(error)) from error


Named = tuple[str, str, Entry]
"""Base name of the files of a molecule, where it came from, and the molecule."""
Graph = tuple[bytes, ...]
Spread = dict[str, dict[str, dict[str, float]]]
Parameters = tuple[MMSystem, Spread | None]
"""Parameters of a molecule, and for an ensemble their spread."""
_MOLECULES, _ATOMS = 64, 4000
"""A pass of the network has this many molecules, or fewer if they have this many atoms."""
_REMEMBERED = 256
"""Number of graphs whose parameters are kept for further molecules with the same graph."""


def parametrize(
    entries: Iterable[tuple[str, Entry]],
    model: ForceFieldModel,
    model_name: str,
    charges: Callable[[Entry], Charges],
    output: Output,
    strict: bool = False,
) -> Iterator[Done]:
    """Parametrize molecules and write their files; a molecule that fails has an error and no files.

    Args:
        entries: where each molecule came from, and the molecule.
        model: the model, in float64.
        model_name: name of the model for the files.
        charges: gives the partial charges of an entry; see `charge_source`.
        output: the files to write. Its formats must be able to express the force field; see `espalike.export.refusals`.
        strict: whether a molecule fails that is not inside the model's domain.
    """
    work = Parametrizer(model, model_name, charges, output, strict)
    for chunk in chunks(entries):
        yield from work(chunk)


def chunks(entries: Iterable[tuple[str, Entry]], skipped: int = 0) -> Iterator[list[Named]]:
    """Molecules with the names of their files, in groups for one pass of the network.

    Args:
        entries: where each molecule came from, and the molecule.
        skipped: number of molecules that are left out at the beginning.
    """
    name, chunk, atoms = SafeNames(), list[Named](), 0
    for number, (source, entry) in enumerate(entries):
        named = (name(entry.name), source, entry)
        if number < skipped:
            continue
        chunk.append(named)
        atoms += entry.molecule.n_atoms if entry.molecule is not None else 0
        if len(chunk) == _MOLECULES or atoms >= _ATOMS:
            yield chunk
            chunk, atoms = [], 0
    if chunk:
        yield chunk


class Parametrizer:
    """Parametrizes molecules, several at a time, and writes their files. Equal graphs are computed once.

    Args:
        model: the model, in float64.
        model_name: name of the model for the files.
        charges: gives the partial charges of an entry; see `charge_source`.
        output: the files to write.
        strict: whether a molecule fails that is not inside the model's domain.
    """

    def __init__(
        self,
        model: ForceFieldModel,
        model_name: str,
        charges: Callable[[Entry], Charges],
        output: Output,
        strict: bool = False,
    ):
        self.model, self.model_name, self.charges, self.output, self.strict = model, model_name, charges, output, strict
        self._known: dict[Graph, Parameters] = {}

    def __call__(self, chunk: Sequence[Named]) -> Iterator[Done]:
        """The results of molecules, in order."""
        start = time.perf_counter()
        chunk = [(name, source, _in_residue(entry, self.output.residue)) for name, source, entry in chunk]
        prepared = [self._prepared(entry) for _, _, entry in chunk]
        usable = [one for one in prepared if not isinstance(one, Exception)]
        made = iter(self._parameters([molecule for molecule, _ in usable], [charges for _, (charges, _, _) in usable]))
        share = (time.perf_counter() - start) / len(chunk)
        for (name, source, entry), one in zip(chunk, prepared, strict=True):
            start = time.perf_counter() - share
            result = Result(name, source, warnings=list(entry.notes))
            system, error = None, None
            try:
                system = self._finished(entry, result, one, one if isinstance(one, Exception) else next(made))
                failures = write_files(system, entry, result, self.model_name, self.output)
                result.status, error = ("partial", next(iter(failures.values()))) if failures else ("ok", None)
                result.reason = not_written(failures)
            except Exception as caught:  # a molecule that fails does not stop the others
                error, system = caught, None
                result.reason = reason_of(error)
            if error is not None:
                result.reason = "; ".join([str(result.reason), *earlier(result, self.output)])
            result.seconds = round(time.perf_counter() - start, 4)
            yield Done(result, system, error)

    def _prepared(self, entry: Entry) -> tuple[Molecule, Charges] | Exception:
        """A molecule that the model can have parameters for, with given charges; or why it cannot be used."""
        try:
            molecule = molecule_of(entry)
            if self.model.domain.elements:
                self.model.domain.require(molecule)
            return molecule, self.charges(entry)
        except Exception as error:
            return error

    def _parameters(
        self, molecules: Sequence[Molecule], given: Sequence[np.ndarray | None]
    ) -> list[Parameters | Exception]:
        """Parameters of each molecule, or why it has none; those of the model are computed once per graph."""
        graphs = [_graph(molecule) for molecule in molecules]
        new = {graph: n for n, graph in enumerate(graphs) if graph not in self._known and given[n] is None}
        todo = [n for n, charges in enumerate(given) if charges is not None or new.get(graphs[n]) == n]
        computed = self._computed([molecules[n] for n in todo], [given[n] for n in todo]) if todo else []
        of = dict(zip(todo, computed, strict=True))
        known = self._known | {graphs[n]: one for n, one in of.items() if given[n] is None and isinstance(one, tuple)}
        self._known = dict(list(known.items())[-_REMEMBERED:])
        parameters = [
            of[n] if n in of else known.get(graph) or self._computed([molecules[n]], [None])[0]  # fails under its name
            for n, graph in enumerate(graphs)
        ]
        return [
            one if isinstance(one, Exception) else (dataclasses.replace(one[0], molecules=(molecule,)), one[1])
            for molecule, one in zip(molecules, parameters, strict=True)
        ]

    def _computed(
        self, molecules: Sequence[Molecule], given: Sequence[np.ndarray | None]
    ) -> list[Parameters | Exception]:
        """Parameters by one pass of the network; one pass per molecule where that fails for any of them."""
        try:
            if not isinstance(self.model, Ensemble):
                return [(system, None) for system in self.model.parametrize(molecules, given).split()]
            mean, deviation = self.model.parametrize_with_spread(molecules, given)
            return list(zip(mean.split(), _spreads(deviation, len(molecules)), strict=True))
        except Exception as error:
            if len(molecules) == 1:
                return [error]
            alone = zip(molecules, given, strict=True)
            return [self._computed([molecule], [charges])[0] for molecule, charges in alone]

    def _finished(
        self,
        entry: Entry,
        result: Result,
        prepared: tuple[Molecule, Charges] | Exception,
        parameters: Parameters | Exception,
    ) -> MMSystem:
        """Parameters of one molecule; fills in its result as far as it gets.

        Raises:
            Exception: if the molecule has none, or is outside the model's domain and must not be.
        """
        molecule = molecule_of(entry)
        result.atoms, result.formal_charge = molecule.n_atoms, molecule.net_charge
        self._check_domain(molecule, result)
        if isinstance(prepared, Exception):
            raise prepared
        _, (_, result.charges, notes) = prepared
        result.warnings += notes
        if isinstance(parameters, Exception):
            raise parameters
        system, result.spread = parameters
        result.terms = {bound.term.name: len(bound.tuples) for bound in system.terms}
        values = charges_of(system)
        result.summed_charge = None if values is None else float(values.sum())
        return system

    def _check_domain(self, molecule: Molecule, result: Result) -> None:
        domain = self.model.domain
        result.domain = "unsupported"  # stays if the check raises
        if domain.elements:
            remarks = domain.check(molecule)
            result.domain = "outside" if remarks else "inside"
            result.warnings += (*remarks, *domain.remarks(molecule))
        else:
            result.domain = "unknown"
            remarks = ("the model does not say what it was trained on",)
            result.warnings += remarks
        if self.strict and remarks:
            raise ValueError(f"{molecule.name}: outside the model's domain: {'; '.join(remarks)}")


def _graph(molecule: Molecule) -> Graph:
    """What the parameters of a molecule depend on."""
    return tuple(part.tobytes() for part in (molecule.numbers, molecule.charges, molecule.bonds, molecule.orders))


def _in_residue(entry: Entry, residue: str | None) -> Entry:
    """The entry with another name of its residue, if one is given; an error if it is that of water."""
    if residue is None or entry.molecule is None:
        return entry
    if is_misnamed(residue, entry.molecule.numbers.tolist()):
        reason = (
            f"{entry.name}: residue {residue!r} is a name of water, whose bonds OpenMM makes rigid; give another one"
        )
        return dataclasses.replace(entry, molecule=None, error=reason)
    return dataclasses.replace(entry, molecule=dataclasses.replace(entry.molecule, residue=residue, labels=()))


def units_of(model: ForceFieldModel) -> dict[str, dict[str, str]]:
    """Units of the parameters of each term."""
    return {term.name: {param.name: param.unit for param in term.params} for term in model.terms}


def _spreads(deviation: MMSystem, count: int) -> list[Spread]:
    """Of each molecule, the standard deviation over an ensemble's members by term and parameter, in its unit."""
    spreads: list[Spread] = [{} for _ in range(count)]
    for bound in deviation.terms:
        mol = deviation.mol if isinstance(bound.term, PairTerm) else bound.tuples.mol
        numbers, first, rows = np.unique(mol.numpy(), return_index=True, return_counts=True)
        if not len(rows):
            continue
        values, names = bound.values.numpy(), [param.name for param in bound.term.params]
        rms = np.sqrt(np.add.reduceat(values**2, first) / rows[:, None]).round(6).tolist()
        largest = np.maximum.reduceat(values, first).round(6).tolist()
        for number, *of_molecule in zip(numbers.tolist(), rms, largest, strict=True):
            columns = zip(names, *of_molecule, strict=True)
            spreads[number][bound.term.name] = {name: {"rms": mean, "max": most} for name, mean, most in columns}
    return spreads

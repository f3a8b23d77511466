"""Labels on disk: geometries of molecules and what was computed at them, so that work can resume.

The folder holds `settings.json` and record files (`espalike.qm.records`). A record holds the geometries of an entry,
the labels of some of them (energies, forces and, where the calculator gives them, dipoles, potentials and
disagreement), or the reason why there is none. What is written is never computed twice. One exception: a geometry
labelled without the potential that is now requested is labelled again, and the new label counts. Labels without a
dipole stay as they are.
"""

from __future__ import annotations

import inspect
import json
import os
import pydoc
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from espalike.chem.conformers import Conformers, EspGrid
from espalike.chem.molecule import Molecule
from espalike.files import write
from espalike.qm.base import Calculator, CalculatorError, Label, gives, in_batches, labelled_batch
from espalike.qm.label_index import Entry, Failure, LabelIndex, adopt, index_of


@dataclass(frozen=True, eq=False)
class Job:
    """One molecule to label.

    Attributes:
        name: unique; the name of its directory.
        molecule: the graph.
        starts: geometries to start from [Å], shape `(S, A, 3)`, or None to embed the molecule.
        split: what the store will say.
    """

    name: str
    molecule: Molecule
    starts: np.ndarray | None = None
    split: str = ""


Labelled = tuple[np.ndarray, Label]
"""A geometry [Å], shape `(A, 3)`, and its label."""


def conformers_of(labelled: Sequence[Labelled], level: str, source: str) -> Conformers:
    """Labelled geometries of one molecule as conformers; what only some labels hold is unknown for the others."""
    labels = [label for _, label in labelled]
    dipoles = [np.full(3, np.nan) if label.dipole is None else label.dipole for label in labels]
    counts = [0 if label.esp_values is None else len(label.esp_values) for label in labels]
    esp = EspGrid(
        np.concatenate([np.zeros((0, 3)) if label.esp_points is None else label.esp_points for label in labels]),
        np.concatenate([np.zeros(0) if label.esp_values is None else label.esp_values for label in labels]),
        np.array(counts, dtype=np.int64),
    )
    return Conformers(
        xyz=np.array([xyz for xyz, _ in labelled]),
        energy=np.array([label.energy for label in labels]),
        forces=np.array([label.forces for label in labels]),
        level=level,
        source=source,
        dipole=None if np.isnan(dipoles).all() else np.array(dipoles),
        esp=esp if any(counts) else None,
    )


class LabelDirectory:
    """The files of one labelling run.

    Args:
        root: the directory; made when missing.
        retry: forget the failures there are now.
    """

    def __init__(self, root: str | os.PathLike, retry: bool = False):
        self.root = Path(root)
        self.forgotten = time.time() if retry else 0.0

    @property
    def retry(self) -> bool:
        """Whether earlier failures are forgotten."""
        return self.forgotten > 0

    def claim(self, settings: dict, calculator: Calculator | None = None) -> None:
        """Write the run's settings, or compare them with those of the labels that are there.

        A setting that did not exist when the labels were begun must have its default, as the labels had. Labels of
        the layout before there were record files are added to these; their files stay.

        Args:
            settings: those of calculator and sampler.
            calculator: what will label; the files that it has read, such as a model, must have the same content.

        Raises:
            ValueError: when labels of other settings or files are there, naming what differs, or of unknown ones.
        """
        path = self.root / "settings.json"
        if settings and not path.exists() and any(self.root.glob("records-*.bin")):
            raise ValueError(
                f"{path} is missing, which says how the labels beside it were made; put it back, or give another out="
            )
        settings = {**settings, "files": _files_of(calculator)}
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            write(path, json.dumps(settings, indent=1))
        old = _read_json(path, lambda value: isinstance(value, dict) and _is_pairs(value.get("files", [])))
        new = json.loads(json.dumps(settings), object_hook=_renamed)
        if "files" in old and old["files"] != new["files"]:
            read = ", ".join(sorted({name for name, _ in [*old["files"], *new["files"]]}))
            raise ValueError(
                f"{self.root} holds labels made with other content of {read}; choose another `out`, or remove that "
                "directory to begin again"
            )
        compared = {*old, *new} - {"files"}  # earlier versions did not write it
        if names := sorted(key for key in compared if not _same(old.get(key), new.get(key))):
            raise ValueError(
                f"{self.root} holds labels made with other settings ({', '.join(names)}); "
                "choose another `out`, or remove that directory to begin again"
            )
        adopt(self.root, index_of(self.root, again=True))

    def done(self, job: Job, count: int, esp: int = 0) -> int:
        """How many of the first `count` geometries need no more work, the first `esp` of them with potentials."""
        entry = self._index(refresh=True).entry(job.name)
        if entry.geometries is None and self._stays(entry.failures.get(-1)):
            return count
        frames = count if entry.geometries is None else min(count, entry.count)
        return count - sum(self._open(entry, k, k < esp) for k in range(frames))

    def work(
        self,
        job: Job,
        calculator: Calculator,
        sample: Callable[[Molecule, np.ndarray | None], np.ndarray],
        stop: int,
        esp: int = 0,
    ) -> None:
        """Label the first `stop` geometries of a molecule, as far as they are not labelled; failures are recorded.

        Geometries are labelled one by one, or all at once by a calculator that computes batches. Labels with
        potentials are computed one by one.

        Args:
            job: the molecule.
            calculator: computes the labels; its dipoles are kept.
            sample: makes the geometries, when there are none yet.
            stop: number of geometries.
            esp: number of geometries, from the first, that are labelled with electrostatic potentials.

        Raises:
            ValueError: when the directory's name belongs to another molecule, or the calculator has no potential.
        """
        if esp and not gives(calculator, "esp"):
            raise ValueError(f"{calculator.level} gives no electrostatic potential: label with pyscf, or without it")
        self.prepare(job, sample)
        left = list(self.unlabelled(job, stop, esp))
        single = [[pair] for pair in left if pair[0] < esp or not in_batches(calculator)]
        together = [pair for pair in left if pair[0] >= esp and in_batches(calculator)]
        for part in [*single, *([together] if together else [])]:
            numbers = [k for k, _ in part]
            xyz = np.array([geometry for _, geometry in part])
            results = labelled_batch(calculator, job.molecule, xyz, numbers[0] < esp)
            labels = {k: label for k, label in zip(numbers, results, strict=True) if isinstance(label, Label)}
            if labels:
                self.keep(job, labels)
            for k, error in zip(numbers, results, strict=True):
                if isinstance(error, CalculatorError):
                    self.fail(job, k, error, k < esp)

    def prepare(self, job: Job, sample: Callable[[Molecule, np.ndarray | None], np.ndarray]) -> None:
        """Make the geometries of a molecule, when there are none yet and earlier failures to do so are forgotten."""
        entry = self._index(refresh=True).entry(job.name)
        if entry.geometries is not None or self._stays(entry.failures.get(-1)):
            return
        try:
            xyz = sample(job.molecule, job.starts)
        except (CalculatorError, ValueError) as error:
            self.fail(job, -1, error)
            return
        header = {"entry": job.name, "smiles": job.molecule.smiles, "count": len(xyz)}
        self._index().records.append(header, {"xyz": xyz})

    def prepared(self, job: Job) -> bool:
        """Whether the geometries of a molecule are there."""
        return self._index(refresh=True).entry(job.name).geometries is not None

    def unlabelled(self, job: Job, stop: int, esp: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Numbers and coordinates [Å] of those of the first `stop` geometries that are not labelled; see `work`."""
        entry = self._index(refresh=True).entry(job.name)
        for k, xyz in enumerate(self._geometries(job)[:stop]):
            if self._open(entry, k, k < esp):
                yield k, xyz

    def keep(self, job: Job, labels: Mapping[int, Label]) -> None:
        """Write the labels of geometries, by their numbers.

        Args:
            job: the molecule.
            labels: all with the same properties; one label if it has a potential, since numbers of points differ.
        """
        present = [name for name, value in vars(next(iter(labels.values()))).items() if value is not None]
        arrays = {name: np.array([getattr(label, name) for label in labels.values()]) for name in present}
        geometries = self._index().entry(job.name).geometries
        of = None if geometries is None else geometries.checksum
        header = {"entry": job.name, "labels": list(labels), "esp": "esp_values" in arrays, "of": of}
        self._index().records.append(header, arrays)

    def fail(self, job: Job, k: int, error: Exception, esp: bool = False) -> None:
        """Write why geometry k has no label, or with `esp` no label with a potential; k = −1: no geometries."""
        reason = error.reason if isinstance(error, CalculatorError) else type(error).__name__
        failure = Failure(reason, str(error), esp, time.time())
        self._index().records.append({"entry": job.name, "failed": k, **vars(failure)})

    def note(self, program: str) -> None:
        """Remember a program, with its version, that labels came from; not for several processes at once."""
        known = self.programs()
        if program not in known:
            write(self.root / "programs.json", json.dumps(sorted([*known, program])))

    def programs(self) -> list[str]:
        """The programs noted; none when the calculator of the settings labelled by itself."""
        path = self.root / "programs.json"
        return _read_json(path, _is_texts) if path.exists() else []

    def failures(self, job: Job) -> list[Failure]:
        """Why geometries of a molecule, or labels of them, are missing; without those that a later attempt made."""
        return self._index(refresh=True).entry(job.name).missing()

    def labels(self, job: Job) -> dict[int, Labelled]:
        """The labelled geometries of a molecule and their labels, by the numbers of the geometries."""
        entry = self._index(refresh=True).entry(job.name)
        geometries = self._geometries(job)
        read = cache(lambda place: place.read())  # several geometries lie in one record
        return {k: (geometries[k], _label(read(place), row)) for k, (place, row) in sorted(entry.labels.items())}

    def _index(self, refresh: bool = False) -> LabelIndex:
        index = index_of(self.root)
        if refresh:
            index.refresh()
        return index

    def _geometries(self, job: Job) -> np.ndarray:
        """The geometries [Å] of a molecule, shape `(K, A, 3)`; K is 0 where there are none."""
        entry = self._index().entry(job.name)
        if entry.geometries is None:
            return np.zeros((0, job.molecule.n_atoms, 3))
        if entry.smiles != job.molecule.smiles:
            raise ValueError(
                f"{self.root}: {job.name} holds geometries of {entry.smiles}, not of {job.molecule.smiles}; "
                "rename the molecule, or choose another `out`"
            )
        return entry.geometries.read()["xyz"]

    def _stays(self, failure: Failure | None) -> bool:
        return failure is not None and failure.time >= self.forgotten

    def _open(self, entry: Entry, k: int, esp: bool) -> bool:
        """Whether geometry k is to be labelled: its label is not there as requested, and no failure of it stays."""
        failure = entry.failures.get(k)
        if k not in entry.labels:
            return not self._stays(failure)
        if not esp or k in entry.with_esp:
            return False
        return not (self._stays(failure) and failure is not None and failure.esp)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(_is_texts(pair) and len(pair) == 2 for pair in value)


def _read_json(path: Path, fits: Callable[[Any], bool]) -> Any:
    """The content of a file of a label directory, with the present names of classes.

    Raises:
        ValueError: naming the file, when it is not one that was written there.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=_renamed)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); put it back, or choose another `out`") from error
    if not fits(content):
        raise ValueError(f"{path} is damaged: it has not the form that espalike writes; choose another `out`")
    return content


def _files_of(calculator: Calculator | None) -> list[list[str]]:
    """Names and hashes of the files that a calculator has read, as its program states them."""
    program = getattr(calculator, "__dict__", {}).get("program", "")  # a program that is looked up has read no files
    return [list(found) for found in re.findall(r"(\S+) sha256 (\w+)", program)]


def _label(arrays: Mapping[str, np.ndarray], row: int) -> Label:
    """One label of a record."""
    values = {name: array[row] for name, array in arrays.items()}
    return Label(**{**values, "energy": float(values["energy"])})


_RENAMED = {
    "espalike.qm.sampling.Sampler": "espalike.qm.sampling.Thermal",
    "espalike.evaluation.calculator.ModelCalculator": "espalike.qm.models.ModelCalculator",
    "espalike.evaluation.calculator.EnsembleCalculator": "espalike.qm.models.EnsembleCalculator",
    "espalike.assigners.openmm_xml.OpenMMXMLCalculator": "espalike.qm.openmm_xml.OpenMMXMLCalculator",
}


def _renamed(settings: dict) -> dict:
    """Settings with the present names of classes."""
    target = settings.get("_target_")
    return settings | {"_target_": _RENAMED.get(target, target)} if isinstance(target, str) else settings


def _same(old, new) -> bool:
    """Whether settings are equal, those that `old` lacks being at the defaults of what `_target_` names."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return old == new
    defaults: dict = {}
    if "_target_" in new and not new.keys() <= old.keys():
        parameters = inspect.signature(pydoc.locate(new["_target_"])).parameters  # type: ignore[arg-type]
        defaults = {name: parameter.default for name, parameter in parameters.items()}
    missing = object()
    return all(_same(old.get(key, defaults.get(key, missing)), new.get(key, missing)) for key in {*old, *new})

"""Text files of geometries one after the other: those of the same molecule make one record, wherever they stand."""

from __future__ import annotations

from abc import abstractmethod
from codecs import BOM_UTF8
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from espalike.chem import ChemistryError, connectivity_key
from espalike.chem.conformers import Conformers
from espalike.chem.molecule import Molecule
from espalike.data.readers.base import Reader, ReaderError, Units, finite, some_finite
from espalike.data.schema import Record, RecordError


@dataclass(frozen=True)
class Frame:
    """Where one geometry stands.

    Attributes:
        start: first byte.
        stop: the byte after its last one.
        text: its content.
        error: why it cannot be read, or None.
    """

    start: int
    stop: int
    text: str
    error: RecordError | None = None


@dataclass(frozen=True, eq=False)
class Geometry:
    """What one frame says, in the file's units.

    Attributes:
        numbers: atomic numbers, shape `(A,)`.
        xyz: coordinates, shape `(A, 3)`.
        energy: its energy, or None.
        forces: −dE/dx, shape `(A, 3)`, or None.
        dipole: shape `(3,)`, or None.
        interaction: interaction energy of a complex, or None.
        sapt: its components, as in `Conformers`, shape `(4,)`, or None.
        scaling: distance of its molecules relative to equilibrium, or None.
    """

    numbers: np.ndarray
    xyz: np.ndarray
    energy: float | None = None
    forces: np.ndarray | None = None
    dipole: np.ndarray | None = None
    interaction: float | None = None
    sapt: np.ndarray | None = None
    scaling: float | None = None


@dataclass
class Run:
    """The frames of one molecule.

    Attributes:
        name: of the record.
        spans: first bytes and the bytes after the last ones; several where other frames stand between.
        error: why it can make no record, or None.
    """

    name: str
    spans: list[tuple[int, int]]
    error: RecordError | None = None

    def extend(self, frame: Frame) -> None:
        """Take one frame more."""
        start, stop = self.spans[-1]
        if stop == frame.start:
            self.spans[-1] = start, frame.stop
        else:
            self.spans.append((frame.start, frame.stop))


class OptionError(RecordError):
    """A frame that shows that an option of the reader does not fit the file."""


def _with_forces(name: str, stack: list[Geometry]) -> tuple[list[Geometry], list[RecordError]]:
    """The geometries that have forces, where most have, and what is wrong with the others.

    Raises:
        RecordError: when most geometries have none, and some have.
    """
    without = [number for number, geometry in enumerate(stack, start=1) if geometry.forces is None]
    if len(without) in (0, len(stack)):
        return stack, []
    faults = [RecordError("forces missing", f"{name}: geometry {n} of {len(stack)} has no forces") for n in without]
    if 2 * len(without) > len(stack):
        raise RecordError(
            "forces missing",
            f"{name}: {len(without)} of {len(stack)} geometries have no forces; give reader.forces=null (of an SDF "
            "reader.forces=false) to read the energies of all of them without forces",
        )
    return [geometry for geometry in stack if geometry.forces is not None], faults


def _fault(why: Exception, where: str) -> RecordError:
    """What is wrong with one frame."""
    if isinstance(why, RecordError | ChemistryError):
        reason = why.reason if isinstance(why, RecordError) else "chemistry"
        return RecordError(reason, str(why) if str(why).startswith(where) else f"{where}: {why}")
    return RecordError("unreadable", f"{where}: cannot be read ({type(why).__name__}: {why})")


class FrameReader(Reader):
    """Base of readers of such files. A first pass finds where each molecule's frames stand, a second one reads them.

    A subclass cuts the file into frames, says cheaply what molecule a frame is of, and reads one.

    Args:
        path: the file.
        source: name of the data source in tables; None = the file's name.
        level: level of theory of all entries.
    """

    def __init__(self, path: str | Path, source: str | None, level: str | None):
        super().__init__(path, source)
        if self.path.is_dir():
            raise ReaderError(f"{path}: a folder; expected one file")
        self.level = level or ""
        self._units: Units

    @abstractmethod
    def _frames(self, file: BinaryIO) -> Iterator[Frame]:
        """The frames from where the file stands on."""

    @abstractmethod
    def _identity(self, frame: Frame) -> tuple[str, Hashable]:
        """The name of the frame's molecule (empty for none), and what frames of the same molecule have in common."""

    @abstractmethod
    def _geometry(self, name: str, frame: Frame) -> Geometry:
        """What a frame says."""

    @abstractmethod
    def _molecule(self, name: str, frame: Frame, first: Geometry) -> Molecule:
        """The molecule of an entry, from its first frame."""

    @cached_property
    def _runs(self) -> list[Run]:
        runs: list[Run] = []
        seen: dict[str, int] = {}
        known: dict[Hashable, Run] = {}
        with self.path.open("rb") as file:
            if file.read(len(BOM_UTF8)) != BOM_UTF8:
                file.seek(0)
            for frame in self._frames(file):
                try:
                    if frame.error:
                        raise frame.error
                    title, identity = self._identity(frame)
                except Exception as why:  # whatever one frame raises, the others go on
                    fault = _fault(why, f"{self.path.name}, byte {frame.start}")
                    runs.append(Run(self._unused(seen, len(runs)), [(frame.start, frame.stop)], fault))
                    continue
                if identity in known:
                    known[identity].extend(frame)
                    continue
                name = title or self._unused(seen, len(runs))
                error = self._repeated(seen, name, len(runs) + 1)
                known[identity] = Run(name, [(frame.start, frame.stop)], error)
                runs.append(known[identity])
        if not runs:
            raise ReaderError(f"{self.path}: nothing in it; expected one geometry after the other")
        if all(run.error and run.error.reason == "not this format" for run in runs):
            where = f"{self.path.name}, byte {runs[0].spans[0][0]}: "
            raise ReaderError(f"{self.path}: {str(runs[0].error).removeprefix(where)}")
        return runs

    def _unused(self, seen: dict[str, int], count: int) -> str:
        name = f"{self.path.stem}-{count + 1}"
        while name in seen:
            name += "'"
        seen[name] = count + 1
        return name

    @staticmethod
    def _repeated(seen: dict[str, int], name: str, number: int) -> RecordError | None:
        if seen.setdefault(name, number) == number:
            return None
        return RecordError(
            "identifier repeated",
            f"{name}: entries {seen[name]} and {number} have this name and are not the same molecule; "
            "rename one, or give the option `name` another property",
        )

    def __len__(self) -> int:
        return len(self._runs)

    def _raw(self) -> Iterator[tuple[str, Any]]:
        runs = self._runs
        with self.path.open("rb") as file:
            yield from ((run.name, (run, file)) for run in runs)

    def _record(self, name: str, raw: Any) -> Record:
        run, file = raw
        if run.error:
            raise run.error
        first: Frame | None = None
        drawn = 0  # the geometry that shows the bonds: the first one of finite coordinates
        stack: list[Geometry] = []
        faults: list[RecordError] = []
        for frame in self._frames_of(run, file):
            try:
                stack.append(self._geometry(name, frame))
            except (OptionError, ReaderError):  # of all frames
                raise
            except Exception as why:  # whatever one frame raises, the others go on
                faults.append(_fault(why, name))
                continue
            if first is None or not np.isfinite(stack[drawn].xyz).all():
                first, drawn = frame, len(stack) - 1
        if first is None:
            raise faults[0]
        molecule, group = self._molecule(name, first, stack[drawn]), self._group(first)
        stack, without = _with_forces(name, stack)
        conformers = self._conformers(name, stack)
        left_out = (*faults, *without)
        return Record(name, molecule, conformers, key=connectivity_key(molecule), group=group, left_out=left_out)

    def _frames_of(self, run: Run, file: BinaryIO) -> Iterator[Frame]:
        """The frames of one molecule."""
        for start, stop in run.spans:
            file.seek(start)
            for frame in self._frames(file):
                yield frame
                if frame.stop >= stop:
                    break

    def _group(self, frame: Frame) -> str:
        """Kind of interaction of a complex, from its first frame; empty where the file does not say."""
        return ""

    def _angstrom(self, name: str, xyz: np.ndarray) -> np.ndarray:
        """Coordinates [Å]; NaN is refused here, before chemistry looks at distances."""
        return self._units.internal(name, "coords", finite(name, "coordinates", xyz))

    def _conformers(self, name: str, stack: list[Geometry]) -> Conformers:
        def together(what: str, values: list) -> np.ndarray | None:
            known = [value is not None for value in values]
            if not any(known):
                return None
            if what in ("dipoles", "sapt"):  # a row of NaN: not known of this geometry
                unknown = np.full(3 if what == "dipoles" else 4, np.nan)
                values = [unknown if value is None else value for value in values]
            elif not all(known):
                raise RecordError(
                    f"{what} missing", f"{name}: geometry {known.index(False) + 1} of {len(known)} has no {what}"
                )
            shapes = {np.shape(value) for value in values}
            if len(shapes) > 1:
                raise RecordError("shapes disagree", f"{name}: {what} of its geometries have shapes {sorted(shapes)}")
            return self._units.internal(name, what, np.stack(values))

        energy = together("energies", [g.energy for g in stack])
        if energy is not None:
            some_finite(name, "energies", energy)
        scaling = [np.nan if g.scaling is None else g.scaling for g in stack]
        xyz = together("coords", [g.xyz for g in stack])
        assert xyz is not None
        return Conformers(
            xyz=xyz,
            energy=np.full(len(stack), np.nan) if energy is None else energy,
            forces=together("forces", [g.forces for g in stack]),
            level=self.level,
            source=self.source,
            dipole=together("dipoles", [g.dipole for g in stack]),
            interaction=together("interaction", [g.interaction for g in stack]),
            sapt=together("sapt", [g.sapt for g in stack]),
            scaling=None if np.isnan(scaling).all() else np.array(scaling),
        )

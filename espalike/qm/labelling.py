"""Labels on disk: geometries of molecules and what was computed of them, one small file each, so that work can resume.

Layout under the root: `settings.json`, and per molecule a directory with `frames.npz` (the geometries), `<k>.npz`
(the label of geometry k: energy, forces and, where the calculator gives them, dipole and electrostatic potential),
or a `.json` of the same stem that says why there is none. Every file is written under a temporary name and renamed:
what is there is whole, and is never computed twice. One exception: a geometry labelled without the potential that is
now asked for is labelled again, and the new label takes the old one's place. Labels without a dipole stay as they are.
"""

from __future__ import annotations

import inspect
import json
import os
import pydoc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espalike.chem.conformers import EspGrid
from espalike.chem.molecule import Molecule
from espalike.qm.base import Calculator, CalculatorError, Label, gives, labelled


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


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known of one molecule.

    Attributes:
        xyz: labelled geometries [Å], shape `(K, A, 3)`.
        energy: [kcal/mol], shape `(K,)`.
        forces: [kcal/mol/Å], shape `(K, A, 3)`.
        failed: counts of failures by reason.
        messages: what failed.
        dipole: dipole moments about the origin of the coordinates [e Å], shape `(K, 3)`, NaN where unknown; or None.
        esp: electrostatic potential, with 0 points where it was not computed; or None.
    """

    xyz: np.ndarray
    energy: np.ndarray
    forces: np.ndarray
    failed: Counter = field(default_factory=Counter)
    messages: tuple[str, ...] = ()
    dipole: np.ndarray | None = None
    esp: EspGrid | None = None


def merged(parts: Sequence[Labels]) -> Labels:
    """What is known of one molecule from several directories, one after the other."""
    known = any(part.dipole is not None for part in parts)
    nothing = [np.full((len(part.energy), 3), np.nan) for part in parts]
    counts = [np.zeros(len(part.energy), dtype=np.int64) for part in parts]
    potentials = [part.esp for part in parts if part.esp is not None]
    esp = None
    if potentials:
        esp = EspGrid(
            np.concatenate([potential.points for potential in potentials]),
            np.concatenate([potential.values for potential in potentials]),
            np.concatenate([no if p.esp is None else p.esp.count for p, no in zip(parts, counts, strict=True)]),
        )
    dipoles = [no if p.dipole is None else p.dipole for p, no in zip(parts, nothing, strict=True)]
    return Labels(
        xyz=np.concatenate([part.xyz for part in parts]),
        energy=np.concatenate([part.energy for part in parts]),
        forces=np.concatenate([part.forces for part in parts]),
        failed=sum((part.failed for part in parts), Counter()),
        messages=tuple(message for part in parts for message in part.messages),
        dipole=np.concatenate(dipoles) if known else None,
        esp=esp,
    )


class LabelDirectory:
    """The files of one labelling run.

    Args:
        root: the directory; made when missing.
        retry: forget earlier failures.
    """

    def __init__(self, root: str | os.PathLike, retry: bool = False):
        self.root = Path(root)
        self.retry = retry

    def claim(self, settings: dict) -> None:
        """Write the run's settings, or compare them with those of the labels that are there.

        A setting that did not exist when the labels were begun must have its default, as the labels had.

        Raises:
            ValueError: when labels of other settings are there, naming the settings that differ.
        """
        path = self.root / "settings.json"
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps(settings, indent=1).encode())
            return
        old = json.loads(path.read_text())
        if names := sorted(key for key in {*old, *settings} if not _same(old.get(key), settings.get(key))):
            raise ValueError(
                f"{self.root} holds labels made with other settings ({', '.join(names)}); "
                "choose another `out`, or remove that directory to begin again"
            )

    def done(self, job: Job, count: int, esp: int = 0) -> int:
        """How many of the first `count` geometries need no more work, the first `esp` of them with potentials."""
        home = self.root / job.name
        frames = count
        if (home / "frames.npz").exists():
            frames = min(count, len(self._frames(job)))
        elif self._failed(home / "frames.json"):
            return count
        return count - sum(self._open(home, k, k < esp) for k in range(frames))

    def work(
        self,
        job: Job,
        calculator: Calculator,
        sample: Callable[[Molecule, np.ndarray | None], np.ndarray],
        stop: int,
        esp: int = 0,
    ) -> None:
        """Label the first `stop` geometries of a molecule, as far as they are not labelled; failures are recorded.

        Args:
            job: the molecule.
            calculator: what labels; its dipoles are kept.
            sample: makes the geometries, when there are none yet.
            stop: label so many.
            esp: with electrostatic potentials for the first so many.

        Raises:
            ValueError: when the directory's name belongs to another molecule, or the calculator has no potential.
        """
        if esp and not gives(calculator, "esp"):
            raise ValueError(f"{calculator.level} gives no electrostatic potential: label with pyscf, or without it")
        self.prepare(job, sample)
        for k, xyz in self.unlabelled(job, stop, esp):
            try:
                self.keep(job, k, labelled(calculator, job.molecule, xyz, k < esp))
            except CalculatorError as error:
                self.fail(job, k, error, k < esp)

    def prepare(self, job: Job, sample: Callable[[Molecule, np.ndarray | None], np.ndarray]) -> None:
        """Make the geometries of a molecule, when there are none yet and earlier failures to do so are forgotten."""
        home = self.root / job.name
        home.mkdir(parents=True, exist_ok=True)
        if (home / "frames.npz").exists() or self._failed(home / "frames.json"):
            return
        try:
            xyz = sample(job.molecule, job.starts)
            _save(home / "frames.npz", xyz=xyz, smiles=np.array(job.molecule.smiles))
        except (CalculatorError, ValueError) as error:
            self._fail(home / "frames.json", error)

    def unlabelled(self, job: Job, stop: int, esp: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Numbers and coordinates [Å] of those of the first `stop` geometries that are not labelled; see `work`."""
        home = self.root / job.name
        if (home / "frames.npz").exists():
            for k, xyz in enumerate(self._frames(job)[:stop]):
                if self._open(home, k, k < esp):
                    yield k, xyz

    def keep(self, job: Job, k: int, label: Label) -> None:
        """Write the label of geometry k."""
        arrays = {key: value for key, value in vars(label).items() if value is not None}
        _save(self.root / job.name / f"{k}.npz", **arrays)

    def fail(self, job: Job, k: int, error: CalculatorError, esp: bool = False) -> None:
        """Write why geometry k has no label, or with `esp` no label with a potential."""
        self._fail(self.root / job.name / f"{k}.json", error, esp)

    def note(self, program: str) -> None:
        """Remember a program, with its version, that labels came from; not for several processes at once."""
        known = self.programs()
        if program not in known:
            _write(self.root / "programs.json", json.dumps(sorted([*known, program])).encode())

    def programs(self) -> list[str]:
        """The programs noted; none when the calculator of the settings labelled by itself."""
        path = self.root / "programs.json"
        return json.loads(path.read_text()) if path.exists() else []

    def labels(self, job: Job) -> Labels:
        """Everything there is of a molecule, in the order of its geometries."""
        home = self.root / job.name
        frames = self._frames(job) if (home / "frames.npz").exists() else np.zeros((0, job.molecule.n_atoms, 3))
        found = {k: _read(home / f"{k}.npz") for k in range(len(frames)) if (home / f"{k}.npz").exists()}
        failed: Counter = Counter()
        messages = []
        for path in sorted(home.glob("*.json")):
            told = json.loads(path.read_text())
            label = found.get(int(path.stem)) if path.stem.isdigit() else None
            if path.stem == "frames" and (home / "frames.npz").exists():
                continue
            if label is not None and (label.esp_values is not None or not told.get("esp")):
                continue  # a later attempt made it
            failed[told["reason"]] += 1
            messages.append(told["message"])
        labels = list(found.values())
        shape = (len(labels), job.molecule.n_atoms, 3)
        return Labels(
            xyz=frames[list(found)].reshape(shape),
            energy=np.array([label.energy for label in labels]),
            forces=np.array([label.forces for label in labels]).reshape(shape),
            failed=failed,
            messages=tuple(messages),
            dipole=_dipoles(labels),
            esp=_potential(labels),
        )

    def _frames(self, job: Job) -> np.ndarray:
        path = self.root / job.name / "frames.npz"
        with np.load(path, allow_pickle=False) as data:
            if str(data["smiles"]) != job.molecule.smiles:
                raise ValueError(
                    f"{path}: these are geometries of {data['smiles']}, not of {job.molecule.smiles}; "
                    "rename the molecule, or choose another `out`"
                )
            return data["xyz"]

    def _failed(self, path: Path) -> bool:
        return path.exists() and not self.retry

    def _open(self, home: Path, k: int, esp: bool) -> bool:
        """Whether geometry k is to be labelled: its label is not there as asked, and no failure of it stays."""
        label, failure = home / f"{k}.npz", home / f"{k}.json"
        if not label.exists():
            return not self._failed(failure)
        if not esp or _read(label).esp_values is not None:
            return False
        return not (self._failed(failure) and json.loads(failure.read_text()).get("esp"))

    @staticmethod
    def _fail(path: Path, error: Exception, esp: bool = False) -> None:
        reason = error.reason if isinstance(error, CalculatorError) else type(error).__name__
        told = {"reason": reason, "message": str(error)} | ({"esp": True} if esp else {})
        _write(path, json.dumps(told).encode())


def _read(path: Path) -> Label:
    with np.load(path, allow_pickle=False) as data:
        return Label(**{**data, "energy": float(data["energy"])})


def _dipoles(labels: list[Label]) -> np.ndarray | None:
    if all(label.dipole is None for label in labels):
        return None
    return np.array([np.full(3, np.nan) if label.dipole is None else label.dipole for label in labels])


def _potential(labels: list[Label]) -> EspGrid | None:
    known = [label for label in labels if label.esp_values is not None]
    if not known:
        return None
    points = np.concatenate([np.asarray(label.esp_points).reshape(-1, 3) for label in known])
    values = np.concatenate([np.asarray(label.esp_values) for label in known])
    count = [0 if label.esp_values is None else len(label.esp_values) for label in labels]
    return EspGrid(points, values, np.array(count, dtype=np.int64))


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


def _save(path: Path, **arrays: np.ndarray) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, path)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)

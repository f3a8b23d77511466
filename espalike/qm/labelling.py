"""Labels on disk: geometries, energies and forces of molecules, one small file each, so that work can be resumed.

Layout under the root: `settings.json`, and per molecule a directory with `frames.npz` (the geometries), `<k>.npz`
(energy and forces of geometry k), or a `.json` of the same stem that says why there is none. Every file is written
under a temporary name and renamed: what is there is whole, and is never computed twice.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espalike.qm.base import Calculator, CalculatorError
from espalike.types import Molecule


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
    """

    xyz: np.ndarray
    energy: np.ndarray
    forces: np.ndarray
    failed: Counter = field(default_factory=Counter)
    messages: tuple[str, ...] = ()


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

        Raises:
            ValueError: when labels of other settings are there, naming the settings that differ.
        """
        path = self.root / "settings.json"
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            _write(path, json.dumps(settings, indent=1).encode())
            return
        old = json.loads(path.read_text())
        if old != settings:
            names = sorted(key for key in {*old, *settings} if old.get(key) != settings.get(key))
            raise ValueError(
                f"{self.root} holds labels made with other settings ({', '.join(names)}); "
                "choose another `out`, or remove that directory to begin again"
            )

    def done(self, job: Job, count: int) -> int:
        """How many of the first `count` geometries need no more work."""
        home = self.root / job.name
        if not self.retry and (home / "frames.json").exists():
            return count
        present = {path.stem for path in home.glob("[0-9]*.npz")}
        if not self.retry:
            present |= {path.stem for path in home.glob("[0-9]*.json")}
        frames = count
        if (home / "frames.npz").exists():
            frames = min(count, len(self._frames(job)))
        return count - frames + sum(str(k) in present for k in range(frames))

    def work(
        self, job: Job, calculator: Calculator, sample: Callable[[Molecule, np.ndarray | None], np.ndarray], stop: int
    ) -> None:
        """Label the first `stop` geometries of a molecule, as far as they are not labelled; failures are recorded.

        Raises:
            ValueError: when the directory's name belongs to another molecule.
        """
        home = self.root / job.name
        home.mkdir(parents=True, exist_ok=True)
        try:
            if not (home / "frames.npz").exists():
                if self._failed(home / "frames.json"):
                    return
                xyz = sample(job.molecule, job.starts)
                _save(home / "frames.npz", xyz=xyz, smiles=np.array(job.molecule.smiles))
        except (CalculatorError, ValueError) as error:
            self._fail(home / "frames.json", error)
            return
        for k, xyz in enumerate(self._frames(job)[:stop]):
            if (home / f"{k}.npz").exists() or self._failed(home / f"{k}.json"):
                continue
            try:
                energy, forces = calculator(job.molecule, xyz)
                _save(home / f"{k}.npz", energy=np.array(energy), forces=forces)
            except CalculatorError as error:
                self._fail(home / f"{k}.json", error)

    def labels(self, job: Job) -> Labels:
        """Everything there is of a molecule, in the order of its geometries."""
        home = self.root / job.name
        kept, energy, forces = [], [], []
        failed: Counter = Counter()
        messages = []
        frames = self._frames(job) if (home / "frames.npz").exists() else np.zeros((0, job.molecule.n_atoms, 3))
        for k, xyz in enumerate(frames):
            path = home / f"{k}.npz"
            if path.exists():
                with np.load(path, allow_pickle=False) as data:
                    kept.append(xyz)
                    energy.append(float(data["energy"]))
                    forces.append(data["forces"])
        for path in sorted(home.glob("*.json")):
            if not path.with_suffix(".npz").exists():
                told = json.loads(path.read_text())
                failed[told["reason"]] += 1
                messages.append(told["message"])
        shape = (len(kept), job.molecule.n_atoms, 3)
        return Labels(
            xyz=np.array(kept).reshape(shape),
            energy=np.array(energy),
            forces=np.array(forces).reshape(shape),
            failed=failed,
            messages=tuple(messages),
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

    @staticmethod
    def _fail(path: Path, error: Exception) -> None:
        reason = error.reason if isinstance(error, CalculatorError) else type(error).__name__
        _write(path, json.dumps({"reason": reason, "message": str(error)}).encode())


def _save(path: Path, **arrays: np.ndarray) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(temporary, path)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)

"""Models as calculators: dynamics on a trained force field, and where the members of an ensemble disagree."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from espalike.chem.molecule import Molecule
from espalike.energy import energy
from espalike.model import DomainError, ForceFieldModel, find, load
from espalike.qm.base import CalculatorError, Ensemble, checked_batch
from espalike.system import MMSystem


class EnsembleCalculator(Ensemble):
    """Mean energy and forces of several models, computed in float64, and their disagreement.

    A file that holds an ensemble counts as its members.

    The molecule's parameters are assigned once and kept until another molecule comes. A force field's energies have
    an origin of their own for each molecule.

    Args:
        models: shipped names or paths of model files.

    Raises:
        ValueError: when no model is named.
        FileNotFoundError, ModelFileError: see `espalike.model.load`.
    """

    def __init__(self, models: Sequence[str | Path]):
        if not models:
            raise ValueError("an ensemble needs at least one model: models=[a.espalike,b.espalike]")
        paths = [find(model) for model in models]
        self.level = "espalike:" + "+".join(map(_name, paths))
        hashes = (hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in paths)
        files = ", ".join(f"{path.name} sha256 {digest}" for path, digest in zip(paths, hashes, strict=True))
        self.program = f"espalike {version('espalike')}, {files}"
        self._models = [model.double() for path in paths for model in self._loaded(path)]
        self.properties = frozenset({"disagreement"} if len(self._models) > 1 else ())
        self._last: tuple[Molecule, list[MMSystem]] | None = None

    def _loaded(self, path: Path) -> Sequence[ForceFieldModel]:
        """The models in a file that count."""
        return load(path).members

    def members(self, molecule: Molecule, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies and forces of each model; see `Ensemble.members`.

        Raises:
            CalculatorError: when a model has no parameters for the molecule, or the geometries do not fit it.
        """
        positions = torch.from_numpy(checked_batch(molecule, xyz))
        predictions = [energy(system, positions) for system in self._systems(molecule)]
        forces = [prediction.forces.numpy() for prediction in predictions if prediction.forces is not None]
        return np.array([prediction.energy[:, 0].numpy() for prediction in predictions]), np.array(forces)

    def _systems(self, molecule: Molecule) -> list[MMSystem]:
        last = self._last  # read once: another thread may replace it
        if last is None or last[0] is not molecule:
            last = self._last = (molecule, [_parametrized(model, molecule) for model in self._models])
        return last[1]


class ModelCalculator(EnsembleCalculator):
    """Energy and forces of the force field that a model gives, also of one that is an ensemble, without disagreement.

    Args:
        model: a shipped name or the path of a model file.
    """

    def __init__(self, model: str | Path = "espalike-1"):
        super().__init__([model])

    def _loaded(self, path: Path) -> Sequence[ForceFieldModel]:
        return (load(path),)


def _name(path: Path) -> str:
    """A training run's `model.espalike` goes by the name of its folder."""
    parent = path.absolute().parent.name
    return parent if path.stem == "model" and parent else path.stem


def _parametrized(model: ForceFieldModel, molecule: Molecule) -> MMSystem:
    try:
        return model.parametrize(molecule)
    except DomainError as error:
        raise CalculatorError("outside the domain", str(error)) from error
    except ValueError as error:
        raise CalculatorError("no parameters", f"{molecule.name}: {error}") from error

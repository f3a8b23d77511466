"""ANI neural network potentials by TorchANI, from weights on disk; an ensemble of eight, which shows its spread."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from espalike.chem.molecule import Molecule
from espalike.qm.base import CalculatorError, Ensemble, checked_batch
from espalike.units import HARTREE

_FOLDERS = {"ANI-1x": "ani-1x_8x", "ANI-2x": "ani-2x_8x", "ANI-1ccx": "ani-1ccx_8x"}
_MEMBERS = 8


class ANICalculator(Ensemble):
    """Mean energy and forces of the eight networks of ANI-1x, ANI-2x or ANI-1ccx, in float64.

    ANI-1x and ANI-2x were trained on ωB97X/6-31G*, ANI-1ccx on CCSD(T)*/CBS; neutral molecules of H, C, N, O, with
    ANI-2x of S, F, Cl too. J. S. Smith et al., J. Chem. Phys. 2018, 148, 241733; Nat. Commun. 2019, 10, 2903;
    C. Devereux et al., J. Chem. Theory Comput. 2020, 16, 4192.

    Args:
        model: `ANI-1x`, `ANI-2x` or `ANI-1ccx`.
        weights: a folder in the layout of the ANI model zoo (constants, `sae_linfit.dat`, `train0` to `train7`); by
            default the one inside TorchANI, which is never asked to download anything.

    Raises:
        ValueError: for an unknown model.
        FileNotFoundError: when the weights are not there. TorchANI 2.2.4 from PyPI holds those of ANI-1x only: the
            files of the other two are empty.
    """

    properties = frozenset({"disagreement"})

    def __init__(self, model: str = "ANI-2x", weights: str | Path | None = None):
        if model not in _FOLDERS:
            raise ValueError(f"unknown ANI model {model!r}; choose {', '.join(_FOLDERS)}")
        import torch

        torchani = _torchani()
        self.level, self.program = model, f"torchani {torchani.__version__}"
        inside = Path(torchani.__file__).parent / "resources" / _FOLDERS[model]
        folder = inside if weights is None else Path(weights)
        constants = torchani.neurochem.Constants(str(_files(folder, model)))
        self.elements = tuple(constants.species)
        self._aev = torchani.AEVComputer(**constants).double()
        self._shift = torchani.neurochem.load_sae(str(folder / "sae_linfit.dat"))
        self._networks = torch.nn.ModuleList(
            torchani.neurochem.load_model(constants.species, str(folder / f"train{i}" / "networks"))
            for i in range(_MEMBERS)
        ).double()

    def members(self, molecule: Molecule, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies and forces of each network; see `Ensemble.members`.

        Raises:
            CalculatorError: when the molecule holds an element that the networks do not know, or is charged.
        """
        import torch

        energies, positions = self._energies(molecule, checked_batch(molecule, xyz))
        slopes = [torch.autograd.grad(energy.sum(), positions, retain_graph=True)[0] for energy in energies]
        return torch.stack(energies).detach().numpy() * HARTREE, -torch.stack(slopes).numpy() * HARTREE

    def batch(self, molecule: Molecule, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean energies and forces, from one gradient of the mean; see `Ensemble.batch`."""
        import torch

        energies, positions = self._energies(molecule, checked_batch(molecule, xyz))
        energy = torch.stack(energies).mean(0)
        (slope,) = torch.autograd.grad(energy.sum(), positions)
        return energy.detach().numpy() * HARTREE, -slope.numpy() * HARTREE

    def _energies(self, molecule: Molecule, xyz: np.ndarray):
        """Energy of each network [hartree], each `(K,)`, and the coordinates they can be differentiated by."""
        import torch

        kinds = torch.tensor(self._kinds(molecule)).expand(len(xyz), -1)
        positions = torch.from_numpy(xyz).requires_grad_(True)
        described = self._aev((kinds, positions))
        return [self._shift(network(described)).energies for network in self._networks], positions

    def _kinds(self, molecule: Molecule) -> list[int]:
        from rdkit.Chem import GetPeriodicTable

        symbols = [GetPeriodicTable().GetElementSymbol(int(number)) for number in molecule.numbers]
        unknown = sorted(set(symbols) - set(self.elements))
        if unknown:
            raise CalculatorError(
                "element not known",
                f"{molecule.name}: {self.level} knows {', '.join(self.elements)}, not {', '.join(unknown)}",
            )
        if molecule.net_charge:
            raise CalculatorError(
                "charged",
                f"{molecule.name}: {self.level} is for neutral molecules, not charge {molecule.net_charge:+d}",
            )
        return [self.elements.index(symbol) for symbol in symbols]


def _torchani():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its compiled kernels, which are optional, and of pkg_resources
        import torchani
        import torchani.neurochem
    return torchani


def _files(folder: Path, model: str) -> Path:
    """The file of constants, once every file that is needed is known to be there and not empty."""
    constants = next((path for path in sorted(folder.glob("*.params"))), folder / "*.params")
    needed = [constants, folder / "sae_linfit.dat"]
    needed += [folder / f"train{i}" / "networks" / "ANN-H.nnf" for i in range(_MEMBERS)]
    for path in needed:
        if not path.is_file() or not path.stat().st_size:
            raise FileNotFoundError(
                f"{model}: {path} is {'empty' if path.is_file() else 'missing'}. TorchANI 2.2.4 from PyPI holds the "
                "weights of ANI-1x only; give a folder of the ANI model zoo as calculator.weights=FOLDER"
            )
    return constants

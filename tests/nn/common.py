"""Models of every force field in the configuration, small and far from their means."""

import functools
from importlib.resources import files

import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from rdkit import Chem

from espalike.chem import from_rdkit, to_rdkit
from espalike.model import ForceFieldModel, from_config
from espalike.terms.base import PairTerm

F64 = torch.float64
FORCE_FIELDS = sorted(p.name.removesuffix(".yaml") for p in (files("espalike.configs") / "forcefield").iterdir())
SIZE = {"width": 16, "layers": 2, "hidden": 16}


@functools.cache
def config(forcefield: str, *overrides: str) -> dict:
    """What `espalike train forcefield=NAME` hands to `from_config`, on a small network."""
    with initialize_config_module("espalike.configs", version_base="1.3"):
        composed = OmegaConf.to_container(
            compose("train", [f"forcefield={forcefield}", *overrides]), resolve=True, throw_on_missing=False
        )
    return {"terms": list(composed["forcefield"]["term"].values()), "conv": composed["conv"], **SIZE}


def loud(model: ForceFieldModel) -> ForceFieldModel:
    """The model in double precision, with parameters far from their means."""
    model = model.double().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "tuple.3.weight" in name:
                weight.mul_(20.0)
            elif name.startswith("heads.") and weight.ndim == 0:  # a universal parameter
                weight.copy_(torch.randn((), dtype=F64))
    return model


@functools.cache
def model(forcefield: str, *overrides: str) -> ForceFieldModel:
    torch.manual_seed(0)
    return loud(from_config(config(forcefield, *overrides)))


def renumbered(molecule, order):
    """The molecule whose atom i is atom `order[i]` of `molecule`."""
    return from_rdkit(Chem.RenumberAtoms(to_rdkit(molecule), [int(i) for i in order]), molecule.name)


def by_tuple(system, place):
    """Parameters by term and tuple, as the lowest of the equivalent writings of a tuple; `place` renames the atoms."""
    parameters = {}
    for bound in system.terms:
        term = bound.term
        per_atom = isinstance(term, PairTerm)
        for row, values in enumerate(bound.values):
            atoms = [int(place[a]) for a in ([row] if per_atom else bound.tuples.idx[row])]
            writings = {}
            for op in term.symmetry:
                columns = list(op.columns or range(len(values)))
                signs = torch.tensor(op.signs or (1,) * len(values))
                writings[tuple(atoms[a] for a in op.atoms)] = values[columns] * signs
            lowest = min(writings)
            parameters[term.name, lowest] = writings[lowest]
    return parameters

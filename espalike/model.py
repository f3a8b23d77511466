"""The model: molecules in, parameters out."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from espalike import modelfile
from espalike.batch import Batch, batch_of
from espalike.bounds import check_number
from espalike.chem.molecule import Molecule, listed
from espalike.devices import on_cpu
from espalike.domain import ChemicalDomain as ChemicalDomain
from espalike.domain import DomainError as DomainError
from espalike.features import FEATURES
from espalike.modelfile import DEFAULT as DEFAULT
from espalike.modelfile import ModelFileError as ModelFileError
from espalike.modelfile import describe as describe
from espalike.modelfile import find as find
from espalike.modelfile import shipped as shipped
from espalike.nn.build import UntrustedTarget, bounded, build
from espalike.nn.encoder import Encoder
from espalike.nn.orbits import Orbits
from espalike.nn.readout import Readout
from espalike.provenance import Provenance as Provenance
from espalike.provenance import common
from espalike.ranges import ParameterError as ParameterError
from espalike.ranges import check_ranges
from espalike.system import Bound, MMSystem, charges_of, with_charges
from espalike.tables import aligned, html_table
from espalike.terms.base import Term
from espalike.tuples import Kind

_LAYERS_PER_TENSOR = 10
"""More modules of a network than this per tensor of its file belong to a damaged configuration."""


class ForceFieldModel(nn.Module):
    """Graph network, one symmetric head per term, charge equilibration: `Batch -> MMSystem`.

    Args:
        terms: functional forms of the force field.
        conv: makes a message-passing layer from its input and output width.
        width: size of an atom's representation.
        layers: number of message-passing layers.
        hidden: size of the heads' hidden layers.
        levels: levels of theory in training; the first is the target, the others may shift equilibrium geometry.
        readout: where the heads' hidden layers are, `lean` (on atoms) or `deep` (also on tuples).

    Examples:
        >>> load("espalike-1")
        Ensemble of 2476624 weights
        terms       HarmonicBond, HarmonicAngle, PeriodicProper, PeriodicImproper, LennardJones, Coulomb
        network     SAGE, 4 layers, width 128
        members     4
        elements    H B C N O F Na Si P S Cl K Br I
        net charge  -2 to +4
    """

    _in_float64: tuple[Self, ...] = ()  # a tuple, which torch does not take for a part of the network

    def __init__(
        self,
        terms: Sequence[Term],
        conv: Any,
        width: int = 128,
        layers: int = 4,
        hidden: int = 128,
        levels: Sequence[str] = ("",),
        readout: str = "deep",
    ):
        super().__init__()
        if not terms:
            raise ValueError("a force field needs at least one term")
        odd = [term for term in terms if not isinstance(term, Term)]
        if odd or not callable(conv):
            raise ValueError(f"a model has terms and a convolution; got {[*odd, conv]}")
        if isinstance(levels, str) or not all(isinstance(level, str) for level in levels):
            raise ValueError(f"model.levels={levels}: expected a list of levels of theory")
        names = [term.name for term in terms]
        if len(set(names)) < len(names):
            raise ValueError(f"a force field lists each term once; got {', '.join(names)}")
        for name, value, least in (("width", width, 1), ("layers", layers, 0), ("hidden", hidden, 1)):
            check_number(f"model.{name}", value, least)
        self.terms, self.levels = tuple(terms), tuple(levels)
        self.encoder = Encoder(conv, len(FEATURES), width, layers)
        self.heads = Readout(self.terms, width, hidden, len(self.levels), readout)
        self.provenance: Provenance | None = None

    def _title(self) -> str:
        return f"{type(self).__name__} of {sum(p.numel() for p in self.parameters())} weights"

    def _row(self) -> dict[str, object]:
        """What the model is made of and was trained on, by column."""
        encoder = self.members[0].encoder
        conv = f"{type(encoder.convs[0]).__name__}, " if encoder.convs else ""
        row = {
            "terms": ", ".join(term.name for term in self.terms),
            "network": f"{conv}{len(encoder.convs)} layers, width {encoder.enter.out_features}",
            "members": "" if len(self.members) == 1 else len(self.members),
            "elements": " ".join(self.domain.symbols),
            "net charge": self.domain.charge_range if self.domain.elements else "",
        }
        return {name: fact for name, fact in row.items() if fact}

    def __repr__(self) -> str:
        return f"{self._title()}\n{aligned(list(self._row().items()))}"

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        return f"<p>{self._title()}</p>{html_table([self._row()])}"

    def forward(self, batch: Batch, orbits: Orbits | None = None) -> MMSystem:
        """Parameters of every molecule at its level of theory; `orbits` are `Encoder.orbits`, where they are known."""
        orbits = self.encoder.orbits(batch) if orbits is None else orbits
        h = self.encoder(batch.x, orbits)
        values = self.heads(h, batch, orbits)
        bound = (Bound(term, batch.tuples_of(term), value) for term, value in zip(self.terms, values, strict=True))
        system = MMSystem(tuple(bound), batch.numbers, batch.mol)
        return system if self.training else system.without_small()

    @on_cpu()
    @torch.no_grad()
    def parametrize(
        self,
        molecules: Molecule | Sequence[Molecule],
        charges: Sequence[np.ndarray | None] | np.ndarray | None = None,
        level: str | None = None,
    ) -> MMSystem:
        """Parameters of one molecule or several, computed in float64, ready for export.

        Args:
            molecules: one molecule, or several that go side by side into one system.
            charges: partial charges [e] to use instead of the model's, `(A,)` for one molecule or one array
                (or None) per molecule. A sum that is off the formal charge by up to 0.01 e is corrected evenly.
            level: one of `levels`, whose equilibrium geometry is used; None: the target level.

        Raises:
            DomainError: for an element the model was not trained on, and for a centre of five or more neighbours.
            ParameterError: for a parameter that no molecule has, naming molecule, term, parameter and atoms.
            ValueError: for a level that the model was not trained with, when given charges do not fit the molecule,
                or a force field that needs them gets none.
        """
        several = listed(molecules)
        given = [charges] if isinstance(molecules, Molecule) else charges_of(several, charges)
        self._require(several)
        return _finished(self.in_float64()(self._batch(several, self.level_index(level))), several, given)

    def _require(self, molecules: Sequence[Molecule]) -> None:
        """Refuse molecules that the model can have no parameters for, see `ChemicalDomain.require`."""
        if self.domain.elements:
            for molecule in molecules:
                self.domain.require(molecule)

    def level_index(self, level: str | None) -> int:
        """Index of one of `levels`; 0, the target's, for None.

        Raises:
            ValueError: for a level that the model was not trained with, listing those that it was.
        """
        if level is None:
            return 0
        if level not in self.levels:
            known = ", ".join(filter(None, self.levels)) or "one without a name"
            raise ValueError(f"level {level!r}: the model was not trained with it; levels, the target first: {known}")
        return self.levels.index(level)

    def _batch(self, molecules: Sequence[Molecule], level: int = 0) -> Batch:
        """Molecules at a level of theory, with the kinds of tuples that the force field needs."""
        kinds = {Kind.ATOM, Kind.BOND} | {kind for term in self.terms for kind in (term.kind, term.param_kind)}
        kinds |= {param.borrows.kind for term in self.terms for param in term.params if param.borrows is not None}
        batch = batch_of(molecules, torch.float64, kinds)
        return replace(batch, level=torch.full_like(batch.level, level))

    @torch.no_grad()
    def in_float64(self) -> Self:
        """This model in float64, on the CPU, in evaluation mode: itself, or a copy that gets the present weights."""
        first = next(self.parameters())
        if (first.dtype, first.device.type, self.training) == (torch.float64, "cpu", False):
            return self
        if not self._in_float64:
            with torch.inference_mode(False):  # weights made in that mode could not change outside
                self._in_float64 = (copy.deepcopy(self).to("cpu", torch.float64).eval(),)
        (kept,) = self._in_float64
        present = chain(self.parameters(), self.buffers())
        for old, new in zip(chain(kept.parameters(), kept.buffers()), present, strict=True):
            old.copy_(new)
        return kept

    @property
    def members(self) -> tuple[ForceFieldModel, ...]:
        """The models that an ensemble is made of; a single model is the only member of itself."""
        return (self,)

    @property
    def domain(self) -> ChemicalDomain:
        """Chemistry of the training molecules; empty for an untrained model."""
        return self.provenance.domain if self.provenance else ChemicalDomain()

    def save(self, path: str | Path) -> None:
        """Write weights and provenance to one self-contained file.

        Raises:
            ValueError: when the model has no provenance, hence no configuration to be rebuilt from.
        """
        if self.provenance is None:
            raise ValueError("a model without provenance cannot be saved; build it with from_config")
        description = {**vars(self.provenance), **self.provenance.domain.to_header()}
        modelfile.write(path, description, len(self.members), self.state_dict())


class Ensemble(ForceFieldModel):
    """Several models of one force field; its parameters are the mean of theirs, so it is a force field, too.

    Equilibrium values are weighted by their force constants (`Param.weight`), other parameters are plain means. The
    energy of harmonic terms and of torsions is therefore the mean of the members' energies, up to a constant. Of other
    forms, such as quartic bonds and pair terms, it is close to that mean. It is not meant to be trained.

    Args:
        members: two or more models with the same configuration; an ensemble counts as its members. Its domain is what
            the domains of all have in common, and its training molecules are those of any.

    Raises:
        ValueError: for fewer models, or models that differ in more than their weights and training data.
        TypeError: for what is not a model.
    """

    def __init__(self, members: Sequence[ForceFieldModel]):
        nn.Module.__init__(self)  # the networks are the members'
        if odd := [type(model).__name__ for model in members if not isinstance(model, ForceFieldModel)]:
            raise TypeError(f"an ensemble is made of models, as espalike.load gives them; got {odd[0]}")
        members = [member for model in members for member in model.members]
        if len(members) < 2:
            raise ValueError(f"an ensemble has two or more members; got {len(members)}")
        provenances = [member.provenance for member in members if member.provenance is not None]
        if len(provenances) < len(members) or any(each.config != provenances[0].config for each in provenances):
            raise ValueError("members of an ensemble have the same configuration, made by from_config")
        self.terms, self.levels = members[0].terms, members[0].levels
        self.models = nn.ModuleList(members)
        self.provenance = common(provenances)

    @property
    def members(self) -> tuple[ForceFieldModel, ...]:
        """The models over which parameters are averaged."""
        return tuple(self.models)  # type: ignore[arg-type]

    def forward(self, batch: Batch, orbits: Orbits | None = None) -> MMSystem:
        """Mean parameters of every molecule in the batch."""
        return self._mean(batch, *self._members(batch, orbits))

    def _members(self, batch: Batch, orbits: Orbits | None = None) -> tuple[MMSystem, list[Tensor]]:
        """The first member's system, and for each term the parameters of all, `(members, T, P)`."""
        orbits = self.members[0].encoder.orbits(batch) if orbits is None else orbits
        systems = [member(batch, orbits) for member in self.members]
        same = zip(*(system.terms for system in systems), strict=True)
        return systems[0], [torch.stack([bound.values for bound in each]) for each in same]

    def _mean(self, batch: Batch, first: MMSystem, values: Sequence[Tensor]) -> MMSystem:
        """Mean parameters, from the result of `_members`."""
        means = [_mean(term, each) for term, each in zip(self.terms, values, strict=True)]
        return first.with_values(self.members[0].heads.stacked(means, batch)).without_small()

    @torch.no_grad()
    def deviation(self, batch: Batch) -> MMSystem:
        """Standard deviation of the members' parameters, unbiased, in place of the parameters."""
        first, values = self._members(batch)
        return first.with_values([_deviation(each) for each in values])

    @on_cpu()
    def spread(self, molecules: Molecule | Sequence[Molecule]) -> MMSystem:
        """`deviation` of one molecule or several, computed in float64."""
        return self.in_float64().deviation(self._batch(listed(molecules)))

    @on_cpu()
    @torch.no_grad()
    def parametrize_with_spread(
        self, molecules: Sequence[Molecule], charges: Sequence[np.ndarray | None]
    ) -> tuple[MMSystem, MMSystem]:
        """The results of `parametrize` and `spread`, for which each member runs once."""
        self._require(molecules)
        batch = self._batch(molecules)
        first, values = self.in_float64()._members(batch)
        mean = _finished(self._mean(batch, first, values), molecules, charges)
        return mean, first.with_values([_deviation(each) for each in values])


def _deviation(values: Tensor) -> Tensor:
    """Standard deviation over the first axis, unbiased; torch's warns where there are no tuples."""
    return ((values - values.mean(0)).square().sum(0) / (len(values) - 1)).sqrt()


def _mean(term: Term, values: Tensor) -> list[Tensor]:
    """Columns of the mean parameters of a term, from those of the members, shape `(members, T, P)`."""
    columns = dict(zip((param.name for param in term.params), values.unbind(-1), strict=True))
    means = []
    for param in term.params:
        weight = columns[param.weight] if param.weight else torch.ones_like(columns[param.name])
        means.append((weight * columns[param.name]).sum(0) / weight.sum(0))
    return means


def _finished(system: MMSystem, molecules: Sequence[Molecule], given: Sequence[Any]) -> MMSystem:
    """The system with its molecules and given charges; its parameters are within their ranges."""
    system = replace(with_charges(system, molecules, given), molecules=tuple(molecules))
    check_ranges(system)
    return system


def from_config(config: dict[str, Any]) -> ForceFieldModel:
    """An untrained model from plain configuration (`terms`, `conv`, `width`, …).

    Raises:
        UntrustedTarget: when the configuration names anything but terms and networks.
        ValueError: when it does not fit the model.
    """
    model = build({"_target_": "espalike.model.ForceFieldModel", **config})
    model.provenance = Provenance(config)
    return model


@on_cpu()
def load(name: str | os.PathLike = DEFAULT) -> ForceFieldModel:
    """The model of this name: a shipped one (`espalike models`), or a file. Nothing in it is executed.

    Raises:
        FileNotFoundError, ModelFileError: for an unknown name, listing the known ones; for a damaged or another file.
        UntrustedTarget: for a model with a class that belongs neither to espalike nor to an installed plug-in.

    Examples:
        >>> load("espalike-1").parametrize(Molecule.from_smiles("O")).bound("HarmonicBond").values.shape
        torch.Size([2, 2])
    """
    path = find(name)
    if successor := modelfile.SUPERSEDED.get(str(name)):
        warnings.warn(f"{name} will leave with the next version; {successor} succeeds it", FutureWarning, stacklevel=3)
    header, tensors = modelfile.read(path)
    with torch.random.fork_rng(devices=[]):  # weights are drawn, then replaced: the caller's random numbers stay
        first = _first_member(path, header["config"], header["members"], tensors)
    members = [first, *(copy.deepcopy(first) for _ in range(header["members"] - 1))]
    model = members[0] if len(members) == 1 else Ensemble(members)
    model.to(torch.promote_types(torch.get_default_dtype(), torch.float32)).load_state_dict(tensors)
    domain = ChemicalDomain.from_header(header)
    rest = {key: header[key] for key in ("config", "data", "split", "figures", "notes")}
    for part in (model, *model.members):
        part.provenance = Provenance(domain=domain, **rest)
    return model.eval()


def _first_member(path: Path, config: dict[str, Any], members: int, tensors: dict[str, Tensor]) -> ForceFieldModel:
    """A model of the configuration, if names and shapes of the weights of all members are those that it has.

    Raises:
        ModelFileError, UntrustedTarget: naming the file and what does not fit.
        ImportError: when the network needs a package that is not installed.
    """
    try:
        with bounded(_LAYERS_PER_TENSOR * (len(tensors) + 1), sum(value.numel() for value in tensors.values())):
            model = from_config(config)
    except UntrustedTarget as error:
        raise UntrustedTarget(f"{path}: {error}") from error
    except ImportError as error:
        raise ImportError(f"{path}: {error}") from error
    except Exception as error:  # a configuration may be wrong in any way
        raise ModelFileError(
            f"{path}: its configuration gives no model that its {len(tensors)} tensors fit: {error}"
        ) from error
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    prefixes = [""] if members == 1 else [f"models.{i}." for i in range(members)]
    if len(tensors) != members * len(shapes):
        raise ModelFileError(
            f"{path}: weights do not fit the configuration: expected {members * len(shapes)} tensors, "
            f"got {len(tensors)}; get the file again"
        )
    for prefix in prefixes:
        for name, shape in shapes.items():
            given = tuple(tensors[prefix + name].shape) if prefix + name in tensors else None
            if given != shape:
                raise ModelFileError(
                    f"{path}: weights do not fit the configuration: {prefix}{name}: expected shape {shape}, "
                    f"got {'none' if given is None else given}; get the file again"
                )
    return model

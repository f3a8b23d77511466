"""The model: molecules in, parameters out; and its file, which is data and never code."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from espalike.batch import Batch, batch_of
from espalike.bounds import check_number
from espalike.chem.molecule import Molecule
from espalike.domain import ChemicalDomain as ChemicalDomain
from espalike.domain import DomainError as DomainError
from espalike.domain import environments as environments
from espalike.features import FEATURES
from espalike.nn.build import build
from espalike.nn.encoder import Encoder
from espalike.nn.readout import Readout
from espalike.system import Bound, MMSystem
from espalike.terms.base import Term

FORMAT_VERSION = 1
"""Version of the model file's layout; raised when an older reader would misread a newer file."""
ENSEMBLE_VERSION = 2
"""Version of a file that holds an ensemble, which readers of single models would misread."""
DEFAULT = "espalike-small"
"""Name of the shipped model that is used when none is named."""
UNITS = {"length": "angstrom", "energy": "kcal/mol", "charge": "e", "angle": "radian"}
_DESCRIPTION = {"units", "features", "config", "domain", "data", "split", "figures", "notes"}
_LARGEST_CHARGE_ERROR = 0.01
_MOST_MEMBERS = 1000


class ModelFileError(ValueError):
    """A file is not a model file this version can read."""


@dataclass
class Provenance:
    """Where a model comes from; plain data, stored in its file.

    Attributes:
        config: the configuration the network is rebuilt from.
        domain: chemistry of the training molecules.
        data: per store: name, hash, source, licence.
        split: connectivity keys by split.
        figures: test figures, as reported in the card.
        notes: anything else worth saying, e.g. the training configuration.
    """

    config: dict[str, Any]
    domain: ChemicalDomain = field(default_factory=ChemicalDomain)
    data: list[dict[str, Any]] = field(default_factory=list)
    split: dict[str, list[str]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


class ForceFieldModel(nn.Module):
    """Graph network, one symmetric head a term, charge equilibration: `Batch -> MMSystem`.

    Args:
        terms: functional forms of the force field.
        conv: makes a message-passing layer from its input and output width.
        width: size of an atom's representation.
        layers: number of message-passing layers.
        hidden: size of the heads' hidden layers.
        levels: levels of theory in training; the first is the target, the others may shift equilibrium
            geometry in training only.
        readout: where the heads' hidden layers are, `lean` (on atoms) or `deep` (also on tuples).
    """

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
        names = [term.name for term in terms]
        if len(set(names)) < len(names):
            raise ValueError(f"a force field lists each term once; got {', '.join(names)}")
        for name, value, least in (("width", width, 1), ("layers", layers, 0), ("hidden", hidden, 1)):
            check_number(f"model.{name}", value, least)
        self.terms, self.levels = tuple(terms), tuple(levels)
        self.encoder = Encoder(conv, len(FEATURES), width, layers)
        self.heads = Readout(self.terms, width, hidden, len(self.levels), readout)
        self.provenance: Provenance | None = None

    def forward(self, batch: Batch) -> MMSystem:
        """Parameters of every molecule in the batch, at the molecule's level of theory."""
        orbits = self.encoder.orbits(batch)
        h = self.encoder(batch.x, orbits)
        values = self.heads(h, batch, orbits)
        bound = (Bound(term, batch.tuples[term.kind], value) for term, value in zip(self.terms, values, strict=True))
        return MMSystem(tuple(bound), batch.numbers, batch.mol)

    @torch.no_grad()
    def parametrize(
        self, molecules: Molecule | Sequence[Molecule], charges: Sequence[np.ndarray | None] | np.ndarray | None = None
    ) -> MMSystem:
        """Parameters of one molecule or several, computed in float64, ready for export.

        Args:
            molecules: one molecule, or several that go side by side into one system.
            charges: partial charges [e] to use instead of the model's, `(A,)` for one molecule or one array
                (or None) a molecule. A sum that is off the formal charge by up to 0.01 e is corrected evenly.

        Raises:
            DomainError: for an element the model was not trained on.
            ValueError: when given charges do not fit the molecule, or a force field that needs them gets none.
        """
        several = [molecules] if isinstance(molecules, Molecule) else list(molecules)
        given = [charges] if isinstance(molecules, Molecule) else list(charges or [None] * len(several))
        if self.provenance is not None and self.provenance.domain.elements:
            for molecule in several:
                self.provenance.domain.check(molecule)
        double = self if next(self.parameters()).dtype == torch.float64 else copy.deepcopy(self).double()
        system = double.eval()(batch_of(several, torch.float64))
        system = _with_charges(system, several, given)
        return MMSystem(system.terms, system.numbers, system.mol, tuple(several))

    @property
    def members(self) -> tuple[ForceFieldModel, ...]:
        """The models that an ensemble is made of; a single model is its own only member."""
        return (self,)

    @property
    def domain(self) -> ChemicalDomain:
        """Chemistry of the training molecules; empty for a model that was not trained."""
        return self.provenance.domain if self.provenance else ChemicalDomain()

    def save(self, path: str | Path) -> None:
        """Write weights and provenance to one self-contained file.

        Raises:
            ValueError: when the model has no provenance, hence no configuration to be rebuilt from.
        """
        from safetensors.torch import save

        if self.provenance is None:
            raise ValueError("a model without provenance cannot be saved; build it with from_config")
        provenance = {**self.provenance.__dict__, "domain": self.provenance.domain.__dict__}
        n = len(self.members)
        version = {"format_version": FORMAT_VERSION} if n == 1 else {"format_version": ENSEMBLE_VERSION, "members": n}
        header = {**version, "units": UNITS, "features": list(FEATURES), **provenance}
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        temporary = Path(f"{path}.tmp")
        temporary.write_bytes(save(tensors, metadata={"espalike": json.dumps(header)}))
        os.replace(temporary, path)


class Ensemble(ForceFieldModel):
    """Several models of one force field as one: its parameters are the mean of theirs, so it is a force field, too.

    It is made to be used, not to be trained.

    Args:
        members: two or more models with the same configuration; the first's provenance is the ensemble's.

    Raises:
        ValueError: for fewer models, or models that differ in more than their weights.
    """

    def __init__(self, members: Sequence[ForceFieldModel]):
        nn.Module.__init__(self)  # the networks are the members'
        if len(members) < 2:
            raise ValueError(f"an ensemble has two or more members; got {len(members)}")
        first = members[0].provenance
        if first is None or any(m.provenance is None or m.provenance.config != first.config for m in members):
            raise ValueError("members of an ensemble have the same configuration, made by from_config")
        self.terms, self.levels = members[0].terms, members[0].levels
        self.models = nn.ModuleList(members)
        self.provenance = first

    @property
    def members(self) -> tuple[ForceFieldModel, ...]:
        """The models whose mean this is."""
        return tuple(self.models)  # type: ignore[arg-type]

    def forward(self, batch: Batch) -> MMSystem:
        """Mean parameters of every molecule in the batch."""
        return _over_members([member(batch) for member in self.members], lambda values: values.mean(0))

    @torch.no_grad()
    def deviation(self, batch: Batch) -> MMSystem:
        """Standard deviation of the members' parameters, unbiased, in the place of each parameter."""
        return _over_members([member(batch) for member in self.members], _deviation)

    def spread(self, molecules: Molecule | Sequence[Molecule]) -> MMSystem:
        """`deviation` of one molecule or several, computed in float64."""
        several = [molecules] if isinstance(molecules, Molecule) else list(molecules)
        return copy.deepcopy(self).double().eval().deviation(batch_of(several, torch.float64))


def _deviation(values: Tensor) -> Tensor:
    """Standard deviation over the first axis, unbiased; torch's warns where there are no tuples."""
    return ((values - values.mean(0)).square().sum(0) / (len(values) - 1)).sqrt()


def _over_members(systems: Sequence[MMSystem], reduce: Callable[[Tensor], Tensor]) -> MMSystem:
    """Parameters of systems with the same terms and tuples, stacked in front, reduced to those of one."""
    terms = tuple(
        Bound(own[0].term, own[0].tuples, reduce(torch.stack([bound.values for bound in own])))
        for own in zip(*(system.terms for system in systems), strict=True)
    )
    return MMSystem(terms, systems[0].numbers, systems[0].mol)


def _with_charges(system: MMSystem, molecules: Sequence[Molecule], given: Sequence[Any]) -> MMSystem:
    """The system with given charges in place of the model's."""
    position = next((i for i, b in enumerate(system.terms) if b.term.params[0].link == "charge"), None)
    if position is not None and getattr(system.terms[position].term, "charges", None) == "input":
        without = [m.name for m, charges in zip(molecules, given, strict=True) if charges is None]
        if without:
            raise ValueError(
                f"{', '.join(without)}: this force field has no charges of its own; give them: charges= in Python, "
                "--charges FILE or --charges am1bcc on the command line"
            )
    if all(charges is None for charges in given):
        return system
    if position is None:
        raise ValueError("charges were given, but the model's force field has no charge term")
    values, start = system.terms[position].values.clone(), 0
    for molecule, charges in zip(molecules, given, strict=True):
        if charges is not None:
            values[start : start + molecule.n_atoms, 0] = torch.from_numpy(fit_to_formal(molecule, charges))
        start += molecule.n_atoms
    bound = Bound(system.terms[position].term, system.terms[position].tuples, values)
    return MMSystem((*system.terms[:position], bound, *system.terms[position + 1 :]), system.numbers, system.mol)


def fit_to_formal(molecule: Molecule, charges: np.ndarray) -> np.ndarray:
    """Charges [e] whose sum is the formal charge; a rounding error is spread evenly.

    Raises:
        ValueError: when the count is wrong, a value is not finite, or the sum is off by more than 0.01 e.
    """
    charges = np.asarray(charges, dtype=np.float64)
    if charges.shape != (molecule.n_atoms,):
        raise ValueError(f"{molecule.name}: expected {molecule.n_atoms} charges, one an atom; got {charges.size}")
    if not np.isfinite(charges).all():
        raise ValueError(f"{molecule.name}: charges hold values that are not finite numbers")
    error = charges.sum() - molecule.net_charge
    if abs(error) > _LARGEST_CHARGE_ERROR:
        raise ValueError(
            f"{molecule.name}: charges sum to {charges.sum():+.4f} e, but the molecule's formal charge is "
            f"{molecule.net_charge:+d}; give charges of this molecule in this protonation state"
        )
    return charges - error / molecule.n_atoms


def from_config(config: dict[str, Any]) -> ForceFieldModel:
    """An untrained model from plain configuration (`terms`, `conv`, `width`, …).

    Raises:
        UntrustedTarget: when the configuration names anything but terms and networks.
        ValueError: when it does not fit the model.
    """
    model = build({"_target_": "espalike.model.ForceFieldModel", **config})
    model.provenance = Provenance(config)
    return model


def describe(path: str | Path) -> dict[str, Any]:
    """What a model file says of itself, without reading weights or building anything.

    Raises:
        ModelFileError: when it is not a model file, or of a format this version does not read.
        FileNotFoundError: when there is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ModelFileError(
            f"{path} is not an espalike model file ({error}). Model files are safetensors; "
            "pickled checkpoints are never loaded."
        ) from error
    if "espalike" not in metadata:
        raise ModelFileError(f"{path} holds tensors but no espalike model description")
    try:
        header = json.loads(metadata["espalike"])
        version = header.get("format_version")
    except (json.JSONDecodeError, AttributeError) as error:
        raise ModelFileError(f"{path}: its model description is damaged ({error}); get the file again") from error
    if version not in (FORMAT_VERSION, ENSEMBLE_VERSION):
        raise ModelFileError(
            f"{path} has model format {version!r}; this version reads formats {FORMAT_VERSION} and "
            f"{ENSEMBLE_VERSION}. Install the espalike version that wrote it, or train the model anew."
        )
    missing = sorted(_DESCRIPTION - set(header))
    if missing:
        raise ModelFileError(f"{path}: its model description lacks {', '.join(missing)}; get the file again")
    n = header.get("members", 1)
    if not isinstance(n, int) or (version == ENSEMBLE_VERSION) != (2 <= n <= _MOST_MEMBERS):
        raise ModelFileError(f"{path}: of format {version}, with {n!r} members; get the file again")
    if header["features"] != list(FEATURES):
        raise ModelFileError(f"{path} was trained on other atom features than this version computes")
    return header


def shipped() -> dict[str, Path]:
    """Models that come with the package, by name."""
    folder = Path(str(files("espalike"))) / "models"
    return {path.stem: path for path in sorted(folder.glob("*.espalike"))}


def find(name: str | Path) -> Path:
    """Path of a shipped model's name or of a model file.

    Raises:
        FileNotFoundError: naming the models there are.
    """
    path = shipped().get(str(name), Path(name))
    if not path.is_file():
        raise FileNotFoundError(f"no model {str(name)!r}: give a file or one of {', '.join(shipped()) or '(none)'}")
    return path


def load(name: str | Path = DEFAULT) -> ForceFieldModel:
    """A model by shipped name or path. Nothing in the file is executed.

    Raises:
        FileNotFoundError, ModelFileError, UntrustedTarget: see `find`, `describe` and `espalike.nn.build`.
    """
    from safetensors.torch import load_file

    path = find(name)
    header = describe(path)
    n = header.get("members", 1)
    single = [from_config(header["config"]) for _ in range(n)]
    model = single[0] if n == 1 else Ensemble(single)
    state: dict[str, Tensor] = load_file(path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFileError(f"{path}: weights do not fit the configuration: {error}") from error
    domain = ChemicalDomain(**{key: tuple(value) for key, value in header["domain"].items()})
    rest = {key: header[key] for key in ("config", "data", "split", "figures", "notes")}
    for part in (model, *model.members):
        part.provenance = Provenance(domain=domain, **rest)
    return model.eval()

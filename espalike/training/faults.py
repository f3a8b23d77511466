"""Where a training step stops being finite: the stage, the molecules, and the terms of the force field.

Each molecule of the batch is computed again alone. Those that fail at the earliest stage are reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from espalike.batch import LabelledBatch
from espalike.contributions import term_forces
from espalike.system import Bound, Prediction
from espalike.tables import first_few
from espalike.training.lightning import TrainingModule
from espalike.training.processes import alone
from espalike.tuples import Kind

STAGES = ("coordinates", "features", "parameters", "energies", "forces", "losses", "gradients")
"""Stages of a step, in the order in which they are computed."""
_LISTED = 3
"""Most molecules or parts that a message lists."""


@dataclass(frozen=True)
class Fault:
    """The first stage of a step that is not finite.

    Attributes:
        stage: one of `STAGES`.
        parts: the terms, the losses or the weights of the network whose values at this stage are not finite.
        molecules: positions of the molecules that fail at this stage, ascending.
        detail: where exactly, in the first of them.
    """

    stage: str
    parts: tuple[str, ...]
    molecules: tuple[int, ...]
    detail: str

    def message(self, names: Sequence[str]) -> str:
        """A message about the fault; `names` are the names of all molecules of the batch."""
        where = "; ".join(names[m] for m in self.molecules[:_LISTED])
        if rest := len(self.molecules[_LISTED:]):
            where += f"; and {rest} more of the batch's {len(names)}"
        parts = f" of {first_few(self.parts, _LISTED)}" if self.parts else ""
        return f"{self.stage}{parts} are not finite, first for {where}: {self.detail}"


def find_fault(
    module: TrainingModule,
    molecules: Iterable[tuple[LabelledBatch, Sequence[int]]],
    precision: Callable[[], AbstractContextManager] = nullcontext,
    training: bool = True,
) -> Fault | None:
    """Do a step for each molecule alone and return the earliest fault, or None when all molecules are finite.

    The weights must still be those of the step. No other process is waited for.

    Args:
        module: computes the step.
        molecules: batches of one molecule each, with the numbers of its conformers in its entry.
        precision: makes the context of the step's forward pass: some numbers overflow in mixed precision only.
        training: whether it is a training step, with gradients, or one of validation.
    """
    faults = []
    for number, (batch, conformers) in enumerate(molecules):
        with alone(), torch.set_grad_enabled(training):
            fault = _fault(_stages(module, batch, conformers, precision, training))
        if fault is not None:
            faults.append(replace(fault, molecules=(number,)))
    if not faults:
        return None
    stage = min((fault.stage for fault in faults), key=STAGES.index)
    faults = [fault for fault in faults if fault.stage == stage]
    parts = dict.fromkeys(part for fault in faults for part in fault.parts)
    return Fault(stage, tuple(parts), tuple(fault.molecules[0] for fault in faults), faults[0].detail)


_Stage = tuple[str, Mapping[str, Tensor], Callable[[str, list[int]], str]]
"""A stage's name, its values by part, and a function that describes the place of a value: its part and index."""


def _fault(stages: Iterable[_Stage]) -> Fault | None:
    """The first stage that is not finite, of one molecule."""
    for stage, values, place in stages:
        wrong = [name for name, tensor in values.items() if not tensor.isfinite().all()]
        if wrong:
            index = (~values[wrong[0]].isfinite()).nonzero()[0].tolist()
            return Fault(stage, tuple(name for name in wrong if name), (), place(wrong[0], index))
    return None


def _stages(
    module: TrainingModule,
    batch: LabelledBatch,
    conformers: Sequence[int],
    precision: Callable[[], AbstractContextManager],
    training: bool,
) -> Iterator[_Stage]:
    """All that a step computes for one molecule, stage by stage."""
    yield "coordinates", {"": batch.xyz}, lambda _, index: f"atom {index[1]} of conformer {conformers[index[0]]}"
    yield "features", {"": batch.x}, lambda _, index: f"atom {index[0]}"
    with precision():
        system, prediction = module.predict(batch, training)
        losses = module.losses(system, prediction, batch)
    terms, weights = {bound.term.name: bound for bound in system.terms}, dict(module.model.named_parameters())
    wrong = [name for name, weight in weights.items() if not weight.isfinite().all()]
    note = f"; weights that are not finite: {first_few(wrong, _LISTED)}" if wrong else ""
    values = {name: bound.values for name, bound in terms.items()}
    yield "parameters", values, lambda name, index: _parameter(terms[name], *index) + note

    def closest(_: str, index: list[int]) -> str:
        return f"conformer {conformers[index[0]]}, {_closest(batch, index[0])}"

    forces = dict(zip(terms, term_forces(system, batch.xyz), strict=True))
    yield "energies", dict(zip(terms, prediction.by_term, strict=True)), closest
    yield "forces", forces, closest
    yield "losses", losses, lambda name, _: f"{name} is {float(losses[name].detach())}; {_largest(batch, prediction)}"
    if not training:
        return
    total = module.objective.total(losses, module.progress())
    yield "gradients", _gradients(total, values), lambda name, index: _parameter(terms[name], *index)
    yield "gradients", _gradients(total, weights), lambda name, index: f"element {index} of {name}"


def _gradients(total: Tensor, by: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of the loss by name; parameters without a gradient are left out."""
    learned = {name: tensor for name, tensor in by.items() if tensor.requires_grad}
    if not learned:
        return {}
    slopes = torch.autograd.grad(total, list(learned.values()), retain_graph=True, allow_unused=True)
    return {name: slope for name, slope in zip(learned, slopes, strict=True) if slope is not None}


def _parameter(bound: Bound, row: int, column: int) -> str:
    """Description of a parameter of a term."""
    atoms = [row] if bound.term.param_kind is Kind.ATOM else bound.tuples.idx[row].tolist()
    name = f"{bound.term.params[column].name} of {bound.term.name}"
    return f"{name} at atoms {'-'.join(map(str, atoms))} (counted from 0)"


def _closest(batch: LabelledBatch, k: int) -> str:
    """Description of the two nearest atoms of a geometry."""
    xyz = batch.xyz[k].double()
    if len(xyz) < 2:
        return "a single atom"
    distances = torch.nn.functional.pdist(xyz)
    i, j = torch.triu_indices(len(xyz), len(xyz), 1)[:, int(distances.argmin())].tolist()
    nearest = float(distances.min())
    return f"whose nearest atoms, {i} and {j} (counted from 0), are {nearest:.3g} Å apart"


def _largest(batch: LabelledBatch, prediction: Prediction) -> str:
    """Description of the largest force components."""
    assert prediction.forces is not None
    predicted, label = (float(f.detach().nan_to_num(0.0).abs().amax()) for f in (prediction.forces, batch.forces))
    return f"forces there are up to {predicted:.3g} kcal/mol/Å, as predicted, and {label:.3g}, as labelled"

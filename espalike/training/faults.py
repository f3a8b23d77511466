"""Where a batch stops being finite numbers: the stage, the molecule, and the term of the force field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from espalike.batch import Batch
from espalike.contributions import term_forces
from espalike.system import Bound, MMSystem, Prediction
from espalike.training.lightning import TrainingModule
from espalike.training.processes import gathered
from espalike.tuples import Kind

_NAMED = 3
"""Most molecules, weights or conformers that a message names."""


@dataclass(frozen=True)
class Fault:
    """What is not a finite number, where it first appears.

    Attributes:
        stage: `coordinates`, `features`, `parameters`, `energies`, `forces`, `losses` or `gradients`.
        parts: the terms, or the losses, that it is in.
        molecules: positions in the batch of the molecules that it is in, ascending.
        detail: where exactly.
    """

    stage: str
    parts: tuple[str, ...]
    molecules: tuple[int, ...]
    detail: str

    def message(self, batch: Batch, name_of: Callable[[int], str]) -> str:
        """The fault in words; `name_of` names an entry by its number in the data set."""
        entries = [None if batch.entry is None else int(batch.entry[m]) for m in self.molecules[:_NAMED]]
        names = [
            f"molecule {m} of the batch" if entry is None or entry < 0 else name_of(entry)
            for m, entry in zip(self.molecules, entries, strict=False)
        ]
        more = len(self.molecules) - len(names)
        where = "; ".join(names) + (f"; and {more} more of the batch's {batch.n_mols}" if more else "")
        what = f" of {', '.join(self.parts)}" if self.parts else ""
        return f"{self.stage}{what} are not finite, first for {where or 'no molecule in particular'}: {self.detail}"


def find_fault(module: TrainingModule, batch: Batch, precision: AbstractContextManager | None = None) -> Fault | None:
    """What goes wrong first when a training step is done on a batch again; None when all is finite.

    Weights must still be those of the step. With several processes each must call this, whatever its own batch holds.
    `precision` is what the step's forward pass was done in, of mixed precision: what overflows there may not elsewhere.
    """
    batch = replace(batch, x=batch.x.detach().clone().requires_grad_())
    with torch.enable_grad():
        with precision or nullcontext():
            system, prediction = module.predict(batch)
            losses = module.losses(system, prediction, batch)
            fault = forward_fault(module, batch, system, prediction, losses)
        return fault or _gradient_fault(module, batch, system, module.objective.total(losses, module.progress()))


def forward_fault(
    module: TrainingModule, batch: Batch, system: MMSystem, prediction: Prediction, losses: dict[str, Tensor]
) -> Fault | None:
    """The first of coordinates, features, parameters, energies, forces and losses that is not finite, or None.

    With several processes each must call this.
    """
    fault = (
        _input_fault(batch)
        or _parameter_fault(module.model, batch, system)
        or _energy_fault(batch, system, prediction)
        or _force_fault(batch, system, prediction)
    )
    wrong = [name for name, loss in losses.items() if not loss.isfinite()]
    rounds = max(gathered(batch.n_mols if wrong and fault is None else 0))
    alone = [module.losses(system, prediction, _only(batch, m)) for m in range(rounds)][: batch.n_mols]
    return fault or (_loss_fault(losses, wrong, alone, prediction, batch) if wrong else None)


def _bad(values: Tensor) -> Tensor:
    return ~values.detach().isfinite()


def _molecules(bad: Tensor, mol: Tensor) -> tuple[int, ...]:
    """Molecules that rows marked in `bad (T, ...)` belong to; `mol (T,)`."""
    return tuple(mol[bad.flatten(1).any(1)].unique().tolist())


def _input_fault(batch: Batch) -> Fault | None:
    assert batch.xyz is not None
    bad = _bad(batch.xyz)
    if bad.any():
        k, atom, _ = bad.nonzero()[0].tolist()
        molecules = _molecules(bad.transpose(0, 1), batch.mol)
        return Fault("coordinates", (), molecules, f"atom {_own(batch, atom)} of conformer {k}")
    bad = _bad(batch.x)
    if bad.any():
        atom = int(bad.any(1).nonzero()[0])
        return Fault("features", (), _molecules(bad, batch.mol), f"atom {_own(batch, atom)}")
    return None


def _own(batch: Batch, atom: int) -> int:
    """An atom's number in its own molecule, from 0."""
    return atom - int(torch.searchsorted(batch.mol, batch.mol[atom]))


def _rows(batch: Batch, bound: Bound) -> tuple[Tensor, Tensor]:
    """Atoms `(T, k)` and molecule `(T,)` of each row of a term's values."""
    if bound.term.param_kind is Kind.ATOM:
        return torch.arange(len(batch.mol), device=batch.mol.device).unsqueeze(-1), batch.mol
    return bound.tuples.idx, bound.tuples.mol


def _where(batch: Batch, bound: Bound, bad: Tensor) -> str:
    """The first marked value of a term in words; `bad (T, P)`."""
    row, column = bad.nonzero()[0].tolist()
    atoms = "-".join(str(_own(batch, int(a))) for a in _rows(batch, bound)[0][row])
    return f"{bound.term.params[column].name} of {bound.term.name} at atoms {atoms} (counted from 0)"


def _value_fault(stage: str, batch: Batch, system: MMSystem, values: Sequence[Tensor | None]) -> Fault | None:
    """A fault of parameters, or of what belongs to them; `values` are `(T, P)`, one a term, or None."""
    found = [(b, _bad(v)) for b, v in zip(system.terms, values, strict=True) if v is not None and _bad(v).any()]
    if not found:
        return None
    molecules = {m for bound, bad in found for m in _molecules(bad, _rows(batch, bound)[1])}
    names = tuple(bound.term.name for bound, _ in found)
    return Fault(stage, names, tuple(sorted(molecules)), _where(batch, *found[0]))


def _parameter_fault(model: torch.nn.Module, batch: Batch, system: MMSystem) -> Fault | None:
    fault = _value_fault("parameters", batch, system, [bound.values for bound in system.terms])
    weights = [name for name, weight in model.named_parameters() if _bad(weight).any()]
    if fault is None or not weights:
        return fault
    return replace(fault, detail=f"{fault.detail}; weights that are not finite: {_listed(weights)}")


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _energy_fault(batch: Batch, system: MMSystem, prediction: Prediction) -> Fault | None:
    found = [(b.term.name, _bad(u)) for b, u in zip(system.terms, prediction.by_term, strict=True) if _bad(u).any()]
    if not found:
        return None
    bad = torch.stack([b for _, b in found]).any(0)
    return Fault("energies", tuple(name for name, _ in found), *_conformers(batch, bad))


def _conformers(batch: Batch, bad: Tensor) -> tuple[tuple[int, ...], str]:
    """Molecules that are marked in `bad (K, M)`, and the first marked geometry in words."""
    molecules = tuple(bad.any(0).nonzero()[:, 0].tolist())
    k = int(bad[:, molecules[0]].nonzero()[0])
    return molecules, f"conformer {k}, {_shortest(batch, k, molecules[0])}"


def _shortest(batch: Batch, k: int, m: int) -> str:
    """The two atoms of a geometry that are nearest to each other, in words."""
    assert batch.xyz is not None
    xyz = batch.xyz[k, batch.mol == m].double()
    if len(xyz) < 2:
        return "a single atom"
    distances = torch.nn.functional.pdist(xyz)
    nearest = int(distances.argmin())
    i, j = torch.triu_indices(len(xyz), len(xyz), 1)[:, nearest].tolist()
    return f"whose nearest atoms, {i} and {j} (counted from 0), are {float(distances[nearest]):.3g} Å apart"


def _force_fault(batch: Batch, system: MMSystem, prediction: Prediction) -> Fault | None:
    assert prediction.forces is not None
    assert batch.xyz is not None
    if not _bad(prediction.forces).any():
        return None
    found = _bad(term_forces(system, batch.xyz)).flatten(1).any(1).tolist()
    names = tuple(bound.term.name for bound, wrong in zip(system.terms, found, strict=True) if wrong)
    atoms = _bad(prediction.forces).any(-1)
    bad = atoms.new_zeros(len(atoms), batch.n_mols, dtype=torch.int64).index_add(1, batch.mol, atoms.long()) > 0
    return Fault("forces", names, *_conformers(batch, bad))


def _only(batch: Batch, m: int) -> Batch:
    """The batch with the labels of one molecule, all others unknown."""
    molecule = torch.arange(batch.n_mols, device=batch.mol.device) == m
    atom = batch.mol == m

    def kept(values: Tensor | None, where: Tensor) -> Tensor | None:
        return None if values is None else torch.where(where, values, torch.nan)

    esp = batch.esp
    if esp is not None:
        own = esp.mol == m
        esp = replace(
            esp, points=esp.points[own], values=esp.values[own], conformer=esp.conformer[own], mol=esp.mol[own]
        )
    return replace(
        batch,
        mask=None if batch.mask is None else batch.mask & molecule,
        energy=kept(batch.energy, molecule),
        forces=kept(batch.forces, atom.unsqueeze(-1)),
        ref_charge=kept(batch.ref_charge, atom),
        ref_lj=kept(batch.ref_lj, atom.unsqueeze(-1)),
        dipole=kept(batch.dipole, molecule.unsqueeze(-1)),
        esp=esp,
    )


def _loss_fault(
    losses: dict[str, Tensor], wrong: list[str], alone: list[dict[str, Tensor]], prediction: Prediction, batch: Batch
) -> Fault:
    """`wrong`: names of the losses that are not finite; `alone`: the losses of each molecule's labels alone."""
    assert prediction.forces is not None
    assert batch.forces is not None
    molecules = tuple(m for m, own in enumerate(alone) if any(not own[name].isfinite() for name in wrong))
    atoms = torch.isin(batch.mol, torch.tensor(molecules, device=batch.mol.device))

    def size(forces: Tensor) -> str:
        return f"{float(forces.detach()[:, atoms].nan_to_num(0.0).abs().amax() if atoms.any() else 0.0):.3g}"

    return Fault(
        "losses",
        tuple(wrong),
        molecules,
        f"{', '.join(f'{name} is {float(losses[name].detach())}' for name in wrong)}; forces there are up to "
        f"{size(prediction.forces)} kcal/mol/Å, as predicted, and {size(batch.forces)}, as labelled",
    )


def _gradient_fault(module: TrainingModule, batch: Batch, system: MMSystem, total: Tensor) -> Fault | None:
    """Gradients by the parameters of the force field name term and molecule; by features, the molecule alone."""
    values = [bound.values if bound.values.requires_grad else None for bound in system.terms]
    wanted = [v for v in values if v is not None]
    found = iter(torch.autograd.grad(total, wanted, retain_graph=True, allow_unused=True) if wanted else ())
    fault = _value_fault("gradients", batch, system, [None if v is None else next(found) for v in values])
    if fault is not None:
        return fault
    named = [(name, weight) for name, weight in module.model.named_parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(total, [batch.x, *(w for _, w in named)], allow_unused=True)
    weights = [
        name for (name, _), g in zip(named, gradients[1:], strict=True) if g is not None and not g.isfinite().all()
    ]
    of_x = gradients[0]
    molecules = () if of_x is None else _molecules(_bad(of_x), batch.mol)
    if weights or molecules:
        return Fault("gradients", (), molecules, f"of the weights {_listed(weights)}")
    return None

"""Shared by the tests of terms: all terms, random parameters of the size that a network gives, geometries."""

import importlib
import inspect
import pkgutil

import torch

import espalike.terms
from espalike.nn.links import find
from espalike.system import Bound, MMSystem
from espalike.terms.base import LEARNED, PairTerm, Term
from espalike.terms.lennard_jones import LennardJones
from espalike.terms.van_der_waals import MIXING, VanDerWaals
from espalike.tuples import Kind, Tuples

F64 = torch.float64
N_ATOMS = 6

for module in pkgutil.iter_modules(espalike.terms.__path__):
    importlib.import_module(f"espalike.terms.{module.name}")


def subclasses(cls):
    return {leaf for child in cls.__subclasses__() for leaf in {child} | subclasses(child)}


def usable(cls):
    return cls.__module__.startswith("espalike.") and not inspect.isabstract(cls) and hasattr(cls, "params")


CLASSES = sorted((cls for cls in subclasses(Term) if usable(cls)), key=lambda cls: cls.__name__)
"""Every functional form of the package, by search, with no list to edit."""


def variants(cls):
    """A form as it is made by default, with a learned 1-4 scale, with every combining rule, with wells of its own."""
    made = [cls()]
    if issubclass(cls, PairTerm):
        made.append(cls(scale14=LEARNED))
    if issubclass(cls, VanDerWaals):
        made += [cls(mixing=rule) for rule in MIXING if rule != made[0].mixing]
    if issubclass(cls, LennardJones):
        made += [cls(within=LEARNED), cls(scale14=LEARNED, within=LEARNED)]
    return made


TERMS = [term for cls in CLASSES for term in variants(cls)]


def prior(term, param, n, generator):
    """Expected values of a parameter for random elements, shape `(n,)`."""
    if not callable(param.mean):
        return torch.full((n,), float(param.mean), dtype=F64)
    size = len(param.borrows.atoms) if param.borrows else term.param_kind.size
    numbers = torch.tensor([6, 7, 8, 16, 1])[torch.randint(5, (n, size), generator=generator)]
    return param.mean(numbers, torch.full_like(numbers, 3)).to(F64)


def column(term, param, n, generator, raw=None):
    """Values of one parameter, shape `(n,)`: random network output of unit size, or `raw`, through its link."""
    if raw is None:
        raw = torch.randn(n, generator=generator, dtype=F64).clamp(-2.5, 2.5)
    if param.universal:
        raw = raw[:1].expand(n)
    if param.link == "charge":
        return 0.5 * raw
    return find(param.link)(raw, prior(term, param, n, generator), param.std)


def values(term, n, seed=0):
    """Random parameters as a network gives them, shape `(n, P)`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([column(term, p, n, generator) for p in term.params], dim=-1)


def system_of(term, seed=0):
    """A molecule of six atoms with a few tuples of the term, read in different directions."""
    if isinstance(term, PairTerm):
        idx, is14 = torch.tensor([[0, 3], [1, 4], [0, 5], [2, 5]]), torch.tensor([True, False, False, True])
        rows = N_ATOMS
    else:
        idx, is14 = torch.tensor([[0, 1, 2, 3, 4], [5, 4, 3, 2, 1], [2, 0, 4, 1, 3]])[:, : term.kind.size], None
        rows = len(idx)
    tuples = Tuples(idx, torch.zeros(len(idx), dtype=torch.long), is14)
    zeros = torch.zeros(N_ATOMS, dtype=torch.long)
    return MMSystem((Bound(term, tuples, values(term, rows, seed)),), zeros + 6, zeros)


def with_values(system, new):
    """The one-term system with other parameters."""
    (bound,) = system.terms
    return MMSystem((Bound(bound.term, bound.tuples, new),), system.numbers, system.mol)


def positions(term, seed=0, k=3):
    """Distorted, non-planar six-atom chains [Å], shape `(k, 6, 3)`; wider for pairs."""
    i = torch.arange(N_ATOMS, dtype=F64)
    base = torch.stack([torch.cos(1.7 * i), torch.sin(1.7 * i), 0.8 * i], dim=-1)
    noise = torch.randn(k, N_ATOMS, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return (base + 0.15 * noise) * (2.0 if term.kind is Kind.PAIR else 1.0)


def of_atoms(term, rows):
    """Parameters of atoms that are combined for pairs of one molecule."""
    if getattr(term, "has_own", False):
        sigma, epsilon, log_sigma, log_epsilon = rows[:, :4].unbind(-1)
        return torch.stack([sigma * log_sigma.exp(), epsilon * log_epsilon.exp()], dim=-1)
    return rows[:, : len(type(term).params)]


def plain_energy(bound, x):
    """Energy of each tuple, shape `(T, K)`, from positions `(N, K, 3)` by the term's functions alone."""
    term, idx = bound.term, bound.tuples.idx
    q = tuple(c(tuple(x[idx[:, a]] for a in c.atoms))[0] for c in term.coordinates)
    rows = bound.values
    if isinstance(term, PairTerm):
        combined = of_atoms(term, rows)
        p = term.combine(combined[idx[:, 0]].unbind(-1), combined[idx[:, 1]].unbind(-1))
        learned = term.params[-1].name == "scale14"
        scale14 = rows[0, -1] if learned else torch.tensor(term.scale14, dtype=F64)
        scale = torch.where(bound.tuples.is14, scale14, 1.0).unsqueeze(-1)
    else:
        p, scale = rows.unbind(-1), 1.0
    return term.energy(q, tuple(c.unsqueeze(-1) for c in p)) * scale


def corners(term, n=64, seed=0, size=3.0):
    """Parameters at the edges of what a network says: every raw output at plus or minus `size` at random."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(2, (len(term.params), n), generator=generator).to(F64) * 2.0 - 1.0
    return torch.stack(
        [column(term, p, n, generator, size * s) for p, s in zip(term.params, signs, strict=True)], dim=-1
    )

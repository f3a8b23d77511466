"""Protonation states near a pH, by rules for common acids and bases.

A rule has a SMARTS pattern, whose first atom loses or takes up the proton, and one pKa for all groups that match: a
typical value of the acid, or of the base's conjugate acid, in water. So the states are the usual ones, not predictions
for one molecule. Sources: W. P. Jencks and J. Regenstein in Handbook of Biochemistry and Molecular Biology (CRC Press);
D. D. Perrin, B. Dempsey, E. P. Serjeant, pKa Prediction for Organic Acids and Bases (1981).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

_TOO_NEAR = 3
"""A base is not protonated if a cation is at most this number of bonds away: piperazine takes up one proton."""


@dataclass(frozen=True)
class Rule:
    """A group that has a proton to lose (`change` −1) or takes one up (+1), with its pKa."""

    name: str
    smarts: str
    change: int
    pka: float

    @property
    def query(self) -> Chem.Mol:
        """The pattern, parsed."""
        return _parsed(self.smarts)


_NITRO = "[$([N+](=O)[O-]),$([NX3](=O)=O)]"
_AMINE = (
    "[NX3;+0;!$(N~[!#6;!#1]);!$(N~[#6;!X4]);!$(N[CX4][N,n,O,S;!$([N,S]=*)]);!$(NCC([F,Cl])([F,Cl])[F,Cl]);!$(NCC#N)]"
)
_WITHDRAWN = "!$(N[!#6;!#1]);!$(N[#6]=[O,S,N+]);!$(NC#N)"  # not a nitrogen next to a group that takes its lone pair
_PLAIN = f"$([NX3,NX2;+0]);{_WITHDRAWN}"
RULES: tuple[Rule, ...] = (
    Rule("sulfonic acid, sulfate", "[OX2H1]S(=O)=O", -1, -1.0),
    Rule("sulfinic acid", "[OX2H1][SX3]=O", -1, 2.0),
    Rule("phosphoric or phosphonic acid", "[OX2H1,SX2H1][PX4;!$(P[O-,S-])]=[O,S]", -1, 2.0),
    Rule("phosphate, second proton", "[OX2H1,SX2H1][PX4;$(P[O-,S-]);!$(P[#6])]=[O,S]", -1, 6.7),
    Rule("phosphonate, second proton", "[OX2H1][PX4;$(P[O-,S-]);$(P[#6])]=O", -1, 7.5),
    Rule("arsonic acid", "[OX2H1][AsX4;!$([As][O-])]=O", -1, 3.6),
    Rule("seleninic acid", "[OX2H1][SeX3]=O", -1, 4.8),
    Rule("carboxylic or thiocarboxylic acid", "[OX2H1,SX2H1][CX3;$(C([#6,#1])),$([CH1])]=[O,S]", -1, 4.5),
    Rule("tetrazole", "[nX3H1;$(n1nnnc1),$(n1nncn1)]", -1, 4.9),
    Rule("acyl sulfonamide, sulfonylurea", "[NX3H1;$(NC=[O,N])]S(=O)=O", -1, 4.8),
    Rule("sulfonimide", "[NX3H1;$(N(S(=O)=O)S(=O)=O)]", -1, 1.5),
    Rule(
        "sulfonamide at an azine, oxazole or thiazole",
        "[NX3H1;$(N-[c](:n):[n,o,s]),$(N-c1nocc1),$(N-c1ccon1)]S(=O)=O",
        -1,
        6.2,
    ),
    Rule("thiophenol", "[SX2H1]c", -1, 6.6),
    Rule("nitrophenol", f"[OX2H1;$(Oc1ccc({_NITRO})cc1),$(Oc1c({_NITRO})cccc1)]", -1, 7.2),
    Rule("dinitrophenol", f"[OX2H1;$(Oc1c({_NITRO})cc({_NITRO})cc1),$(Oc1c({_NITRO})cccc1{_NITRO})]", -1, 4.0),
    Rule("hydroxycoumarin, tetronic acid", "[OX2H1][#6;R]=,:[#6;R][#6;R](=O)[O,o;R]", -1, 4.5),
    Rule("thiazolidinedione", "[NX3H1;R]1C(=O)CSC1=O", -1, 6.6),
    Rule("ammonia", "[NX3H3;+0]", 1, 9.3),
    Rule("aliphatic amine", _AMINE, 1, 9.8),
    Rule(
        "guanidine",
        f"[NX2;+0;{_WITHDRAWN}]=[CX3]([N;{_PLAIN}])[N;{_PLAIN}]",
        1,
        13.0,
    ),
    Rule("amidine", f"[NX2;+0;{_WITHDRAWN}]=[CX3;$(C[#6]),$([CH1])][N;{_PLAIN}]", 1, 11.5),
    Rule("4-aminopyridine", f"[nX2;+0]1ccc([N;{_PLAIN}])cc1", 1, 9.2),
    Rule("2-aminopyridine", f"[nX2;+0;r6;!$(n[n,o,s])](:c([N;{_PLAIN}]):c):c:c", 1, 6.8),
    Rule("2,4-diaminopyrimidine", f"[nX2;+0;r6]1c([N;{_PLAIN}])nc([N;{_PLAIN}])cc1", 1, 7.2),
    Rule("imidazole", "[nX2;+0;$(n1c[nX3]cc1)]", 1, 6.5),
)
"""Groups that are protonated or deprotonated in water at some pH near 7."""


@cache
def _parsed(smarts: str) -> Chem.Mol:
    return Chem.MolFromSmarts(smarts)


def protonation_state(mol: Chem.Mol, ph: float = 7.0) -> Chem.Mol:
    """The protonation state that the rules give at this pH; the argument, in whatever state, is not changed.

    The strongest acids and bases react first, so that a group knows the charges of those before it.

    Raises:
        ValueError: (RDKit's) if the molecule cannot be neutralised or sanitized.
    """
    with rdBase.BlockLogs():
        mol = rdMolStandardize.Uncharger().uncharge(mol)
        Chem.SanitizeMol(mol)
        while (step := next(_steps(mol, ph), None)) is not None:
            mol = _moved(mol, *step)
    return mol


def _steps(mol: Chem.Mol, ph: float) -> Iterator[tuple[int, int]]:
    """Atoms that lose (−1) or take up (+1) a proton, by how far their pKa is from the pH, strongest first."""
    for rule in _ready(ph):
        found = {match[0] for match in mol.GetSubstructMatches(rule.query, maxMatches=100)}
        # in an order that does not depend on that of the input
        atoms = sorted(found, key=list(Chem.CanonicalRankAtoms(mol)).__getitem__) if len(found) > 1 else found
        for atom in atoms:
            if rule.change < 0 or not _cation_near(mol, atom):
                yield atom, rule.change


@cache
def _ready(ph: float) -> list[Rule]:
    """The rules that apply at this pH, strongest first."""
    ready = [rule for rule in RULES if (ph - rule.pka) * -rule.change > 0.0]
    return sorted(ready, key=lambda rule: -abs(rule.pka - ph))


def _cation_near(mol: Chem.Mol, atom: int) -> bool:
    """Whether a positive charge that is not part of a neutral group, as in nitro, is a few bonds away."""
    charged = [a for a in mol.GetAtoms() if a.GetFormalCharge() > 0]
    charged = [a for a in charged if not any(n.GetFormalCharge() < 0 for n in a.GetNeighbors())]
    distances = Chem.GetDistanceMatrix(mol)
    return any(distances[atom, a.GetIdx()] <= _TOO_NEAR for a in charged)


def _moved(mol: Chem.Mol, index: int, change: int) -> Chem.Mol:
    """The molecule with a proton more or less on an atom."""
    edit = Chem.RWMol(mol)
    atom = edit.GetAtomWithIdx(index)
    hydrogens = atom.GetTotalNumHs() + change
    atom.SetNoImplicit(True)
    atom.SetNumExplicitHs(hydrogens)
    atom.SetFormalCharge(atom.GetFormalCharge() + change)
    Chem.SanitizeMol(edit)
    return edit.GetMol()

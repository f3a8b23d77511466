"""Drug-like molecules, and batches of them with random labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from espalike.batch import LabelledBatch, batch_of
from espalike.chem import embed, from_smiles
from espalike.chem.molecule import Molecule

MOLECULES = (
    "CN1C2CCC1C(C(=O)OC)C(OC(=O)c1ccccc1)C2",
    "Cc1ccc(cc1)-c1cc(C(F)(F)F)nn1-c1ccc(cc1)S(N)(=O)=O",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(n1)-c1cccnc1",
    "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O",
    "CC(C)NCC(O)COc1ccccc1CC=C",
    "CN1CCC23C4C1CC5=C2C(=C(C=C5)OC)OC3C(=O)CC4",
    "COc1cc2c(cc1OC)C(=O)C(CC1CCN(Cc3ccccc3)CC1)C2",
    "CCN(CC)CC(=O)Nc1c(C)cccc1C",
    "CN(C)CCOC(c1ccccc1)c1ccccc1",
    "O=C(CCCN1CCC(O)(CC1)c1ccc(Cl)cc1)c1ccc(F)cc1",
    "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1",
    "CCOC(=O)C1=C(COCCN)NC(C)=C(C1c1ccccc1Cl)C(=O)OC",
    "CNCCC(Oc1ccc(cc1)C(F)(F)F)c1ccccc1",
    "CC12CCC3C(CCC4=CC(=O)CCC34C)C1CCC2O",
    "CN1CCN(CC1)C1=Nc2cc(Cl)ccc2Nc2ccccc12",
    "COc1ccc2cc(ccc2c1)C(C)C(=O)O",
    "CCCCc1nc(Cl)c(CO)n1Cc1ccc(cc1)-c1ccccc1-c1nn[nH]n1",
    "CC(=O)Nc1ccc(O)cc1",
    "COc1ccccc1OCC(O)CN1CCN(CC(=O)Nc2c(C)cccc2C)CC1",
    "Clc1ccc(cc1)C(c1ccccc1)N1CCN(CCOCC(=O)O)CC1",
    "CN(C)CCC=C1c2ccccc2CCc2ccccc12",
    "CC(C)c1nc(CN(C)C(=O)NC(C(C)C)C(=O)O)cs1",
    "CCC(=O)N(C1CCN(CCc2ccccc2)CC1)c1ccccc1",
    "COC(=O)C(C1CCCCN1)c1ccccc1",
    "OC(=O)CCCc1ccc(cc1)N(CCCl)CCCl",
    "CC(CCc1ccccc1)NCC(O)c1ccc(O)c(c1)C(N)=O",
    "CCOc1ccc(cc1)S(=O)(=O)N1CCN(C)CC1",
    "CC1=CC(=O)c2ccccc2C1=O",
    "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc12",
    "CC(C)CC(NC(=O)C(CC(C)C)NC(C)=O)C(=O)NCC(=O)O",
    "CCCC(C)C1(CC)C(=O)NC(=O)NC1=O",
)


def embedded(molecule: Molecule) -> np.ndarray:
    """A geometry by distance geometry [Å], shape `(A, 3)`."""
    return embed(molecule)[0]


def stretched(alkane: Molecule) -> np.ndarray:
    """The all-trans geometry of an unbranched alkane [Å]; distance geometry takes minutes for hundreds of atoms."""
    carbons, along = int((alkane.numbers == 6).sum()), np.arange(int((alkane.numbers == 6).sum()))
    side = (-1.0) ** along
    xyz = np.zeros((alkane.n_atoms, 3))
    xyz[:carbons] = np.stack([1.27 * along, 0.42 * side, 0.0 * along], 1)
    seen = [0] * carbons
    for carbon, hydrogen in sorted((min(bond), max(bond)) for bond in alkane.bonds.tolist() if max(bond) >= carbons):
        end = -0.9 if carbon == 0 else 0.9
        places = ((0.0, 0.62, 0.89), (0.0, 0.62, -0.89), (end, -0.6, 0.0))
        xyz[hydrogen] = xyz[carbon] + np.array(places[seen[carbon]]) * [1.0, side[carbon], 1.0]
        seen[carbon] += 1
    return xyz


def labelled(
    smiles: Sequence[str],
    conformers: int,
    dtype: torch.dtype,
    device: str,
    geometry: Callable[[Molecule], np.ndarray] = embedded,
) -> LabelledBatch:
    """A batch of molecules at random geometries near a reasonable one, with random labels."""
    molecules = [from_smiles(s) for s in smiles]
    rng = np.random.default_rng(0)
    start = np.concatenate([geometry(m) for m in molecules])
    xyz = torch.from_numpy(start + rng.normal(0.0, 0.05, (conformers, *start.shape)))
    batch = batch_of(molecules, dtype)
    labels = torch.from_numpy(rng.normal(0.0, 5.0, (conformers, len(molecules))))
    none = torch.zeros(len(molecules), dtype=torch.long)
    made = LabelledBatch(
        **vars(batch),
        xyz=xyz.to(dtype),
        energy=(labels - labels.mean(0)).to(dtype),
        forces=torch.from_numpy(rng.normal(0.0, 10.0, xyz.shape)).to(dtype),
        mask=torch.ones(conformers, len(molecules), dtype=torch.bool),
        source=none,
        ref_charge=torch.full((len(start),), torch.nan, dtype=dtype),
        ref_lj=torch.full((len(start), 2), torch.nan, dtype=dtype),
        scan=none.bool(),
        entry=torch.arange(len(molecules)),
        kind=torch.full_like(none, -1),
    )
    return made.to(device)

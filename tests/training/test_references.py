"""Van der Waals parameters are compared with their references, whatever else their term has."""

import numpy as np
import pytest
import torch

from espalike.model import from_config
from espalike.training.losses import lennard_jones, lj_loss
from tests.batches import collate
from tests.training.common import CONFIG, item


@pytest.mark.parametrize("scale14", [0.5, "learned"])
def test_a_learned_factor_on_1_4_pairs_does_not_hide_the_term(scale14):
    terms = [
        {**term, "scale14": scale14} if term["_target_"].endswith("LennardJones") else term for term in CONFIG["terms"]
    ]
    torch.manual_seed(0)
    reference = np.array([[3.2, 0.15], [1.0, 0.01], [1.0, 0.01]])
    batch = collate([item("O", 2, 1, ref_lj=reference)], dtype=torch.float64)
    bound = lennard_jones(from_config({**CONFIG, "terms": terms}).double()(batch))
    assert bound is not None
    values = bound.values[:, :2].detach().numpy()
    expected = np.mean(
        ((values[:, 0] - reference[:, 0]) / 0.03) ** 2
        + ((np.sqrt(values[:, 1]) - np.sqrt(reference[:, 1])) / 0.02) ** 2
    )
    assert float(lj_loss(bound.values, batch, 0.03, 0.02).detach()) == pytest.approx(expected, rel=1e-6)

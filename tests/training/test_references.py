"""Van der Waals parameters are compared with their references, whatever else their term has."""

import numpy as np
import pytest
import torch

from espalike.model import from_config
from espalike.training.losses import lennard_jones, lj_loss
from tests.batches import collate
from tests.training.common import CONFIG, item


@pytest.mark.parametrize(
    "settings",
    [
        {"scale14": 0.5},
        {"scale14": "learned"},
        {"scale14": "learned", "within": "learned"},
        {"_target_": "espalike.terms.buffered_14_7.Buffered147"},
    ],
    ids=str,
)
def test_what_else_a_term_has_does_not_hide_it(settings):
    """Those of pairs of different molecules are compared, in every form of sigma and epsilon alone."""
    terms = [{**term, **settings} if term["_target_"].endswith("LennardJones") else term for term in CONFIG["terms"]]
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
    for factor in (1.0, 2.0):
        loss = lj_loss(bound.values, batch, torch.full((1,), factor), 0.03, 0.02)
        assert float(loss.detach()) == pytest.approx(factor * expected, rel=1e-6)

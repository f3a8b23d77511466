"""What a label directory holds of one molecule, in arrays."""

from collections import Counter
from types import SimpleNamespace

import numpy as np

from espalike.qm.labelling import conformers_of


def known(directory, job):
    """Arrays as of `Conformers`, with counts of failures by reason and their messages."""
    labels, failures = list(directory.labels(job).values()), directory.failures(job)
    nothing = np.zeros((0, job.molecule.n_atoms, 3))
    arrays = {"xyz": nothing, "energy": np.zeros(0), "forces": nothing, "dipole": None, "esp": None}
    return SimpleNamespace(
        **(vars(conformers_of(labels, "level", "source")) if labels else arrays),
        failed=Counter(failure.reason for failure in failures),
        messages=tuple(failure.message for failure in failures),
    )

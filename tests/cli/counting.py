"""A calculator for tests: MMFF94 that takes its time and writes a line for each call it begins."""

import hashlib
import os
import time

import numpy as np

from espalike.qm.mmff import MMFFCalculator


class CountingCalculator(MMFFCalculator):
    def __init__(self, log, seconds=0.02):
        super().__init__()
        self.log, self.seconds = log, seconds

    def __call__(self, molecule, xyz):
        line = f"{molecule.name} {hashlib.sha256(np.ascontiguousarray(xyz).tobytes()).hexdigest()}\n"
        with open(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "w") as file:
            file.write(line)
        time.sleep(self.seconds)
        return super().__call__(molecule, xyz)


class CountingBatches(CountingCalculator):
    """Computes geometries in batches, a line for each."""

    def batch(self, molecule, xyz):
        results = [self(molecule, one) for one in xyz]
        return np.array([energy for energy, _ in results]), np.array([forces for _, forces in results])


class DeadlyCalculator(CountingCalculator):
    """Ends its process where it labels ethanol."""

    def __call__(self, molecule, xyz):
        result = super().__call__(molecule, xyz)
        if molecule.name == "ethanol":
            os._exit(9)
        return result

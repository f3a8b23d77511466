"""The recipe of docs/active-learning.md, run as it stands there."""

import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from espalike.cli.main import main
from espalike.data.store import Store
from espalike.qm.models import EnsembleCalculator
from espalike.qm.sampling import Thermal
from espalike.qm.xtb import XTBCalculator

DOC = Path(__file__).parents[2] / "docs" / "active-learning.md"


def blocks():
    return re.findall(r"```sh\n(.*?)```", DOC.read_text(), flags=re.DOTALL)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning", "ignore::DeprecationWarning")
def test_chosen_frames_are_disputed_and_wrong(tmp_path, monkeypatch):
    """Against thermal frames of the committee's own dynamics: disputed more, and farther from GFN2-xTB."""
    monkeypatch.chdir(tmp_path)
    files, *commands = blocks()
    subprocess.run(["bash", "-ec", files], check=True)
    assert len(commands) == 5
    for command in commands:
        program, *arguments = shlex.split(command.replace("\\\n", " "))
        assert program == "espalike"
        assert main(arguments) == 0
    committee = EnsembleCalculator([f"runs/committee/{k}/model.espalike" for k in range(3)])
    chosen, usual = {"disputed": [], "wrong": []}, {"disputed": [], "wrong": []}
    records = list(Store.open("store/second").records())
    assert len(records) == 6
    for record in records:
        thermal = Thermal(committee, frames=5, temperature=700.0, interval=30.0, starts=1, seed=99)(record.molecule)[1:]
        reference = XTBCalculator()
        for frames, figures in ((record.conformers.xyz, chosen), (thermal, usual)):
            figures["disputed"] += committee.disagreement(record.molecule, frames).tolist()
            for xyz in frames:
                miss = committee(record.molecule, xyz)[1] - reference(record.molecule, xyz)[1]
                figures["wrong"].append(np.sqrt(np.mean(miss**2)))
    print({key: (np.mean(chosen[key]), np.mean(usual[key])) for key in chosen})
    assert np.mean(chosen["disputed"]) > 1.05 * np.mean(usual["disputed"])
    assert np.mean(chosen["wrong"]) > np.mean(usual["wrong"])
    assert Path("runs/committee-2/2/model.espalike").is_file()

"""What a stranger types first, and what the program answers."""

import subprocess
import sys

import pytest

from espalike.cli import main as cli


def test_the_name_of_several_settings_lists_them(capsys):
    assert cli.main(["evaluate", "model=espalike-1", "data=sample"]) == 2
    assert capsys.readouterr().err.startswith("error: data: expected one of its settings: data.path, data.split")


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ("model=espalike-1", "choices of model: small, tiny; a model to start from is start=MODEL"),
        ("data=store/mine", "data=store/mine: choices of data: sample; stores are data.stores=[PATH,...]"),
        ("data=[store/mine]", "no data 'store/mine'; choices: sample; stores are data.stores=[PATH,...]"),
        (
            "experiment=a/b/quickstart.yaml",
            "experiment=a/b/quickstart.yaml: did you mean 'quickstart'? choices of experiment: b",
        ),
        ("epochs=5", "nearest: trainer.max_epochs"),
    ],
)
def test_models_and_stores_in_the_place_of_a_choice(capsys, argument, advice):
    assert cli.main(["train", argument, "out=here"]) == 2
    assert advice in capsys.readouterr().err


def test_help_and_version_also_without_dashes(capsys):
    for word, option in (("help", "--help"), ("version", "--version")):
        assert cli.main([word]) == cli.main([option]) == 0
        printed = capsys.readouterr().out
        assert printed[: len(printed) // 2] == printed[len(printed) // 2 :]
    for command in ("label", "info"):
        assert cli.main(["help", command]) == 0
        assert capsys.readouterr().out.startswith(f"usage: espalike {command}")
    assert cli.main(["help", "labels"]) == 2


@pytest.mark.parametrize(("option", "printed"), [([], "\nwarning: old"), (["--verbose"], "UserWarning: old")])
def test_a_warning_is_one_line_without_its_place_in_the_code(option, printed):
    code = (
        "import warnings, espalike.cli.models as job; from espalike.cli.main import main; "
        f"job.run = lambda args: warnings.warn('old') or 0; main({['models', *option]})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed in f"\n{done.stderr}"

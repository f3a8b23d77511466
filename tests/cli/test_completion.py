"""The script for tab completion, in bash."""

import subprocess

import pytest

from espalike.cli import main as cli

PRESS = """
source "$1"
line="$2"
COMP_LINE="$line" COMP_POINT=${#line} COMP_WORDS=($line)
[ "${line: -1}" = " " ] && COMP_WORDS+=("")
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_espalike
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(tmp_path, capsys):
    """What bash offers when the tab key is pressed at the end of a line."""
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "espalike.bash"
    script.write_text(capsys.readouterr().out)

    def press(line):
        command = ["bash", "-c", PRESS, "bash", str(script), line]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())

    return press


def test_commands_options_and_settings_are_completed(complete):
    assert complete("espalike ") >= {*cli.JOBS, *cli.COMMANDS, "--version"}
    assert complete("espalike pa") == {"parametrize"}
    assert complete("espalike parametrize --fo") == {"--format"}
    assert complete("espalike evaluate mod") == {"model="}
    assert "experiment=quickstart" in complete("espalike train exp")
    assert complete("espalike completion ") >= {"bash", "zsh"}


def test_bash_gets_what_is_behind_the_equals_sign(complete):
    assert complete("espalike train conv=g") == {"gat", "gin"}
    assert "class2" in complete("espalike train forcefield=")


def test_another_shell_is_bad_usage(capsys):
    assert cli.main(["completion", "tcsh"]) == 2
    assert "bash" in capsys.readouterr().err

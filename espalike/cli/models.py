"""`espalike models`: the models at hand."""

from __future__ import annotations

import argparse
import json

from espalike.cli.info import ERRORS, errors, of_model, print_table, summary

HELP = """The models that come with the program: functional form, chemical domain, size, test errors.
Any other model file: espalike info FILE.

example:
  espalike models"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--json", action="store_true", help="print JSON, with all that the files say, instead of text")


def run(args: argparse.Namespace) -> int:
    """Print what each shipped model is, and the test errors of all."""
    from espalike.modelfile import DEFAULT, SUPERSEDED, shipped

    contents = {name: of_model(path) for name, path in shipped().items()}
    if args.json:
        print(json.dumps(contents, indent=1, ensure_ascii=False))
        return 0
    if not contents:
        print("no models come with this installation; train one with `espalike train`")
    for name, content in contents.items():
        title = f"{name} (default)" if name == DEFAULT else name
        title += f" (superseded by {SUPERSEDED[name]})" if name in SUPERSEDED else ""
        print_table(title, ("", ""), list(summary(content).items()))
    rows = [(name, *row[1:]) for name, content in contents.items() for row in errors(content) if row[0] == "test"]
    print_table("test errors", ("model", *ERRORS[1:]), rows)
    return 0

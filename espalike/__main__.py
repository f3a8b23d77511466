"""`python -m espalike`: the program `espalike`."""

import sys

from espalike.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

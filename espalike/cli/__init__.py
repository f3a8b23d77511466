"""The program `espalike` and its sub-commands."""

"""Checks of a force field on many molecules: `espalike check`."""

"""Calculators: anything that turns a molecule and coordinates into energy and forces, and dynamics on them."""

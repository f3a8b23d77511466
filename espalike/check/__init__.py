"""What a force field must not do, tried on many molecules: `espalike check`."""

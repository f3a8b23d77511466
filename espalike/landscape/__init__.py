"""The plane of accuracy against cost: `espalike landscape`."""

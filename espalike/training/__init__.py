"""Training: objective, Lightning module, callbacks."""

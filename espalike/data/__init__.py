"""Quantum-chemistry data: the stored schema, the store, readers, filters, splits and batches."""

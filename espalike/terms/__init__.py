"""Functional forms: one file per family."""

"""Functional forms: one file a family."""

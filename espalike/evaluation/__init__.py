"""Scores: predictors, metrics, tables and plots."""

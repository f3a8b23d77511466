"""Hydra configurations, read as pkg://espalike.configs."""

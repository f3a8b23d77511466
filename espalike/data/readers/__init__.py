"""Readers of outside data sets, each an iterable of records and rejections."""

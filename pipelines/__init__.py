"""Pipelines of NVIDIA DALI: the only room that knows it."""

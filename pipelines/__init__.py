"""Pipelines of NVIDIA DALI: loaders, graphs, and APR's operators in them."""

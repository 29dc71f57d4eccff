"""Evaluation of any model on any iterable of (images, targets)."""

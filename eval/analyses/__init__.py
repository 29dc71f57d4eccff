"""Analyses of images, filters and networks in the frequency domain."""

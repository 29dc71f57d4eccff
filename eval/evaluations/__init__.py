"""The evaluations of a network, a file each: a function with keywords, and what it gives."""

"""The operators, fast: one module for each backend, with `check`, `recombine`, `pair` and `single`."""

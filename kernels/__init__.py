"""The operators, fast: one module a backend, each with `check`, `recombine`, `pair` and `single`."""

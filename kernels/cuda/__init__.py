"""The operators on CUDA devices: the sources of the kernels, and the host code that compiles and launches them."""

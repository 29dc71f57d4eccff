"""The operators in C++: the sources, and the host code that calls them."""

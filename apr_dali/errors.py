"""The one exception for input that a person can mend."""


class InputError(ValueError):
    """What was given cannot be used: a path, an option, a file. Commands print it and end with status 2."""

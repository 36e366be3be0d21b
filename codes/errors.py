"""The one exception for what a user can mend: a wrong file, value or option."""


class InputError(ValueError):
    """Say what was found, where, what is accepted and what to do; programs print it and exit with code 2."""

"""Why a program ends before its end, other than by a fault in it."""


class InputError(ValueError):
    """What a user can mend: a wrong file, value or option.

    Say what was found, where, what is accepted and what to do; programs print it and exit with code 2.
    """


class Interrupted(Exception):
    """A program was asked to stop, and the same command goes on; programs exit with code 75 (EX_TEMPFAIL)."""

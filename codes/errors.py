"""Exceptions for what a user can correct and for interruptions, with the exit codes that they end in."""


class InputError(ValueError):
    """What a user can correct: a wrong file, value or option.

    Say what was found, where, what is accepted and what to do; programs print it and exit with code 2.
    """


class Interrupted(Exception):
    """A program was asked to stop, and the same command goes on; programs exit with code 75 (EX_TEMPFAIL)."""

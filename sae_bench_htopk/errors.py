"""The one kind of error whose message is all that a user needs: bad input, named, with what was wanted."""


class InputError(ValueError):
    """What was given, where, and what is wanted; the command line prints it without a traceback and exits with 2."""

"""The mistake of a user, as opposed to a fault of hasten."""


class UserError(ValueError):
    """What was given, what is allowed and what to do, in one sentence; the command line answers it with exit code 2."""


INTERRUPTED = 130
"""Exit code of a command that was interrupted, as shells have it."""

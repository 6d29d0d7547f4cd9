"""What hasten raises and warns with."""


class AccelerationError(ValueError):
    """A request that hasten cannot serve: one sentence that says what was given, what is allowed and what to do."""


class AccelerationWarning(UserWarning):
    """A part of a call that ran without acceleration, and why. Shown once; every occurrence is in the report."""

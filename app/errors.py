"""The mistake of a user, as opposed to a fault of hasten."""

import re


class UserError(ValueError):
    """What was given, what is allowed and what to do, in one sentence; the command line answers it with exit code 2."""


_OPTIONS = {
    "fewer dense_steps": "a --recipe of fewer dense_steps",
    "num_inference_steps": "--steps",
    "num_frames": "--frames",
    "guidance_scale": "--guidance",
}


def as_options(error: Exception) -> str:
    """The sentence of an error, with the options of the command line in place of a pipeline's arguments."""
    return re.sub("|".join(map(re.escape, _OPTIONS)), lambda match: _OPTIONS[match[0]], str(error))


INTERRUPTED = 130
"""Exit code of a command that was interrupted, as shells have it."""

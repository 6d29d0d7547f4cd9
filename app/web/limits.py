"""What a visitor may ask for: lengths, sizes, steps, and how much of the memory."""

from dataclasses import dataclass

from hasten.app.errors import UserError
from hasten.app.web.settings import Settings


@dataclass(frozen=True)
class Limits:
    """
    The most that one comparison may ask for.

    Args:
        prompt_characters (`int`): Length of the prompt, and of the negative prompt.
        side (`int`): Height or width in pixels.
        num_frames (`int`): Frames of a video.
        steps (`int`): Denoising steps.
        waiting (`int`): Comparisons that may wait for the device.
        memory_share (`float`): Share of the free memory that a run may be expected to take.
        kept_runs (`int`, *optional*): Comparisons of the page that stay on disk, the newest ones; all if None.
    """

    prompt_characters: int = 2000
    side: int = 16384
    num_frames: int = 257
    steps: int = 200
    waiting: int = 16
    memory_share: float = 0.9
    kept_runs: int | None = None

    def check(self, settings: Settings) -> None:
        """Refuse what is beyond the limits whatever the model.

        Raises:
            UserError: naming the limit.
        """
        for name, text in (("prompt", settings.prompt), ("negative prompt", settings.negative_prompt)):
            if len(text) > self.prompt_characters:
                raise UserError(f"The {name} has {len(text):,} characters; give {self.prompt_characters:,} at most.")
        bounds = {"height": self.side, "width": self.side, "num_frames": self.num_frames, "steps": self.steps}
        for name, most in bounds.items():
            value = getattr(settings, name)
            if value is not None and value > most:
                raise UserError(f"{value:,} was given for {name.replace('_', ' ')}; give {most:,} at most.")

"""The frames that a chunk attends to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """
    The frames that a chunk attends to, in latent frames.

    Args:
        frames (`int`, defaults to `21`):
            All of them, the chunk itself included.
        sink_frames (`int`, defaults to `0`):
            The first frames of the video, which stay when others leave the window.
        chunk_frames (`int`, defaults to `3`):
            Frames that are generated together.

    Raises:
        ValueError: the window is smaller than its parts.
    """

    frames: int = 21
    sink_frames: int = 0
    chunk_frames: int = 3

    def __post_init__(self) -> None:
        if min(self.chunk_frames, self.sink_frames + 1) < 1 or self.frames < self.chunk_frames + self.sink_frames:
            raise ValueError(
                f"A window of {self.frames} frames has no room for a chunk of {self.chunk_frames} and "
                f"{self.sink_frames} sink frames; give a window of at least {self.chunk_frames + self.sink_frames}."
            )

    @property
    def pages(self) -> int:
        """Most frames in the cache, sinks included."""
        return self.frames - self.chunk_frames

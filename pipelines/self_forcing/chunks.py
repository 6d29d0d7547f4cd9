"""Which latent frames a rollout makes together, and which numbers of frames are whole chunks."""

from typing import NamedTuple


class Chunk(NamedTuple):
    """Latent frames that are denoised together, or that are given and only written into the cache.

    Args:
        first_frame (`int`): position of its first frame in the whole video, given frames included.
        frames (`int`): latent frames.
        given (`bool`): whether it comes from the caller's image or video.
    """

    first_frame: int
    frames: int
    given: bool

    @property
    def end_frame(self) -> int:
        """The first frame behind it."""
        return self.first_frame + self.frames


def plan_chunks(given_frames: int, frames: int, chunk_frames: int) -> tuple[Chunk, ...]:
    """Chunks of a video of `frames` latent frames, of which the first `given_frames` are given.

    Given frames that are no whole chunks begin with the short one: an image is a chunk of one latent frame, as in
    models with an independent first frame.

    Args:
        given_frames (`int`): latent frames of the caller's image or video.
        frames (`int`): latent frames of the video, given ones included; see `latent_frames_of`.
        chunk_frames (`int`): latent frames of a chunk, 3 in the published model.
    """
    short = given_frames % chunk_frames
    given = [Chunk(0, short, given=True)] if short else []
    given += [Chunk(first, chunk_frames, given=True) for first in range(short, given_frames, chunk_frames)]
    made = [Chunk(first, chunk_frames, given=False) for first in range(given_frames, frames, chunk_frames)]
    return (*given, *made)


def latent_frames_of(num_frames: int, given_frames: int, chunk_frames: int, stride: int) -> int:
    """Latent frames of a video of `num_frames`.

    Args:
        num_frames (`int`): frames of the video, given ones included.
        given_frames (`int`): latent frames that are given.
        chunk_frames (`int`): latent frames of a chunk.
        stride (`int`): frames that a latent frame stands for; the first one stands for a single frame.

    Raises:
        ValueError: what is left to make is no whole number of chunks, or nothing; the nearest valid numbers are named.
    """
    chunk = stride * chunk_frames
    least = frames_of(given_frames + chunk_frames, stride)
    beyond = num_frames - least
    if beyond >= 0 and beyond % chunk == 0:
        return given_frames + chunk_frames * (1 + beyond // chunk)
    below = least + beyond // chunk * chunk
    nearest = f"{least}" if beyond < 0 else f"{below} and {below + chunk}"
    behind = f" after {frames_of(given_frames, stride)} given frames" if given_frames else ""
    raise ValueError(
        f"num_frames={num_frames} is no whole number of chunks of {chunk_frames} latent frames{behind}; "
        f"the nearest that {'is one is' if beyond < 0 else 'are, are'} {nearest}."
    )


def frames_of(latent_frames: int, stride: int) -> int:
    """Frames that `latent_frames` decode to: the first to one, each other to `stride`."""
    return stride * (latent_frames - 1) + 1

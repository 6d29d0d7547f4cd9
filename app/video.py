"""Videos as H.264 in MP4, through the ffmpeg that imageio-ffmpeg brings along."""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from hasten.app.errors import UserError

FPS = 16
"""Frames a second of a video whose model does not say."""
CONSTANT_RATE_FACTOR = 17
"""H.264 quality that is hard to tell from the frames themselves; 0 is lossless, 23 the encoder's default."""


def encode_video(frames: Sequence[Image.Image], fps: int, *, title: str, comment: str) -> bytes:
    """The frames, all of one size with even sides, as an MP4 file that plays while it loads.

    Raises:
        UserError: imageio-ffmpeg is not installed.
        RuntimeError: ffmpeg refused the frames.
    """
    width, height = frames[0].size
    pixels = b"".join(frame.convert("RGB").tobytes() for frame in frames)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-")
    h264 = ("-c:v", "libx264", "-crf", str(CONSTANT_RATE_FACTOR), "-pix_fmt", "yuv420p", "-movflags", "+faststart")
    about = ("-metadata", f"title={title}", "-metadata", f"comment={comment}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        _ffmpeg(*raw, *h264, *about, str(file), given=pixels)
        return file.read_bytes()


def decode_video(content: bytes) -> list[Image.Image]:
    """The frames of a video file.

    Raises:
        UserError: imageio-ffmpeg is not installed.
        RuntimeError: ffmpeg cannot read it.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "video.mp4"
        file.write_bytes(content)
        pnm = _ffmpeg("-i", str(file), "-f", "image2pipe", "-c:v", "ppm", "-")
    size = re.match(rb"P6\s+(\d+)\s+(\d+)\s+255\s", pnm)
    if size is None:
        raise RuntimeError("ffmpeg found no frame in the video")
    width, height = int(size[1]), int(size[2])
    each = size.end() + width * height * 3
    return [
        Image.fromarray(np.frombuffer(pnm, np.uint8, each - size.end(), start + size.end()).reshape(height, width, 3))
        for start in range(0, len(pnm), each)
    ]


def find_ffmpeg() -> str:
    """Path of the program.

    Raises:
        UserError: imageio-ffmpeg is not installed.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise UserError("Videos are written through imageio-ffmpeg; install hasten[video] for it.") from error
    return get_ffmpeg_exe()


def _ffmpeg(*arguments: str, given: bytes | None = None) -> bytes:
    """What ffmpeg prints on standard output."""
    command = [find_ffmpeg(), "-v", "error", "-y", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ffmpeg: {done.stderr.decode(errors='replace').strip() or done.returncode}")
    return done.stdout

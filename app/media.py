"""What a call made, as a file: PNG for a picture, MP4 for a video."""

from pathlib import Path

from hasten.app.errors import UserError
from hasten.app.loading import LoadedModel, makes_videos
from hasten.app.rollouts import frame_rate
from hasten.app.series import Call
from hasten.app.video import encode_video, find_ffmpeg


def video_rate(model: LoadedModel, fps: int | None = None) -> int:
    """Frames a second of the videos that are to come: `fps`, or the model's own rate.

    Raises:
        UserError: a rate is given and the model makes pictures, or there is nothing to write videos with.
    """
    if makes_videos(model.pipe):
        find_ffmpeg()
    elif fps is not None:
        raise UserError(f"--fps is for videos, and '{model.name}' makes pictures; leave it out.")
    return fps or frame_rate(model)


def write_media(call: Call, folder: Path, stem: str, *, fps: int, title: str, comment: str) -> str:
    """Write the picture or video of `call` and give the name of its file; `fps` and the texts are for videos.

    Raises:
        UserError: a video, and imageio-ffmpeg is not installed.
    """
    file = f"{stem}.{'mp4' if call.video else 'png'}"
    if call.video:
        (folder / file).write_bytes(encode_video(call.video, fps, title=title, comment=comment))
    else:
        call.image.save(folder / file)
    return file

"""What a call made, as a file: PNG for a picture, MP4 for a video."""

from pathlib import Path

from hasten.app.series import Call
from hasten.app.video import encode_video


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

"""Past runs that nobody made: small pictures and the figures that a comparison leaves."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from hasten.app.web.progress import LANES
from hasten.app.web.runs import PastRun, RunStore
from hasten.presets import presets

FIGURES = {"seconds": 1.0, "speedup": 1.5, "steps": 4, "psnr": 30.0, "ssim": 0.9, "density": 0.5, "peak_bytes": None}


def write_run(outputs: Path, name: str, *, psnr: float | None = 30.0, **more: Any) -> Path:
    """Write what `hasten compare` leaves in the folder `name`; `psnr` is that of the accelerated result."""
    folder = outputs / name
    folder.mkdir(parents=True, exist_ok=True)
    files = [f"{lane.replace('_', '-')}-01.png" for lane in LANES]
    for shade, file in enumerate(files):
        Image.new("RGB", (8, 8), (40 * shade, 0, 0)).save(folder / file)
    result = {
        "model": "emoji-image",
        "recipe": {"name": "fast", **presets()["fast"].to_dict()},
        **{lane: {**FIGURES, "caption_accuracy": None} for lane in LANES},
        "files": files,
        "requests": [{"prompt": "a cat", "seed": 3}],
        "arguments": {"num_inference_steps": 4},
        **more,
    }
    result["accelerated"] = {**result["accelerated"], "psnr": psnr}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def run_of(outputs: Path, name: str, **result: Any) -> PastRun:
    """The run that `write_run` writes, as the page sees it."""
    write_run(outputs, name, **result)
    return RunStore(outputs).get(name)

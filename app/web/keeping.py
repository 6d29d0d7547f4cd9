"""A comparison as it is written into the folder of its run."""

import secrets
import shlex
import time
from collections.abc import Mapping
from typing import Any

from hasten import Recipe
from hasten.app.comparison import Comparison
from hasten.app.loading import LoadedModel
from hasten.app.machine import provenance
from hasten.app.media import write_media
from hasten.app.output import output_folder, write_result
from hasten.app.rollouts import frame_rate
from hasten.app.series import Call
from hasten.app.web.runs import RUNS, RunStore
from hasten.app.web.settings import CUSTOM, Settings

RECIPE = "recipe.json"
PICTURE = "side-by-side.png"


def keep(
    store: RunStore,
    settings: Settings,
    recipe: Recipe,
    comparison: Comparison,
    model: LoadedModel,
    steps: dict[str, list[dict[str, Any]]],
    facts: Mapping[str, Any],
) -> str:
    """Write a comparison as `settings` asked for it and as `recipe` ran, with more `facts`, and give its name."""
    name = f"{RUNS}/{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    rate = frame_rate(model)
    with output_folder(store.outputs / name, force=False) as folder:
        for lane, series in comparison.series.items():
            stem, call = f"{lane.replace('_', '-')}-01", series.calls[0]
            write_media(call, folder, stem, fps=rate, title=settings.prompt, comment=command_line(settings))
            if call.video:
                call.image.save(folder / f"{stem}.png")  # its poster
        if not comparison.baseline.calls[0].video:
            comparison.picture().save(folder / PICTURE)
        recipe.save(folder / RECIPE)
        write_result(
            folder,
            {
                "model": settings.model,
                "recipe": {"name": settings.preset, **recipe.to_dict()},
                "speedup": comparison.figures["accelerated"]["speedup"],
                **comparison.figures,
                "files": sorted(path.name for path in folder.iterdir()),
                "requests": [{"prompt": settings.prompt, "seed": settings.seed}],
                "arguments": _plain_arguments(comparison),
                "settings": settings.to_dict(),
                "step_by_step": steps,
                "fallbacks": list(comparison.accelerated.calls[0].fallbacks),
                **_shape(comparison.baseline.calls[0], rate),
                **facts,
                **provenance(model.pipe.device),
                "command": command_line(settings),
            },
        )
    store.forget_the_oldest()
    return name


def command_line(settings: Settings) -> str:
    """The command that makes the same comparison; a recipe of one's own is read from the file beside the result."""
    chosen = ["--recipe", RECIPE] if settings.preset == CUSTOM else ["--preset", settings.preset]
    words = ["hasten", "compare", "--model", settings.model, "--prompt", settings.prompt, *chosen]
    size = {"height": settings.height, "width": settings.width, "frames": settings.num_frames}
    call = {"steps": settings.steps, "guidance": settings.guidance, "seed": settings.seed}
    given = {"negative-prompt": settings.negative_prompt or None, **size, **call}
    for name, value in given.items():
        words += [] if value is None else [f"--{name}", str(value)]
    return shlex.join(words)


def _shape(call: Call, rate: int) -> dict[str, Any]:
    """Width and height in pixels; of a video, its frames and their rate too."""
    return {"size": call.image.size, **({"frames": len(call.video), "fps": rate} if call.video else {})}


def _plain_arguments(comparison: Comparison) -> dict[str, Any]:
    """The pipeline's arguments without those that only this page gives."""
    arguments = comparison.baseline.workload.arguments
    return {name: value for name, value in arguments.items() if not name.startswith("callback")}

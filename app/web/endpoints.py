"""Named endpoints for programs: `gradio_client.Client(address).predict(..., api_name="/compare")`."""

from concurrent.futures import CancelledError
from typing import Any

import gradio as gr

import hasten
from hasten import AccelerationError, Recipe
from hasten.app.errors import UserError
from hasten.app.web.runs import PastRun
from hasten.app.web.services import Services
from hasten.app.web.settings import CUSTOM, Settings, preset_recipe
from hasten.app.web.votes import Tally
from hasten.presets import DEFAULT_PRESET

_FIGURES = ("baseline", "accelerated", "fewer_steps", "speedup", "recipe", "requests", "arguments", "command")


def add_endpoints(services: Services) -> None:
    """Register the endpoints in the current `gr.Blocks` context."""

    async def compare(
        model: str,
        prompt: str,
        preset: str = DEFAULT_PRESET,
        recipe: dict | None = None,
        negative_prompt: str = "",
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> dict:
        """Run a prompt plain, accelerated, and plain at equal seconds; gives the figures and the run's name.

        Args:
            model: One of those that `models` lists.
            prompt: What to draw.
            preset: quality, balanced, fast or extreme.
            recipe: A recipe as JSON, in place of the preset.
            negative_prompt: What to keep out.
            height: Pixels; the model's own if left out.
            width: Pixels; the model's own if left out.
            num_frames: Frames, for videos.
            steps: Denoising steps; the model's own if left out.
            guidance: Classifier-free guidance scale; the model's own if left out.
            seed: Seed of the initial noise.
        """
        try:
            settings = Settings(
                model=model,
                prompt=prompt,
                recipe=preset_recipe(preset) if recipe is None else Recipe.from_dict(recipe),
                preset=preset if recipe is None else CUSTOM,
                negative_prompt=negative_prompt,
                height=height,
                width=width,
                num_frames=num_frames,
                steps=steps,
                guidance=guidance,
                seed=seed,
            )
            job = services.start(getattr(request, "session_hash", None) or "", settings, several=True)
            async for _ in services.engine.follow(job):
                pass
            return describe(services.store.get(job.result()))
        except (UserError, AccelerationError, CancelledError) as error:
            raise gr.Error(str(error) or "Stopped.", print_exception=False) from error

    def models() -> dict:
        """What may be chosen: models, presets and sampling presets."""
        return {
            "models": list(services.shelf.offered),
            "presets": list(hasten.presets()),
            "sampling_presets": list(hasten.sampling_presets()),
        }

    def runs(most: int = 20) -> list[str]:
        """Names of the latest runs, newest first."""
        return [run.name for run in services.store.newest(max(1, min(most, 200)))]

    def result(name: str) -> dict:
        """Figures and files of a run by its name."""
        try:
            return describe(services.store.get(name))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def tally() -> dict:
        """Votes of the blind test, the share that found the accelerated one, and its 95 % interval."""
        counted = Tally.of(services.votes)
        return {"votes": counted.votes, "correct": counted.correct, "interval": list(counted.interval)}

    gr.api(compare, api_name="compare", concurrency_limit=None)
    for endpoint in (models, runs, result, tally):
        gr.api(endpoint, api_name=endpoint.__name__)


def describe(run: PastRun) -> dict[str, Any]:
    """A run for programs: its figures, and its files as paths below `/gradio_api/file=`."""
    files = [str(run.folder / name) for name in run.result["files"]]
    return {"run": run.name, **{key: run.result[key] for key in _FIGURES if key in run.result}, "files": files}

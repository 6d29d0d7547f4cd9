"""Pictures of every change of resolution, because people need to see it to tune it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from hasten.pipelines.bottleneck import StageBoundary

from .errors import AccelerationError
from .families import family_of


@contextmanager
def watch_stages(pipeline: DiffusionPipeline) -> Iterator[list[StageBoundary]]:
    """Note every change of resolution of the calls inside a `with` block.

    Example:
        ```python
        pipe.enable_acceleration(sampling=hasten.BottleneckConfig.preset("flux-x2"))
        with hasten.watch_stages(pipe) as boundaries:
            pipe("a rocket over a green hill")
        for boundary in boundaries:
            before, after = hasten.stage_pictures(pipe, boundary)
        ```

    Yields:
        `list[StageBoundary]`: grows while the pipeline runs; latents, so that nothing is decoded meanwhile.

    Raises:
        AccelerationError: the pipeline is not run in stages.
    """
    run = getattr(pipeline.scheduler, "bottleneck", None)
    if run is None:
        raise AccelerationError(
            "This pipeline is not run in stages, so there is no boundary to watch; enable a sampling config first."
        )
    boundaries: list[StageBoundary] = []
    watch = boundaries.append
    run.watchers.append(watch)
    try:
        yield boundaries
    finally:
        run.watchers.remove(watch)


def stage_pictures(pipeline: DiffusionPipeline, boundary: StageBoundary) -> tuple[list[Any], list[Any]]:
    """What the denoiser took for the clean picture, before and after its resize, decoded by the pipeline's VAE.

    Returns:
        `tuple[list, list]`: for each row of the batch a PIL picture, or for videos a list of them.

    Raises:
        AccelerationError: the pipeline has no VAE.
    """
    return _pictures(pipeline, boundary.before), _pictures(pipeline, boundary.after)


@torch.no_grad()
def _pictures(pipeline: Any, latents: Tensor) -> list[Any]:
    autoencoder, vae = family_of(pipeline).autoencoder, getattr(pipeline, "vae", None)
    if autoencoder is None or vae is None:
        raise AccelerationError(
            f"This {type(pipeline).__name__} has no VAE that hasten can call; give the pipeline one to see pictures."
        )
    pixels = autoencoder.decode(vae, latents).float()
    if hasattr(pipeline, "video_processor"):
        return pipeline.video_processor.postprocess_video(pixels, output_type="pil")
    still = pixels[:, :, 0] if autoencoder.video else pixels
    return pipeline.image_processor.postprocess(still, output_type="pil")

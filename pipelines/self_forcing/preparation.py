"""From the arguments of a call to the plan of a rollout: everything is checked and encoded before the first step."""

from typing import Any

import torch
from torch import Tensor

from .chunks import frames_of, latent_frames_of, plan_chunks
from .decoding import encode
from .options import OUTPUT_TYPES, Prompt, RolloutOptions
from .plan import RolloutPlan
from .schedule import Sampler, Solver, even_steps, few_steps
from .text import PromptSwitch


def prepare(pipe: Any, options: RolloutOptions) -> RolloutPlan:
    """The plan of the rollout that `options` ask the pipeline for.

    Raises:
        ValueError: an argument is not valid, or does not fit the others or the model.
    """
    config, stride = pipe.config, pipe.vae_scale_factor_temporal
    _check_transformer(pipe.transformer)
    height, width = _size(pipe, options)
    pipe.check_inputs(
        options.prompt,
        options.negative_prompt,
        height,
        width,
        options.prompt_embeds,
        options.negative_prompt_embeds,
        options.callback_on_step_end_tensor_inputs,
    )
    if options.output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type is '{options.output_type}'; give one of {', '.join(OUTPUT_TYPES)}.")
    _check_generators(options)
    sampler = _sampler(pipe, options)
    given = _given_latents(pipe, options, height, width)
    given_frames = 0 if given is None else given.shape[2]
    if options.num_frames is None:
        frames = given_frames + config.window_frames // config.chunk_frames * config.chunk_frames
    else:
        frames = latent_frames_of(options.num_frames, given_frames, config.chunk_frames, stride)
    channels = pipe.transformer.config.in_channels
    spatial = pipe.vae_scale_factor_spatial
    shape = options.videos, channels, height // spatial, width // spatial
    prompts, negative_embeds = _prompts(pipe, options, frames_of(frames, stride))
    return RolloutPlan(
        chunks=plan_chunks(given_frames, frames, config.chunk_frames),
        sampler=sampler,
        shape=shape,
        prompts=prompts,
        negative_embeds=negative_embeds,
        guidance_scale=options.guidance_scale,
        given=given,
        noise=_noise(pipe, options.latents, (*shape[:2], frames - given_frames, *shape[2:])),
        generator=options.generator,
        attention_kwargs=options.attention_kwargs,
    )


def _check_transformer(transformer: Any) -> None:
    if transformer.config.in_channels != transformer.config.out_channels:
        raise ValueError(
            f"The transformer takes {transformer.config.in_channels} channels and predicts "
            f"{transformer.config.out_channels}; give a text-to-video one, which is told images through its cache."
        )
    if getattr(transformer, "_parallel_config", None) is not None:
        raise ValueError(
            "The transformer is split over several devices, which the cache of a rollout is not; load it on one device."
        )
    if transformer.is_cache_enabled:
        raise ValueError(
            "The transformer has one of diffusers' caches, which would skip layers that write keys and values; "
            "call pipe.transformer.disable_cache() first."
        )


def _size(pipe: Any, options: RolloutOptions) -> tuple[int, int]:
    height, width = options.height or pipe.config.sample_height, options.width or pipe.config.sample_width
    _, rows, columns = pipe.transformer.config.patch_size
    cell = pipe.vae_scale_factor_spatial * rows, pipe.vae_scale_factor_spatial * columns
    if height % cell[0] or width % cell[1]:
        raise ValueError(f"height and width are {height} and {width}; give multiples of {cell[0]} and {cell[1]}.")
    return height, width


def _check_generators(options: RolloutOptions) -> None:
    given = options.generator
    if isinstance(given, list) and len(given) not in (1, options.videos):
        raise ValueError(f"{len(given)} generators were given for {options.videos} videos; give one for each, or one.")


def _sampler(pipe: Any, options: RolloutOptions) -> Sampler:
    config, count, steps = pipe.config, options.num_inference_steps, options.denoising_steps
    if steps is not None and (not config.distilled or count not in (None, len(steps))):
        instead = f"num_inference_steps={count}" if config.distilled else "a model that is not distilled"
        raise ValueError(f"denoising_steps={list(steps)} do not go with {instead}; leave them out.")
    count = config.num_inference_steps if count is None else count
    if not config.distilled:
        return Solver(pipe.scheduler, count)
    train_timesteps = pipe.scheduler.config.num_train_timesteps
    steps = even_steps(count, train_timesteps) if steps is None else steps
    return few_steps(steps, config.timestep_shift, train_timesteps)


def _given_latents(pipe: Any, options: RolloutOptions, height: int, width: int) -> Tensor | None:
    """Clean latents (B, C, F, h, w) of the caller's image or video."""
    if options.image is None and options.video is None:
        return None
    if options.image is not None and options.video is not None:
        raise ValueError("An image and a video were given; give the one that the rollout is to continue.")
    if options.image is not None:
        frames = pipe.video_processor.preprocess(options.image, height, width).unsqueeze(2)
    else:
        frames = pipe.video_processor.preprocess_video(options.video, height, width)
    stride = pipe.vae_scale_factor_temporal
    count = frames.shape[2]
    if count % stride != 1 % stride:
        below = frames_of((count - 1) // stride + 1, stride)
        raise ValueError(
            f"The given video has {count} frames, which are no whole latent frames; cut it to {below} frames, "
            f"or give {below + stride}."
        )
    return _rows(encode(pipe.vae, frames).to(pipe._execution_device), options, "given images or videos")


def _prompts(pipe: Any, options: RolloutOptions, num_frames: int) -> tuple[tuple[PromptSwitch, ...], Tensor | None]:
    """The prompts in order of time, and the negative prompt if there is guidance."""
    embeds, negative_embeds = _encode_prompt(pipe, options)
    switches = [PromptSwitch(0, embeds)]
    for frame, prompt in sorted(options.prompt_switches, key=lambda switch: switch[0]):
        if not 0 < frame < num_frames:
            raise ValueError(
                f"prompt_switches name frame {frame}; give frames between 1 and {num_frames - 1} of this video."
            )
        latent_frame = -(-frame // pipe.vae_scale_factor_temporal)
        switches.append(PromptSwitch(latent_frame, _encode_switch(pipe, options, prompt)))
    return tuple(switches), negative_embeds


def _encode_prompt(pipe: Any, options: RolloutOptions) -> tuple[Tensor, Tensor | None]:
    """Embeddings for every video of the batch, and negative ones if there is guidance."""
    guided = options.guidance_scale > 1
    embeds, negative_embeds = pipe.encode_prompt(
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        do_classifier_free_guidance=guided,
        prompt_embeds=options.prompt_embeds,
        negative_prompt_embeds=options.negative_prompt_embeds,
        max_sequence_length=_text_tokens(pipe, options),
    )
    return _text(pipe, embeds, options), _text(pipe, negative_embeds, options) if guided else None


def _encode_switch(pipe: Any, options: RolloutOptions, prompt: Prompt | Tensor) -> Tensor:
    if isinstance(prompt, Tensor):
        return _text(pipe, prompt, options)
    embeds, _ = pipe.encode_prompt(
        prompt=prompt, do_classifier_free_guidance=False, max_sequence_length=_text_tokens(pipe, options)
    )
    return _text(pipe, embeds, options)


def _text_tokens(pipe: Any, options: RolloutOptions) -> int:
    return options.max_sequence_length or pipe.config.max_sequence_length


def _text(pipe: Any, embeds: Tensor, options: RolloutOptions) -> Tensor:
    return _rows(embeds.to(pipe._execution_device, pipe.transformer.dtype), options, "prompts")


def _rows(given: Tensor, options: RolloutOptions, what: str) -> Tensor:
    """`given`, one row for all videos or one for each prompt, with a row for each video."""
    rows, videos = given.shape[0], options.num_videos_per_prompt
    if rows == 1:
        return given.expand(options.videos, *given.shape[1:])
    if rows != options.prompts:
        raise ValueError(f"{rows} {what} were given for a batch of {options.prompts}; give 1 or {options.prompts}.")
    return given.repeat_interleave(videos, dim=0)


def _noise(pipe: Any, latents: Tensor | None, shape: tuple[int, ...]) -> Tensor | None:
    """The caller's noise for the frames that are made."""
    if latents is None:
        return None
    if tuple(latents.shape) != shape:
        raise ValueError(
            f"latents have the shape {tuple(latents.shape)}; give {shape}: noise for the frames that are made."
        )
    return latents.to(pipe._execution_device, torch.float32)

"""Video that is generated chunk by chunk, each attending to the ones before through a cache of keys and values."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from torch import Tensor
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from ..kv_cache import PageShape
from .caching import Cache, CacheSetting, allocate
from .decoding import StreamingDecoder, decode
from .options import Callback, Prompt, RolloutOptions
from .plan import RolloutPlan
from .preparation import prepare
from .reporting import StepCallback
from .rollout import Rollout
from .schedule import Generators
from .state import RolloutState
from .step_reuse import ReusingBlocks


class SelfForcingWanPipeline(WanPipeline):
    r"""
    Text-to-video, image-to-video and video extension with Wan models that were trained by Self-Forcing.

    Huang et al., "Self Forcing: Bridging the Train-Test Gap in Autoregressive Video Diffusion", arXiv 2506.08009. All
    components are stock; between chunks, and behind a call, the transformer is as it was. `SelfForcingWanPipeline`
    loads any folder of a Wan 2.1 text-to-video pipeline, and `WanPipeline` any folder of this one;
    `load_self_forcing_weights` reads the original checkpoints.

    Args:
        tokenizer, text_encoder, vae, scheduler, transformer:
            As in [`WanPipeline`]. The scheduler is used by models that are not distilled.
        transformer_2, boundary_ratio, expand_timesteps:
            Of Wan 2.2, which has no such models; only there so that stock pipelines can be converted.
        chunk_frames (`int`, defaults to `3`):
            Latent frames that are generated together.
        window_frames (`int`, defaults to `21`):
            Latent frames that a chunk attends to, itself included.
        sink_frames (`int`, defaults to `0`):
            The first latent frames of the video, which stay in the window when others leave it.
        rebase_sinks (`bool`, defaults to `False`):
            Whether sinks are seen directly before the window, and not ever further back in time.
        num_inference_steps (`int`, defaults to `4`):
            Steps of a chunk, evenly spread before the shift.
        timestep_shift (`float`, defaults to `5.0`):
            Shift of the noise levels of a distilled model.
        distilled (`bool`, defaults to `True`):
            Whether a step predicts the clean chunk, which is then noised again; otherwise the scheduler steps.
        sample_height, sample_width (`int`, default to `480` and `832`):
            Default size in pixels.
        max_sequence_length (`int`, defaults to `512`):
            Tokens that prompts are padded to.

    The attribute `kv_cache`, a `CacheSetting`, chooses another cache than the plain window in the model's dtype.

    Raises:
        ValueError: the model is of a kind that cannot be rolled out.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        text_encoder: UMT5EncoderModel,
        vae: AutoencoderKLWan,
        scheduler: FlowMatchEulerDiscreteScheduler,
        transformer: WanTransformer3DModel | None = None,
        transformer_2: WanTransformer3DModel | None = None,
        boundary_ratio: float | None = None,
        expand_timesteps: bool = False,
        chunk_frames: int = 3,
        window_frames: int = 21,
        sink_frames: int = 0,
        rebase_sinks: bool = False,
        num_inference_steps: int = 4,
        timestep_shift: float = 5.0,
        distilled: bool = True,
        sample_height: int = 480,
        sample_width: int = 832,
        max_sequence_length: int = 512,
    ) -> None:
        if transformer_2 is not None or boundary_ratio is not None or expand_timesteps:
            raise ValueError("A rollout takes one transformer of Wan 2.1; this is a Wan 2.2 pipeline, use WanPipeline.")
        super().__init__(tokenizer, text_encoder, vae, scheduler, transformer)
        self.register_to_config(
            chunk_frames=chunk_frames,
            window_frames=window_frames,
            sink_frames=sink_frames,
            rebase_sinks=rebase_sinks,
            num_inference_steps=num_inference_steps,
            timestep_shift=timestep_shift,
            distilled=distilled,
            sample_height=sample_height,
            sample_width=sample_width,
            max_sequence_length=max_sequence_length,
        )
        self.kv_cache: CacheSetting | None = None

    @torch.no_grad()
    def __call__(
        self,
        prompt: Prompt | None = None,
        negative_prompt: Prompt | None = None,
        image: Any = None,
        video: Any = None,
        prompt_switches: Sequence[tuple[int, Prompt | Tensor]] = (),
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        denoising_steps: Sequence[float] | None = None,
        guidance_scale: float = 1.0,
        num_videos_per_prompt: int = 1,
        generator: Generators = None,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_sequence_length: int | None = None,
    ) -> WanPipelineOutput | tuple[Any]:
        r"""
        Generate a video.

        Args:
            prompt (`str` or `list[str]`, *optional*):
                One for each video. If left out, give `prompt_embeds`.
            negative_prompt (`str` or `list[str]`, *optional*):
                What to avoid; used with guidance.
            image (`PIL.Image`, array or tensor, or a list of them, *optional*):
                The first frame; one for all videos, or one for each prompt.
            video (list of frames, array or tensor, or a list of them, *optional*):
                The first frames, `4·n + 1` of them, which are continued.
            prompt_switches (`Sequence[tuple[int, str]]`, *optional*):
                Pairs of a frame and the prompt, or its embeddings, that holds from the chunk with that frame on.
            height, width (`int`, *optional*):
                Size in pixels.
            num_frames (`int`, *optional*):
                Frames of the video, given ones included. By default as many chunks are made as fill a window: 81 frames
                with the published settings.
            num_inference_steps (`int`, *optional*):
                Steps of each chunk; 4 in the published settings.
            denoising_steps (`Sequence[float]`, *optional*):
                Timesteps before the shift, falling from 1000, in place of evenly spread ones.
            guidance_scale (`float`, defaults to `1.0`):
                Classifier-free guidance above 1, for models that are not distilled; it takes a second cache.
            num_videos_per_prompt (`int`, defaults to `1`):
                Videos of each prompt.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Draws all noise. As it is drawn chunk by chunk, a longer video begins as a shorter one.
            latents (`Tensor`, *optional*):
                `(batch, channels, latent frames, height / 8, width / 8)`, noise for the frames that are made.
            prompt_embeds, negative_prompt_embeds (`Tensor`, *optional*):
                `(batch, tokens, channels)`, in place of the prompts.
            output_type (`str`, defaults to `"np"`):
                `"np"`, `"pt"`, `"pil"`, or `"latent"` for normalised latents.
            return_dict (`bool`, defaults to `True`):
                Whether to return a [`WanPipelineOutput`] in place of a tuple.
            attention_kwargs (`dict`, *optional*):
                Passed to the transformer: `{"scale": ...}` of LoRA layers.
            callback_on_step_end (`Callable`, *optional*):
                Called as `callback(pipe, step, timestep, tensors)` after each step, steps counted over all chunks; what
                it returns of `tensors` replaces them. Setting `pipe._interrupt = True`, here or from elsewhere and at
                any time, ends the video with the chunks that are done.
            callback_on_step_end_tensor_inputs (`Sequence[str]`, defaults to `("latents",)`):
                Which tensors it gets; `latents` are those of the chunk.
            max_sequence_length (`int`, *optional*):
                Tokens that prompts are padded to.

        Returns:
            [`WanPipelineOutput`] or `tuple`: the videos, `(batch, frames, height, width, 3)` in [0, 1] for `"np"`.

        Raises:
            ValueError: an argument is not valid, or does not fit the others or the model.
            CacheMemoryError: there is too little memory for the cache; the sentence names the next smaller method.
        """
        options = RolloutOptions.of_call(locals())
        self._interrupt = False
        plan = prepare(self, options)
        chunks = list(self._roll_out(plan, options))
        latents = torch.cat([plan.no_frames(self._execution_device), *chunks], dim=2)
        frames = self._finish(latents if output_type == "latent" else decode(self.vae, latents), output_type)
        self.maybe_free_model_hooks()
        return WanPipelineOutput(frames=frames) if return_dict else (frames,)

    def stream(self, prompt: Prompt | None = None, **options: Any) -> Iterator[Any]:
        """Generate a video and hand out its frames chunk by chunk, as soon as they are decoded.

        Frames of a given image or video come first. All parts together are what a call with the same arguments returns,
        but memory does not grow with the length of the video. The transformer is as it was whenever a part is handed
        out, and the caches are freed when the iterator is dropped.

        Args:
            prompt, options: the arguments of a call, without `return_dict`.

        Returns:
            `Iterator`: of what a call returns as `frames`, a few frames long each.

        Raises:
            ValueError: at once, as a call does; or the autoencoder would decode in tiles.
        """
        chosen = RolloutOptions(prompt, **options)
        self._interrupt = False
        with torch.no_grad():
            plan = prepare(self, chosen)
        decoder = None if chosen.output_type == "latent" else StreamingDecoder(self.vae, *plan.shape[2:])
        return self._stream(plan, chosen, decoder)

    @torch.no_grad()
    def _stream(self, plan: RolloutPlan, options: RolloutOptions, decoder: StreamingDecoder | None) -> Iterator[Any]:
        try:
            for latents in self._roll_out(plan, options):
                yield self._finish(decoder.decode(latents) if decoder else latents, options.output_type)
        finally:
            self.maybe_free_model_hooks()

    def _finish(self, video: Tensor, output_type: str) -> Any:
        return video if output_type == "latent" else self.video_processor.postprocess_video(video, output_type)

    def _roll_out(self, plan: RolloutPlan, options: RolloutOptions) -> Iterator[Tensor]:
        """Clean latents of one chunk after another."""
        self._guidance_scale, self._attention_kwargs = options.guidance_scale, options.attention_kwargs
        self._num_timesteps, self._current_timestep = plan.steps, None
        rule = self._setting.step_reuse
        reuse = None if rule is None else ReusingBlocks(rule, self.transformer.blocks)
        with self.progress_bar(total=plan.steps) as bar:
            report = StepCallback(self, options, bar.update)
            state, on_chunk = self._allocate(plan), self._setting.on_chunk
            yield from Rollout(self.transformer, state, plan, report, lambda: self.interrupt, reuse, on_chunk)

    def make_cache(self, contexts: Sequence[str] = ("cond",)) -> Cache:
        """The cache that a rollout begins with, not yet allocated, by `kv_cache` and the configuration."""
        return self._setting.make_cache(self.config, len(self.transformer.blocks), contexts)

    @property
    def _setting(self) -> CacheSetting:
        return self.kv_cache or CacheSetting()

    def _allocate(self, plan: RolloutPlan) -> RolloutState:
        config, device = self.transformer.config, self._execution_device
        batch, _, height, width = plan.shape
        rows, columns = height // config.patch_size[1], width // config.patch_size[2]
        heads, head_dim = config.num_attention_heads, config.attention_head_dim
        cache = self.make_cache(plan.contexts)
        allocate(cache, PageShape(batch, heads, rows * columns, head_dim, self.transformer.dtype), device)
        if self._setting.on_begin:
            self._setting.on_begin(cache)
        rebase = self._setting.rebases_sinks(self.config)
        return RolloutState(cache, head_dim, rows, columns, device, rebase_sinks=rebase)

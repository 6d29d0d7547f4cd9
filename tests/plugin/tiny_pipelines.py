"""Tiny random stock pipelines of every family, and calls that run them without text encoders.

`TINY_PIPELINES` lists them; `generate` runs one and returns its latents. Every pipeline is built in memory from a fixed
seed in float32, in eval mode and without a progress bar; nothing is downloaded. Prompts are random embeddings passed
as keyword arguments. An autoencoder is there only where the stock code needs one to make latents.

All of them run after `pipeline.to(torch.float64)`. Only `pixart` then computes in float64 throughout; the others round
their rotary embeddings, latents or predictions to float32 on the way, and some return float32: compare them with
tolerances of float32.

Weights as small as these make attention nearly uniform; call `sharpen` where the attention has to matter.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLFlux2,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

HEADS = 2
HEAD_DIM = 16
HEAD_SHAPE = {"num_attention_heads": HEADS, "attention_head_dim": HEAD_DIM}
WIDTH = HEADS * HEAD_DIM
LATENT_CHANNELS = 4
MOCHI_CHANNELS = 12  # its pipeline takes no other number
TEXT_CHANNELS = 32
TEXT_TOKENS = 8
IMAGE_SIZES = ((128, 128), (96, 160))  # 8 x 8 and 6 x 10 tokens of 16 pixels
VIDEO_SIZES = ((96, 96), (64, 128))  # 6 x 6 and 4 x 8 tokens of 16 pixels
SELF_ATTENTION = r"transformer_blocks\.\d+\.attn1"
DOUBLE_AND_SINGLE = r"(single_)?transformer_blocks\.\d+\.attn"


class Prompt(NamedTuple):
    """What stands for a text: how many tokens it has, and the seed of its random embedding."""

    tokens: int
    seed: int


PROMPTS = (Prompt(5, seed=1), Prompt(TEXT_TOKENS, seed=2))
NEGATIVE_PROMPTS = (Prompt(3, seed=3), Prompt(6, seed=4))

Prompts = tuple[Prompt, ...]


@dataclass(frozen=True)
class TinyPipeline:
    """
    A tiny random stock pipeline and the arguments of a valid call.

    Args:
        family: The family that the pipeline belongs to, such as `"flux"`.
        name: Unique name, made for the ids of pytest.
        assemble: Makes the pipeline from the global random state; call `build` instead.
        text: Makes the arguments that carry the prompts. For negative prompts their names are preceded by `negative_`.
        attention: Regular expression of the full names of the self-attention modules inside a denoiser.
        sizes: Two valid sizes, (height, width) in pixels: the native one, then one whose height is not its width.
        num_frames: Frames in pixel space, 3 in latent space; `None` for an image pipeline.
        first_frames: For image-to-video pipelines: one image for the whole batch (`"shared"`), or one each (`"own"`).
        options: Other keyword arguments of every call.
        guidance: Name of the argument that turns guidance on, its value when on, and its value when off.
        negative: Whether guidance needs negative prompts.
    """

    family: str
    name: str
    assemble: Callable[[], DiffusionPipeline]
    text: Callable[[Prompts], dict[str, Any]]
    attention: str
    sizes: tuple[tuple[int, int], tuple[int, int]] = IMAGE_SIZES
    num_frames: int | None = None
    first_frames: Literal["shared", "own"] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    guidance: tuple[str, float, float] = ("guidance_scale", 4.0, 1.0)
    negative: bool = True

    @property
    def video(self) -> bool:
        return self.num_frames is not None

    def build(self) -> DiffusionPipeline:
        """The pipeline; every call returns the same weights and leaves the global random state alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            pipeline = self.assemble()
        for component in pipeline.components.values():
            if isinstance(component, nn.Module):
                component.eval()
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def arguments(
        self, batch: int = 1, guidance: bool = True, height: int | None = None, width: int | None = None
    ) -> dict[str, Any]:
        """
        Keyword arguments for the pipeline: all but `num_inference_steps`, `generator` and `output_type`.

        Tensors are on the CPU and in float32; `match` adapts them to another pipeline. The prompts of a batch differ in
        their length, and where the family takes a mask it says so; the first prompt is also that of a batch of one.
        Without guidance there are no negative prompts.
        """
        native_height, native_width = self.sizes[0]
        arguments = {**self.options, "height": height or native_height, "width": width or native_width}
        if self.num_frames is not None:
            arguments["num_frames"] = self.num_frames
        if self.first_frames is not None:
            images = 1 if self.first_frames == "shared" else batch
            shape = (images, 3, arguments["height"], arguments["width"])
            arguments["image"] = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        arguments |= self.text(_repeat(PROMPTS, batch))
        if guidance and self.negative:
            negative = self.text(_repeat(NEGATIVE_PROMPTS, batch))
            arguments |= {f"negative_{name}": value for name, value in negative.items()}
        name, on, off = self.guidance
        arguments[name] = on if guidance else off
        return arguments


def generate(
    tiny: TinyPipeline,
    pipeline: DiffusionPipeline,
    *,
    batch: int = 1,
    guidance: bool = True,
    height: int | None = None,
    width: int | None = None,
    seed: int = 0,
    **overrides: Any,
) -> Tensor:
    """Runs `pipeline` for 6 steps with fixed noise, or as `overrides` say, and returns the latents as it gives them."""
    arguments = tiny.arguments(batch, guidance, height, width)
    arguments |= {"num_inference_steps": 6, "output_type": "latent", "generator": torch.Generator().manual_seed(seed)}
    output = pipeline(**match(arguments | overrides, pipeline))
    return output.frames if tiny.video else output.images


def match(arguments: Mapping[str, Any], pipeline: DiffusionPipeline) -> dict[str, Any]:
    """The arguments with tensors on the device of `pipeline`, floating-point ones in the dtype of its denoiser."""
    device, dtype = pipeline.transformer.device, pipeline.transformer.dtype

    def convert(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, dtype if value.is_floating_point() else None)
        if isinstance(value, list):
            return [convert(item) for item in value]
        return value

    return {name: convert(value) for name, value in arguments.items()}


def sharpen(pipeline: DiffusionPipeline, module_names_regex: str) -> None:
    """
    Makes attention peaked, and its output a large part of what its block adds. Works in place.

    Queries and keys are scaled where their scale counts: in the weights of their norms, or of their projections where
    there are no norms.

    Args:
        pipeline: The pipeline; both denoisers of Wan 2.2 are treated.
        module_names_regex: Regular expression of the full names of attention modules, such as `TinyPipeline.attention`.

    Raises:
        ValueError: no module has such a name.
    """
    modules = list(_attention_modules(pipeline, module_names_regex))
    if not modules:
        raise ValueError(f"No module of {type(pipeline).__name__} is called {module_names_regex!r}.")
    with torch.no_grad():
        for attention, output in modules:
            names = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")
            norms = [norm for name in names if (norm := getattr(attention, name, None)) is not None]
            for norm in norms:
                norm.weight.mul_(2)
            for projection in () if norms else (attention.to_q, attention.to_k):
                projection.weight.mul_(8)
            output.weight[:, : attention.inner_dim].mul_(8)


def _attention_modules(pipeline: DiffusionPipeline, pattern: str) -> Iterator[tuple[Any, nn.Linear]]:
    """The attention modules whose names match, each with the layer that projects its output."""
    for denoiser in (pipeline.transformer, pipeline.components.get("transformer_2")):
        for name, module in denoiser.named_modules() if denoiser is not None else ():
            if re.fullmatch(pattern, name):
                output = getattr(module, "to_out", None)
                if output is None:  # single-stream blocks project attention, then MLP, with one layer of the block
                    output = denoiser.get_submodule(name.rpartition(".")[0]).proj_out
                yield module, output[0] if isinstance(output, nn.ModuleList) else output


def _stock(pipeline_class: type[DiffusionPipeline], **components: Any) -> DiffusionPipeline:
    """A pipeline with these components; the others that it asks for are `None`."""
    parameters = inspect.signature(pipeline_class).parameters.values()
    missing = {parameter.name: None for parameter in parameters if parameter.default is parameter.empty}
    return pipeline_class(**{**missing, **components})


def _repeat(prompts: Prompts, batch: int) -> Prompts:
    return tuple(prompts[row % len(prompts)] for row in range(batch))


def _embeddings(prompts: Prompts, tokens: int = TEXT_TOKENS) -> Tensor:
    """Random embeddings [B, tokens, channels]; padding is not zero, as text encoders return it."""
    generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
    return torch.stack([torch.randn(tokens, TEXT_CHANNELS, generator=generator) for generator in generators])


def _mask(prompts: Prompts, tokens: int = TEXT_TOKENS) -> Tensor:
    """Attention mask [B, tokens] as tokenizers give it: 1 for tokens, 0 for padding."""
    lengths = torch.tensor([prompt.tokens for prompt in prompts])
    return (torch.arange(tokens) < lengths[:, None]).long()


def _plain_text(prompts: Prompts) -> dict[str, Any]:
    return {"prompt_embeds": _embeddings(prompts)}


def _pooled_text(prompts: Prompts) -> dict[str, Any]:
    return {"prompt_embeds": _embeddings(prompts), "pooled_prompt_embeds": _embeddings(prompts, tokens=1)[:, 0]}


def _masked_text(prompts: Prompts) -> dict[str, Any]:
    return {"prompt_embeds": _embeddings(prompts), "prompt_attention_mask": _mask(prompts)}


def _bool_masked_text(prompts: Prompts) -> dict[str, Any]:
    return {"prompt_embeds": _embeddings(prompts), "prompt_attention_mask": _mask(prompts).bool()}


def _pixart(pipeline_class: type[DiffusionPipeline]) -> DiffusionPipeline:
    transformer = PixArtTransformer2DModel(
        sample_size=16,
        num_layers=2,
        **HEAD_SHAPE,
        cross_attention_dim=WIDTH,
        caption_channels=TEXT_CHANNELS,
        in_channels=LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,
    )
    return _stock(pipeline_class, transformer=transformer, scheduler=DPMSolverMultistepScheduler())


def _hunyuan_dit() -> DiffusionPipeline:
    transformer = HunyuanDiT2DModel(
        sample_size=16,
        patch_size=2,
        num_layers=6,  # four plain blocks, then two with skip connections; with five, stock code pops an empty list
        **HEAD_SHAPE,
        hidden_size=WIDTH,
        in_channels=LATENT_CHANNELS,
        cross_attention_dim=TEXT_CHANNELS,
        cross_attention_dim_t5=TEXT_CHANNELS,
        pooled_projection_dim=8,
        text_len=TEXT_TOKENS,
        text_len_t5=TEXT_TOKENS,
    )
    return _stock(
        HunyuanDiTPipeline,
        transformer=transformer,
        scheduler=DDPMScheduler(prediction_type="v_prediction", clip_sample=False),
        requires_safety_checker=False,
    )


def _hunyuan_dit_text(prompts: Prompts) -> dict[str, Any]:
    return {
        "prompt_embeds": _embeddings(prompts),
        "prompt_attention_mask": _mask(prompts),
        "prompt_embeds_2": _embeddings(prompts).flip(-1),
        "prompt_attention_mask_2": _mask(prompts),
    }


def _sd3() -> DiffusionPipeline:
    transformer = SD3Transformer2DModel(
        sample_size=16,
        num_layers=4,  # two with dual attention, two without; the last one is `context_pre_only`
        dual_attention_layers=(0, 1),
        qk_norm="rms_norm",
        **HEAD_SHAPE,
        caption_projection_dim=WIDTH,
        joint_attention_dim=TEXT_CHANNELS,
        pooled_projection_dim=TEXT_CHANNELS,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        pos_embed_max_size=24,
    )
    return _stock(
        StableDiffusion3Pipeline, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0)
    )


def _flux() -> DiffusionPipeline:
    transformer = FluxTransformer2DModel(
        num_layers=2,
        num_single_layers=2,
        **HEAD_SHAPE,
        in_channels=4 * LATENT_CHANNELS,
        joint_attention_dim=TEXT_CHANNELS,
        pooled_projection_dim=TEXT_CHANNELS,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
    )
    return _stock(
        FluxPipeline, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    )


def _flux2_transformer(guidance_embeds: bool) -> Flux2Transformer2DModel:
    return Flux2Transformer2DModel(
        num_layers=2,
        num_single_layers=2,
        **HEAD_SHAPE,
        in_channels=4 * LATENT_CHANNELS,
        joint_attention_dim=TEXT_CHANNELS,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 4, 4, 4),
    )


def _flux2() -> DiffusionPipeline:
    return _stock(
        Flux2Pipeline,
        transformer=_flux2_transformer(guidance_embeds=True),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )


def _flux2_klein() -> DiffusionPipeline:
    # its latents are un-normalised with the autoencoder's statistics, so the autoencoder has to be there
    autoencoder = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=LATENT_CHANNELS, norm_num_groups=2
    )
    return _stock(
        Flux2KleinPipeline,
        transformer=_flux2_transformer(guidance_embeds=False),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=autoencoder,
    )


def _cogvideox_transformer(in_channels: int, rotary: bool) -> CogVideoXTransformer3DModel:
    return CogVideoXTransformer3DModel(
        num_layers=2,
        **HEAD_SHAPE,
        in_channels=in_channels,
        out_channels=LATENT_CHANNELS,
        time_embed_dim=8,
        text_embed_dim=TEXT_CHANNELS,
        max_text_seq_length=TEXT_TOKENS,
        sample_height=12,
        sample_width=12,
        sample_frames=9,
        use_rotary_positional_embeddings=rotary,
    )


def _cogvideox_2b() -> DiffusionPipeline:
    return _stock(
        CogVideoXPipeline,
        transformer=_cogvideox_transformer(LATENT_CHANNELS, rotary=False),
        scheduler=CogVideoXDDIMScheduler(),
    )


def _cogvideox_5b() -> DiffusionPipeline:
    return _stock(
        CogVideoXPipeline,
        transformer=_cogvideox_transformer(LATENT_CHANNELS, rotary=True),
        scheduler=CogVideoXDPMScheduler(),
    )


def _cogvideox_image_to_video() -> DiffusionPipeline:
    autoencoder = AutoencoderKLCogVideoX(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=LATENT_CHANNELS, norm_num_groups=2
    )
    return _stock(
        CogVideoXImageToVideoPipeline,
        transformer=_cogvideox_transformer(2 * LATENT_CHANNELS, rotary=True),
        scheduler=CogVideoXDPMScheduler(),
        vae=autoencoder,
    )


def _wan_transformer(in_channels: int = LATENT_CHANNELS, image_dim: int | None = None) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        num_layers=2,
        **HEAD_SHAPE,
        in_channels=in_channels,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_CHANNELS,
        freq_dim=32,
        ffn_dim=64,
        rope_max_seq_len=32,
        image_dim=image_dim,
        added_kv_proj_dim=None if image_dim is None else WIDTH,
    )


def _wan() -> DiffusionPipeline:
    return _stock(WanPipeline, transformer=_wan_transformer(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0))


def _wan_two_experts() -> DiffusionPipeline:
    return _stock(
        WanPipeline,
        transformer=_wan_transformer(),
        transformer_2=_wan_transformer(),
        boundary_ratio=0.8,  # three of six steps each
        scheduler=UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    )


def _wan_image_to_video() -> DiffusionPipeline:
    autoencoder = AutoencoderKLWan(
        base_dim=4,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.1] * LATENT_CHANNELS,
        latents_std=[0.9] * LATENT_CHANNELS,
    )
    # the pipeline cannot take image embeddings instead: it refuses them beside the image, which it needs
    image_encoder = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
        )
    )
    image_processor = CLIPImageProcessor(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, do_rescale=False
    )
    temporal_mask_channels = 4
    return _stock(
        WanImageToVideoPipeline,
        transformer=_wan_transformer(2 * LATENT_CHANNELS + temporal_mask_channels, image_dim=8),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder,
        image_encoder=image_encoder,
        image_processor=image_processor,
    )


def _hunyuan_video() -> DiffusionPipeline:
    transformer = HunyuanVideoTransformer3DModel(
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=2,
        **HEAD_SHAPE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_embed_dim=TEXT_CHANNELS,
        pooled_projection_dim=TEXT_CHANNELS,
        rope_axes_dim=(4, 6, 6),
    )
    return _stock(HunyuanVideoPipeline, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0))


def _hunyuan_video_text(prompts: Prompts) -> dict[str, Any]:
    return _pooled_text(prompts) | {"prompt_attention_mask": _mask(prompts)}


def _ltx_transformer() -> LTXVideoTransformer3DModel:
    return LTXVideoTransformer3DModel(
        num_layers=2,
        **HEAD_SHAPE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        cross_attention_dim=WIDTH,
        caption_channels=TEXT_CHANNELS,
    )


def _ltx_scheduler() -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=0.1)


def _ltx() -> DiffusionPipeline:
    return _stock(LTXPipeline, transformer=_ltx_transformer(), scheduler=_ltx_scheduler())


def _ltx_image_to_video() -> DiffusionPipeline:
    autoencoder = AutoencoderKLLTXVideo(  # 16 pixels and 4 frames a latent, where the real one has 32 and 8
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
    )
    return _stock(LTXImageToVideoPipeline, transformer=_ltx_transformer(), scheduler=_ltx_scheduler(), vae=autoencoder)


def _mochi() -> DiffusionPipeline:
    transformer = MochiTransformer3DModel(
        num_layers=3,  # two plain blocks, then the last one, which is `context_pre_only`
        **HEAD_SHAPE,
        in_channels=MOCHI_CHANNELS,
        text_embed_dim=TEXT_CHANNELS,
        pooled_projection_dim=16,
        time_embed_dim=16,
        max_sequence_length=TEXT_TOKENS,
    )
    nn.init.normal_(transformer.pos_frequencies, std=0.02)  # learned; zero at the start, which would mean no positions
    return _stock(MochiPipeline, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True))


def _qwen_image() -> DiffusionPipeline:
    transformer = QwenImageTransformer2DModel(
        num_layers=2,
        **HEAD_SHAPE,
        in_channels=4 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        joint_attention_dim=TEXT_CHANNELS,
        axes_dims_rope=(4, 6, 6),
    )
    return _stock(
        QwenImagePipeline, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    )


def _qwen_image_text(prompts: Prompts) -> dict[str, Any]:
    """Padded to the longest prompt of the batch only, so that a batch of one has no padding and loses its mask."""
    tokens = max(prompt.tokens for prompt in prompts)
    return {"prompt_embeds": _embeddings(prompts)[:, :tokens], "prompt_embeds_mask": _mask(prompts, tokens)}


def _z_image() -> DiffusionPipeline:
    transformer = ZImageTransformer2DModel(
        n_layers=2,
        n_refiner_layers=2,
        dim=WIDTH,
        n_heads=HEADS,
        n_kv_heads=HEADS,
        in_channels=LATENT_CHANNELS,
        cap_feat_dim=TEXT_CHANNELS,
        axes_dims=[4, 6, 6],
        axes_lens=[128, 32, 32],
    )
    nn.init.normal_(transformer.x_pad_token)  # learned; zero at the start
    nn.init.normal_(transformer.cap_pad_token)
    return _stock(
        ZImagePipeline, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    )


def _z_image_text(prompts: Prompts) -> dict[str, Any]:
    """Captions of 25 and 40 tokens, which differ even after the model pads them to multiples of 32."""
    captions = [_embeddings((prompt,), tokens=5 * prompt.tokens)[0] for prompt in prompts]
    return {"prompt_embeds": captions}


_PIXART = {"use_resolution_binning": False, "negative_prompt": None}
_TRUE_GUIDANCE = ("true_cfg_scale", 4.0, 1.0)

TINY_PIPELINES: tuple[TinyPipeline, ...] = (
    TinyPipeline(
        family="pixart",
        name="pixart-sigma",
        assemble=lambda: _pixart(PixArtSigmaPipeline),
        text=_masked_text,
        attention=SELF_ATTENTION,
        options=_PIXART,
    ),
    TinyPipeline(
        family="pixart",
        name="pixart-alpha",
        assemble=lambda: _pixart(PixArtAlphaPipeline),
        text=_masked_text,
        attention=SELF_ATTENTION,
        options=_PIXART,
    ),
    TinyPipeline(
        family="hunyuan_dit",
        name="hunyuan-dit",
        assemble=_hunyuan_dit,
        text=_hunyuan_dit_text,
        attention=r"blocks\.\d+\.attn1",
        options={"use_resolution_binning": False},
    ),
    TinyPipeline(
        family="sd3", name="sd3", assemble=_sd3, text=_pooled_text, attention=r"transformer_blocks\.\d+\.attn2?"
    ),
    TinyPipeline(
        family="sd3",
        name="sd3-skip-layers",
        assemble=_sd3,
        text=_pooled_text,
        attention=r"transformer_blocks\.\d+\.attn2?",
        options={"skip_guidance_layers": [1], "skip_layer_guidance_stop": 0.6},  # steps 1, 2 and 3 of 0 to 5
    ),
    TinyPipeline(
        family="flux",
        name="flux",
        assemble=_flux,
        text=_pooled_text,
        attention=DOUBLE_AND_SINGLE,
        guidance=_TRUE_GUIDANCE,
    ),
    TinyPipeline(
        family="flux2",
        name="flux2",
        assemble=_flux2,
        text=_plain_text,
        attention=DOUBLE_AND_SINGLE,
        negative=False,  # the guidance scale is an input of the denoiser; there is one pass
    ),
    TinyPipeline(
        family="flux2", name="flux2-klein", assemble=_flux2_klein, text=_plain_text, attention=DOUBLE_AND_SINGLE
    ),
    TinyPipeline(
        family="cogvideox",
        name="cogvideox-2b",
        assemble=_cogvideox_2b,
        text=_plain_text,
        attention=SELF_ATTENTION,
        sizes=VIDEO_SIZES,
        num_frames=9,
    ),
    TinyPipeline(
        family="cogvideox",
        name="cogvideox-5b",
        assemble=_cogvideox_5b,
        text=_plain_text,
        attention=SELF_ATTENTION,
        sizes=VIDEO_SIZES,
        num_frames=9,
    ),
    TinyPipeline(
        family="cogvideox",
        name="cogvideox-i2v",
        assemble=_cogvideox_image_to_video,
        text=_plain_text,
        attention=SELF_ATTENTION,
        sizes=VIDEO_SIZES,
        num_frames=9,
        first_frames="own",
    ),
    TinyPipeline(
        family="wan",
        name="wan",
        assemble=_wan,
        text=_plain_text,
        attention=r"blocks\.\d+\.attn1",
        sizes=VIDEO_SIZES,
        num_frames=9,
    ),
    TinyPipeline(
        family="wan",
        name="wan-2.2",
        assemble=_wan_two_experts,
        text=_plain_text,
        attention=r"blocks\.\d+\.attn1",
        sizes=VIDEO_SIZES,
        num_frames=9,
    ),
    TinyPipeline(
        family="wan",
        name="wan-i2v",
        assemble=_wan_image_to_video,
        text=_plain_text,
        attention=r"blocks\.\d+\.attn1",
        sizes=VIDEO_SIZES,
        num_frames=9,
        first_frames="shared",
    ),
    TinyPipeline(
        family="hunyuan_video",
        name="hunyuan-video",
        assemble=_hunyuan_video,
        text=_hunyuan_video_text,
        attention=DOUBLE_AND_SINGLE,
        sizes=VIDEO_SIZES,
        num_frames=9,
        guidance=_TRUE_GUIDANCE,
    ),
    TinyPipeline(
        family="ltx",
        name="ltx",
        assemble=_ltx,
        text=_bool_masked_text,
        attention=SELF_ATTENTION,
        sizes=((192, 192), (128, 256)),  # 6 x 6 and 4 x 8 tokens of 32 pixels
        num_frames=17,
    ),
    TinyPipeline(
        family="ltx",
        name="ltx-i2v",
        assemble=_ltx_image_to_video,
        text=_bool_masked_text,
        attention=SELF_ATTENTION,
        sizes=VIDEO_SIZES,
        num_frames=9,
        first_frames="own",
    ),
    TinyPipeline(
        family="mochi",
        name="mochi",
        assemble=_mochi,
        text=_bool_masked_text,
        attention=SELF_ATTENTION,
        sizes=VIDEO_SIZES,
        num_frames=13,
    ),
    TinyPipeline(
        family="qwen_image",
        name="qwen-image",
        assemble=_qwen_image,
        text=_qwen_image_text,
        attention=r"transformer_blocks\.\d+\.attn",
        guidance=_TRUE_GUIDANCE,
    ),
    TinyPipeline(
        family="z_image",
        name="z-image",
        assemble=_z_image,
        text=_z_image_text,
        attention=r"layers\.\d+\.attention",
        guidance=("guidance_scale", 4.0, 0.0),  # here 1 is not "off": the prediction is cond + scale * (cond - uncond)
    ),
)

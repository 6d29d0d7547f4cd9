"""Tiny random pipelines of the families that make videos."""

from typing import Any

from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXImageToVideoPipeline,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    MochiPipeline,
    MochiTransformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from tiny_parts import (
    HEAD_SHAPE,
    LATENT_CHANNELS,
    MOCHI_CHANNELS,
    TEXT_CHANNELS,
    TEXT_TOKENS,
    WIDTH,
    Prompts,
    bool_masked_text,
    mask,
    plain_text,
    pooled_text,
    stock,
)
from tiny_pipeline import DOUBLE_AND_SINGLE, SELF_ATTENTION, TRUE_GUIDANCE, VIDEO_SIZES, TinyPipeline
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel


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
    return stock(
        CogVideoXPipeline,
        transformer=_cogvideox_transformer(LATENT_CHANNELS, rotary=False),
        scheduler=CogVideoXDDIMScheduler(),
    )


def _cogvideox_5b() -> DiffusionPipeline:
    return stock(
        CogVideoXPipeline,
        transformer=_cogvideox_transformer(LATENT_CHANNELS, rotary=True),
        scheduler=CogVideoXDPMScheduler(),
    )


def _cogvideox_image_to_video() -> DiffusionPipeline:
    autoencoder = AutoencoderKLCogVideoX(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=LATENT_CHANNELS, norm_num_groups=2
    )
    return stock(
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
    return stock(WanPipeline, transformer=_wan_transformer(), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0))


def _wan_two_experts() -> DiffusionPipeline:
    return stock(
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
    return stock(
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
    return stock(HunyuanVideoPipeline, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0))


def _hunyuan_video_text(prompts: Prompts) -> dict[str, Any]:
    return pooled_text(prompts) | {"prompt_attention_mask": mask(prompts)}


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
    return stock(LTXPipeline, transformer=_ltx_transformer(), scheduler=_ltx_scheduler())


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
    return stock(LTXImageToVideoPipeline, transformer=_ltx_transformer(), scheduler=_ltx_scheduler(), vae=autoencoder)


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
    return stock(MochiPipeline, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True))


VIDEO_PIPELINES: tuple[TinyPipeline, ...] = (
    TinyPipeline(
        family="cogvideox",
        name="cogvideox-2b",
        assemble=_cogvideox_2b,
        text=plain_text,
        attention=SELF_ATTENTION,
        sizes=VIDEO_SIZES,
        num_frames=9,
    ),
    TinyPipeline(
        family="cogvideox",
        name="cogvideox-5b",
        assemble=_cogvideox_5b,
        text=plain_text,
        attention=SELF_ATTENTION,
        sizes=VIDEO_SIZES,
        num_frames=9,
    ),
    TinyPipeline(
        family="cogvideox",
        name="cogvideox-i2v",
        assemble=_cogvideox_image_to_video,
        text=plain_text,
        attention=SELF_ATTENTION,
        sizes=VIDEO_SIZES,
        num_frames=9,
        first_frames="own",
    ),
    TinyPipeline(
        family="wan",
        name="wan",
        assemble=_wan,
        text=plain_text,
        attention=r"blocks\.\d+\.attn1",
        sizes=VIDEO_SIZES,
        num_frames=9,
    ),
    TinyPipeline(
        family="wan",
        name="wan-2.2",
        assemble=_wan_two_experts,
        text=plain_text,
        attention=r"blocks\.\d+\.attn1",
        sizes=VIDEO_SIZES,
        num_frames=9,
    ),
    TinyPipeline(
        family="wan",
        name="wan-i2v",
        assemble=_wan_image_to_video,
        text=plain_text,
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
        guidance=TRUE_GUIDANCE,
    ),
    TinyPipeline(
        family="ltx",
        name="ltx",
        assemble=_ltx,
        text=bool_masked_text,
        attention=SELF_ATTENTION,
        sizes=((192, 192), (128, 256)),  # 6 x 6 and 4 x 8 tokens of 32 pixels
        num_frames=17,
    ),
    TinyPipeline(
        family="ltx",
        name="ltx-i2v",
        assemble=_ltx_image_to_video,
        text=bool_masked_text,
        attention=SELF_ATTENTION,
        sizes=VIDEO_SIZES,
        num_frames=9,
        first_frames="own",
    ),
    TinyPipeline(
        family="mochi",
        name="mochi",
        assemble=_mochi,
        text=bool_masked_text,
        attention=SELF_ATTENTION,
        sizes=VIDEO_SIZES,
        num_frames=13,
    ),
)

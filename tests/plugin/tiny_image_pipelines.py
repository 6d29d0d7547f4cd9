"""Tiny random pipelines of the families that make pictures."""

from typing import Any

from diffusers import (
    AutoencoderKLFlux2,
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
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tiny_parts import (
    HEAD_SHAPE,
    HEADS,
    LATENT_CHANNELS,
    TEXT_CHANNELS,
    TEXT_TOKENS,
    WIDTH,
    Prompts,
    embeddings,
    mask,
    masked_text,
    plain_text,
    pooled_text,
    stock,
)
from tiny_pipeline import DOUBLE_AND_SINGLE, SELF_ATTENTION, TRUE_GUIDANCE, TinyPipeline
from torch import nn


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
    return stock(pipeline_class, transformer=transformer, scheduler=DPMSolverMultistepScheduler())


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
    return stock(
        HunyuanDiTPipeline,
        transformer=transformer,
        scheduler=DDPMScheduler(prediction_type="v_prediction", clip_sample=False),
        requires_safety_checker=False,
    )


def _hunyuan_dit_text(prompts: Prompts) -> dict[str, Any]:
    return {
        "prompt_embeds": embeddings(prompts),
        "prompt_attention_mask": mask(prompts),
        "prompt_embeds_2": embeddings(prompts).flip(-1),
        "prompt_attention_mask_2": mask(prompts),
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
    return stock(
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
    return stock(
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
    return stock(
        Flux2Pipeline,
        transformer=_flux2_transformer(guidance_embeds=True),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )


def _flux2_klein() -> DiffusionPipeline:
    # its latents are un-normalised with the autoencoder's statistics, so the autoencoder has to be there
    autoencoder = AutoencoderKLFlux2(
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=LATENT_CHANNELS, norm_num_groups=2
    )
    return stock(
        Flux2KleinPipeline,
        transformer=_flux2_transformer(guidance_embeds=False),
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=autoencoder,
    )


def _qwen_image() -> DiffusionPipeline:
    transformer = QwenImageTransformer2DModel(
        num_layers=2,
        **HEAD_SHAPE,
        in_channels=4 * LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        joint_attention_dim=TEXT_CHANNELS,
        axes_dims_rope=(4, 6, 6),
    )
    return stock(
        QwenImagePipeline, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    )


def _qwen_image_text(prompts: Prompts) -> dict[str, Any]:
    """Padded to the longest prompt of the batch only, so that a batch of one has no padding and loses its mask."""
    tokens = max(prompt.tokens for prompt in prompts)
    return {"prompt_embeds": embeddings(prompts)[:, :tokens], "prompt_embeds_mask": mask(prompts, tokens)}


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
    return stock(
        ZImagePipeline, transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    )


def _z_image_text(prompts: Prompts) -> dict[str, Any]:
    """Captions of 25 and 40 tokens, which differ even after the model pads them to multiples of 32."""
    captions = [embeddings((prompt,), tokens=5 * prompt.tokens)[0] for prompt in prompts]
    return {"prompt_embeds": captions}


PIXART = {"use_resolution_binning": False, "negative_prompt": None}

IMAGE_PIPELINES: tuple[TinyPipeline, ...] = (
    TinyPipeline(
        family="pixart",
        name="pixart-sigma",
        assemble=lambda: _pixart(PixArtSigmaPipeline),
        text=masked_text,
        attention=SELF_ATTENTION,
        options=PIXART,
    ),
    TinyPipeline(
        family="pixart",
        name="pixart-alpha",
        assemble=lambda: _pixart(PixArtAlphaPipeline),
        text=masked_text,
        attention=SELF_ATTENTION,
        options=PIXART,
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
        family="sd3", name="sd3", assemble=_sd3, text=pooled_text, attention=r"transformer_blocks\.\d+\.attn2?"
    ),
    TinyPipeline(
        family="sd3",
        name="sd3-skip-layers",
        assemble=_sd3,
        text=pooled_text,
        attention=r"transformer_blocks\.\d+\.attn2?",
        options={"skip_guidance_layers": [1], "skip_layer_guidance_stop": 0.6},  # steps 1, 2 and 3 of 0 to 5
    ),
    TinyPipeline(
        family="flux",
        name="flux",
        assemble=_flux,
        text=pooled_text,
        attention=DOUBLE_AND_SINGLE,
        guidance=TRUE_GUIDANCE,
    ),
    TinyPipeline(
        family="flux2",
        name="flux2",
        assemble=_flux2,
        text=plain_text,
        attention=DOUBLE_AND_SINGLE,
        negative=False,  # the guidance scale is an input of the denoiser; there is one pass
    ),
    TinyPipeline(
        family="flux2", name="flux2-klein", assemble=_flux2_klein, text=plain_text, attention=DOUBLE_AND_SINGLE
    ),
    TinyPipeline(
        family="qwen_image",
        name="qwen-image",
        assemble=_qwen_image,
        text=_qwen_image_text,
        attention=r"transformer_blocks\.\d+\.attn",
        guidance=TRUE_GUIDANCE,
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

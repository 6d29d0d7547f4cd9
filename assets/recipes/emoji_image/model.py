"""Tokenizer, text encoder and diffusion transformer, untrained, and the stock pipeline that they are saved in."""

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from hasten.assets.recipes.common.words import word_tokenizer
from hasten.assets.recipes.emoji_image.autoencoder import LATENT_CHANNELS, LATENT_SCALE
from hasten.assets.recipes.emoji_image.scenes import COLOURS, STYLES

PARTS_A_SIDE = 9
PARTS = PARTS_A_SIDE**2
"""Tokens that a thing's name is spelled with: one for each part of its picture, row by row."""
MAX_TOKENS = 2 * PARTS + 20
TEXT_WIDTH = 256
TOKEN_PIXELS = LATENT_SCALE
NATIVE_PIXELS = 384
FLOW_SHIFT = 2.0
POSITION_SCALE = 3 / 10**0.5
"""Neighbouring tokens of the native size lie about 1 apart, a radian of the highest frequency. The first checkpoints
had 3: what was 1/3 apart looked nearly alike to a token."""


def build_tokenizer(concepts: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """One token for every word of the scene grammar, `PARTS` for the name of a thing."""
    grammar = [
        "a",
        "an",
        "and",
        "small",
        "left",
        "right",
        "top",
        "bottom",
        "on",
        "at",
        "the",
        "background",
    ]
    words = [*concepts, *COLOURS, *STYLES, *grammar]
    return word_tokenizer(words, vocabulary=4096, longest=300, spelled=concepts, parts=PARTS)


def build_text_encoder(vocabulary: int) -> T5EncoderModel:
    """A two-layer T5 encoder."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )
    )


def build_transformer(heads: int = 4, layers: int = 6) -> PixArtTransformer2DModel:
    """A PixArt transformer with heads of 64 channels; one token covers 8 x 8 pixels.

    Positions are relative: every size spans the same frame, which carries shapes from one size to the next.
    """
    transformer = PixArtTransformer2DModel(
        sample_size=NATIVE_PIXELS // LATENT_SCALE,
        num_layers=layers,
        patch_size=1,
        attention_head_dim=64,
        num_attention_heads=heads,
        caption_channels=TEXT_WIDTH,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        cross_attention_dim=64 * heads,
        interpolation_scale=POSITION_SCALE,
        use_additional_conditions=False,
    )
    with torch.no_grad():
        transformer.proj_out.weight.zero_()
        transformer.proj_out.bias.zero_()
    return transformer


def set_resolution(
    transformer: PixArtTransformer2DModel, pixels: int, part: tuple[slice, slice] = (slice(None), slice(None))
) -> None:
    """Store the position table for `pixels`; otherwise PatchEmbed computes it again in every forward.

    Args:
        transformer (`PixArtTransformer2DModel`): The model.
        pixels (`int`): Side of the whole picture.
        part (`tuple[slice, slice]`): Rows and columns of tokens that the model will see of it; all of them by default.
    """
    embed, side = transformer.pos_embed, pixels // TOKEN_PIXELS
    table = get_2d_sincos_pos_embed(
        transformer.inner_dim, side, base_size=embed.base_size, interpolation_scale=embed.interpolation_scale,
        output_type="pt",
    )  # fmt: skip
    places = table.float().unflatten(0, (side, side))[part]
    embed.height, embed.width = places.shape[:2]
    embed.pos_embed = places.flatten(0, 1)[None].to(embed.pos_embed.device)


def assemble(
    tokenizer: PreTrainedTokenizerFast,
    text_encoder: T5EncoderModel,
    transformer: PixArtTransformer2DModel,
    vae: AutoencoderKL,
) -> PixArtSigmaPipeline:
    """The stock pipeline. PixArt reads `init_noise_sigma`, which FlowMatchEuler lacks, so DPM-Solver does the flow."""
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT, solver_order=2,
        algorithm_type="dpmsolver++", lower_order_final=True,
    )  # fmt: skip
    set_resolution(transformer, NATIVE_PIXELS)
    return PixArtSigmaPipeline(
        tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
    )

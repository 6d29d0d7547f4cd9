"""Tokenizer, text encoder and transformer, untrained, and the stock pipeline that they are saved in."""

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from hasten.assets.recipes.common.words import word_tokenizer
from hasten.assets.recipes.emoji_image.scenes import COLOURS
from hasten.assets.recipes.emoji_video.autoencoder import LATENT_CHANNELS
from hasten.assets.recipes.emoji_video.scenes import MOTIONS, THINGS

MAX_TOKENS = 16
TEXT_WIDTH = 128
HEAD_CHANNELS = 64
PATCH = 2
FLOW_SHIFT = 3.0


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token for every word of the captions."""
    phrases = " ".join((*THINGS, *MOTIONS.values(), *COLOURS, "a an on background"))
    return word_tokenizer(sorted(set(phrases.split())), vocabulary=2048, longest=512)


def build_text_encoder(vocabulary: int) -> UMT5EncoderModel:
    """A two-layer UMT5 encoder, trained together with the transformer."""
    return UMT5EncoderModel(
        UMT5Config(
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


def build_transformer(heads: int = 4, layers: int = 6) -> WanTransformer3DModel:
    """A Wan transformer with heads of 64 channels; one token is 2 x 2 latents, 4 frames of 16 x 16 pixels."""
    width = heads * HEAD_CHANNELS
    transformer = WanTransformer3DModel(
        patch_size=(1, PATCH, PATCH),
        num_attention_heads=heads,
        attention_head_dim=HEAD_CHANNELS,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=256,
        ffn_dim=3 * width,
        num_layers=layers,
        cross_attn_norm=True,
    )
    with torch.no_grad():
        transformer.proj_out.weight.zero_()
        transformer.proj_out.bias.zero_()
    return transformer


def assemble(
    tokenizer: PreTrainedTokenizerFast,
    text_encoder: UMT5EncoderModel,
    transformer: WanTransformer3DModel,
    vae: AutoencoderKLWan,
) -> WanPipeline:
    """The stock pipeline with the scheduler of the released Wan models."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT, num_train_timesteps=1000
    )
    return WanPipeline(
        tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer, scheduler=scheduler
    )

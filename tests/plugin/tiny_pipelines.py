"""Tiny random stock pipelines of every family, and calls that run them without text encoders.

`TINY_PIPELINES` lists them; `generate` runs one and returns its latents. Every pipeline is built in memory from a fixed
seed in float32, in eval mode and without a progress bar; nothing is downloaded. Prompts are random embeddings passed
as keyword arguments. An autoencoder is there only where the stock code needs one to make latents.

All of them run after `pipeline.to(torch.float64)`. Only `pixart` then computes in float64 throughout; the others round
their rotary embeddings, latents or predictions to float32 on the way, and some return float32: compare them with
tolerances of float32.

Weights as small as these make attention nearly uniform; call `sharpen` where the attention has to matter.
"""

from tiny_image_pipelines import IMAGE_PIPELINES
from tiny_video_pipelines import VIDEO_PIPELINES

TINY_PIPELINES = IMAGE_PIPELINES + VIDEO_PIPELINES

"""What diffusers lacks: Bottleneck Sampling, self-forcing video, and quantized caches of keys and values."""

"""What diffusers lacks: Bottleneck Sampling; self-forcing video lands here with its issue."""

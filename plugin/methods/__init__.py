"""The methods: of each what it is told, what hooks into the denoiser, and `apply_*`, beside the parts of these."""

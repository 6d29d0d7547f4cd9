"""Bottleneck Sampling: high, low, high resolution inside one generation.

Tian et al., "Training-free Diffusion Acceleration with Bottleneck Sampling", 2025, arXiv 2503.18940. The paper gives
tables; the formulas here are derived from the forward process x = signal · x̂0 + noise · ε.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

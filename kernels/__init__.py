"""Kernels: dense, window, refresh and paged attention with log-sum-exp, and packing, each beside a plain reference."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Pages of keys and values in 8, 4 or 2 bits, and attention over them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Quantized caches of keys and values for self-forcing video: a quantizer and a policy make a method.

A page holds the keys and values of one latent frame in one layer. It is written once, on the clean pass of its chunk,
and read by `hasten.kernels.paged_attention` as it is stored.

`KVCache` has the shape that diffusers discusses for its own (#12600, #12773, #13681), a container with one object a
layer and `update`, `get` and `reset`, so that it can be exchanged when there is one. The cache that diffusers 0.42 has,
that of AnyFlow-FAR, cannot hold these pages in few lines: it is a dict of two plain tensors a layer, whose keys have no
positions yet and are all computed anew with every chunk, and which attention joins with the chunk's own in one tensor.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Tensors stored in 8, 4 or 2 bits a value: codes really packed into bytes, with a scale and an offset a group."""

"""How many bits a code may have."""

BITS = (2, 4, 8)

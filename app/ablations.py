"""The simpler relatives of the method that tables show beside it, and the name of the plain pipeline there."""

from typing import Any

PLAIN_NAME = "plain"

CORRECTIONS: dict[str, dict[str, Any]] = {
    "output reuse": {"correction": "reuse"},
    "sparse alone": {"correction": "none"},
    "DiTFastAttn residual": {"correction": "residual"},
    "Re-ttention": {"correction": "reshape"},
    "Re-ttention, published": {"correction": "reshape", "window": "band"},
}
"""What differs from the recipe; the published method has the paper's window too."""

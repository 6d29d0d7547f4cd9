"""How good a picture is: likeness to the plain pipeline's picture, and truth to its caption."""

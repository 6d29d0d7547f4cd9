"""How the bundled models were made: one package a model, each runs with `python -m`."""

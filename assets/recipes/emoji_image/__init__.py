"""Recipe of the bundled model `emoji-image`: artwork, scenes, autoencoder, diffusion transformer, evaluation, card.

`python -m hasten.assets.recipes.emoji_image --help` runs it.
"""

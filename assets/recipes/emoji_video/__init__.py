"""Recipe of the bundled model `emoji-video`: moving scenes, video autoencoder, Wan transformer, evaluation, card.

`python -m hasten.assets.recipes.emoji_video --help` runs it. `emoji_rollout` makes its causal variant.
"""

"""Recipe of the bundled model `emoji-rollout`: `emoji-video` made causal, taken to four steps, trained on its rollouts.

`python -m hasten.assets.recipes.emoji_rollout --help` runs it.
"""

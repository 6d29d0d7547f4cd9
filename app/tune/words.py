"""Recipes in a few words, for tables."""

import hasten


def describe_recipe(recipe: hasten.Recipe, steps: int) -> str:
    """Such as `band 1/16, fitted, dense 4, refresh 6; 2 + 8 at 0.5 + 6 steps`, of a call of so many steps."""
    parts = []
    if (attention := recipe.attention) is not None:
        parts.append(
            f"{attention.window} 1/{1 / attention.density:.3g}, {attention.correction}, "
            f"dense {attention.dense_steps}, refresh {attention.refresh_interval}"
        )
    if (sampling := recipe.sampling) is not None:
        stages = [
            f"{stage.count(steps)}" + (f" at {stage.scale:.3g}" if stage.scale != 1 else "")
            for stage in sampling.stages
        ]
        noise = f", {sampling.transition}" if len(stages) > 1 else ""
        parts.append(" + ".join(stages) + f" of {steps} steps{noise}")
    return "; ".join(parts)

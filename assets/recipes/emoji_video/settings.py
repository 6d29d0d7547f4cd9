"""How large a run of the recipe is: the bundled model, and a toy that passes through every part in seconds."""

from dataclasses import dataclass

from hasten.assets.recipes.emoji_video.autoencoder import SPATIAL_STRIDE, TEMPORAL_STRIDE
from hasten.assets.recipes.emoji_video.model import PATCH
from hasten.assets.recipes.emoji_video.scenes import THINGS


@dataclass(frozen=True)
class Settings:
    """Sizes of the model, of what is encoded ahead, and of the evaluation."""

    pixels: int = 128
    latent_frames: int = 21
    things: int = len(THINGS)
    heads: int = 4
    layers: int = 6
    pictures: int = 2500
    clips: int = 1000
    judged: int = 48
    steps: int = 20

    @property
    def frames(self) -> int:
        """Frames of a clip: the first latent frame stands for one, every other for four."""
        return TEMPORAL_STRIDE * (self.latent_frames - 1) + 1

    @property
    def frame_tokens(self) -> int:
        """Tokens of a latent frame."""
        return (self.pixels // SPATIAL_STRIDE // PATCH) ** 2


SHIPPED = Settings()
SMOKE = Settings(pixels=64, latent_frames=3, things=3, heads=1, layers=2, pictures=6, clips=3, judged=1, steps=2)

"""The latents of a denoiser call at a lower resolution: noise out of its container, clean conditions by area."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hasten.pipelines.bottleneck import Container, pack, resize, unpack


@dataclass(frozen=True)
class Shrinking:
    r"""
    From what a pipeline feeds its denoiser to what is in it at the resolution of a stage, and back.

    Every tensor has rows and columns as its last two dimensions, or is packed: (batch, tokens of all frames, channels).

    Args:
        full, small (`tuple[int, int]`):
            Rows and columns of tokens of the whole picture, and of the stage.
        patch (`int`):
            Side of the square of latents in a packed token.
        channels (`int`, *optional*):
            How many channels are the noisy latents, where a condition may follow them. If they are packed, this is as
            many channels of a picture's latents, and then a mask whose channels are the pixels of a latent.
        axis (`int`, *optional*):
            Dimension of these channels; None where no condition follows.
    """

    full: tuple[int, int]
    small: tuple[int, int]
    patch: int = 2
    channels: int | None = None
    axis: int | None = None

    def latents(self, x: Tensor, held: Tensor | None = None) -> Tensor:
        """The denoiser's latents, small.

        Args:
            x (`Tensor`):
                Latents, full.
            held (`Tensor`, *optional*):
                Which tokens (batch, tokens), full, are clean: a first frame that the pipeline keeps as it is given.
        """
        small = self.noisy(x)
        if held is not None:
            small = torch.where(self._spread(self.tokens(held), small), self._clean(x), small)
        if self.axis is None or self.channels is None or x.shape[self.axis] == self.channels:
            return small
        condition = x.narrow(self.axis, self.channels, x.shape[self.axis] - self.channels)
        if x.ndim == 3:
            picture, mask = condition.tensor_split([self.channels], 2)
            return torch.cat([small[..., : self.channels], self._clean(picture), self._mask(mask)], 2)
        return torch.cat([small.narrow(self.axis, 0, self.channels), self._clean(condition)], self.axis)

    def noisy(self, x: Tensor) -> Tensor:
        """What is in the container `x`."""
        if x.ndim == 3:
            return pack(Container(self.full, self.small).reduce(unpack(x, self.full, 1)), 1)
        return Container.of_cells(self.full, self.small, x.shape[-2] // self.full[0]).reduce(x)

    def tokens(self, x: Tensor) -> Tensor:
        """One value (batch, tokens) for each token, such as its timestep, small."""
        return self.noisy(x[..., None])[..., 0]

    def expand(self, x: Tensor) -> Tensor:
        """The container of `x`, small."""
        if x.ndim == 3:
            return pack(Container(self.full, self.small).expand(unpack(x, self.small, 1)), 1)
        return Container.of_cells(self.full, self.small, x.shape[-2] // self.small[0]).expand(x)

    def _clean(self, x: Tensor) -> Tensor:
        """Clean latents, small: a container would show one of its cells in place of their mean."""
        if x.ndim == 3:
            side = self.patch
            return pack(resize(unpack(x, self.full, side), self._sides(side), "area"), side)
        return resize(x, self._sides(x.shape[-2] // self.full[0]), "area")

    def _mask(self, x: Tensor) -> Tensor:
        """A packed mask of pixels, small; of no channels where there is none."""
        if x.shape[2] == 0:
            return x[:, : self.small[0] * self.small[1]]
        latent = math.isqrt(x.shape[2] // self.patch**2)  # pixels of a side
        pixels = F.pixel_shuffle(unpack(x, self.full, self.patch), latent)
        small = resize(pixels, self._sides(self.patch * latent), "area")
        return pack(F.pixel_unshuffle(small, latent), self.patch)

    def _sides(self, cell: int) -> tuple[int, int]:
        return self.small[0] * cell, self.small[1] * cell

    def _spread(self, tokens: Tensor, like: Tensor) -> Tensor:
        """One value (batch, tokens) for each token, small, to the latents of all of them."""
        if like.ndim == 3:
            return tokens[..., None]
        cell = like.shape[-2] // self.small[0]
        grid = unpack(tokens[..., None], self.small, 1).transpose(1, 2)  # (batch, 1, frames, height, width)
        return grid.repeat_interleave(cell, -2).repeat_interleave(cell, -1)

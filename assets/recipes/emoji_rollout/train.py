"""Two lessons: the next chunk after real ones (teacher forcing), and after the model's own (self forcing).

Both regress the clean chunk at the four noise levels of the few-step schedule. What follows a chunk is determined in
these scenes, so that the regression has a sharp answer and needs no adversary or score, as film of the world would.
"""

import random

import torch
from torch import Tensor

from hasten.assets.recipes.common.learner import Stage
from hasten.assets.recipes.common.precision import mixed_precision
from hasten.assets.recipes.emoji_rollout.causal import CHUNK_FRAMES, CausalTransformer
from hasten.assets.recipes.emoji_video.model import PATCH
from hasten.assets.recipes.emoji_video.train import REPEAT, Pool, Reader
from hasten.pipelines.self_forcing.schedule import even_steps, few_steps

STEPS = 4
SHIFT = 5.0
SIGMAS = few_steps(even_steps(STEPS), SHIFT).sigmas

WINDOWS: dict[int, float] = {3: 0.3, 5: 0.3, 7: 0.4}
"""Chunks that see each other, the newest included, and how often a lesson has so many."""
MOST_TOKENS = 4096
FIRST_CHUNK_SHARE = 0.35
IMAGE_SHARE = 0.2
CONTEXT_NOISE = 0.1
ROLLOUTS = 6
LONGEST_ROLLOUT = 30
REPLAY_SHARE = 0.3

STAGES = (Stage("causal", 0.5, 0.6, 0.3, average=0.99), Stage("rollouts", 0.5, 0.3, 0.01, average=0.99))


def _draw_window() -> int:
    return random.choices(list(WINDOWS), list(WINDOWS.values()))[0]


def _noised(latents: Tensor, sigma: Tensor | float) -> Tensor:
    return (1 - sigma) * latents + sigma * torch.randn_like(latents)


class Lessons:
    """Batches for a causal transformer from a pool of long scenes; captions are read by a text encoder that is done."""

    def __init__(self, reader: Reader, model: CausalTransformer, pool: Pool) -> None:
        self.reader, self.model, self.pool = reader, model, pool
        self.device = model.transformer.device
        self.chunk_tokens = CHUNK_FRAMES * pool.latents.shape[-1] * pool.latents.shape[-2] // PATCH**2
        self._rollout: _Rollout | None = None

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Indices (count,) into the pool and text of some scenes."""
        chosen = torch.randint(len(self.pool.latents), (count,))
        with torch.no_grad():
            text = self.reader(self.pool.ids[chosen], self.pool.mask[chosen], dropout=0.0)
        return chosen, text

    def frames_at(self, scenes: Tensor, first: int, count: int = CHUNK_FRAMES) -> Tensor:
        """What these scenes really show: (len(scenes), 16, count, h, w), float32."""
        return self.pool.frames_at(scenes, first, count).to(self.device)

    def denoise(self, noisy: Tensor, sigma: Tensor, clean: Tensor, text: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Estimated clean chunk, and the mean squared error of the velocity that leads from `noisy` to `clean`."""
        scale = sigma.view(-1, 1, 1, 1, 1)
        velocity = self.model(noisy, 1000 * sigma, text, first)
        return noisy - scale * velocity.detach(), (velocity - (noisy - clean) / scale).square().mean()

    def remember(self, clean: Tensor, text: Tensor, first: int) -> None:
        """The clean pass: let later chunks see this one."""
        self.model(clean, clean.new_zeros(len(clean)), text, first, write=True)

    def teacher_forcing(self) -> Tensor:
        """Loss of all chunks of a stretch, each at one of the four levels after the real chunks before it.

        A stretch begins with the scene or in the midst of it; in the midst its first chunk is given, as nothing tells
        where the thing is. Some scenes begin with a single given frame, for image-to-video.
        """
        chunks = _draw_window()
        scenes, text = self.draw(max(1, MOST_TOKENS // (chunks * self.chunk_tokens)))
        from_image = random.random() < IMAGE_SHARE
        from_start = from_image or random.random() < FIRST_CHUNK_SHARE
        start = 0 if from_start else CHUNK_FRAMES * random.randrange(1, REPEAT)
        self.model.forget()
        losses = []
        first = 0
        with mixed_precision(self.device):
            for index in range(chunks):
                length = 1 if from_image and index == 0 else CHUNK_FRAMES
                clean = self.frames_at(scenes, start + first, length)
                if index > 0 or (from_start and not from_image):
                    sigma = torch.tensor(random.choices(SIGMAS, k=len(clean)), device=self.device)
                    noisy = _noised(clean, sigma.view(-1, 1, 1, 1, 1))
                    losses.append(self.denoise(noisy, sigma, clean, text, first)[1])
                if index + 1 < chunks:
                    self.remember(_noised(clean, CONTEXT_NOISE * random.random()), text, first)
                first += length
        self.model.forget()
        self._rollout = None  # what it remembered is gone
        return torch.stack(losses).mean()

    def rollouts(self) -> Tensor:
        """Loss of the next chunk of rollouts under way, at one of its four steps; in between, teacher forcing."""
        if self._rollout is None or self._rollout.finished:
            if random.random() < REPLAY_SHARE:
                return self.teacher_forcing()
            self._rollout = _Rollout(self)
        return self._rollout.step()


class _Rollout:
    """Some scenes generated by the model in training, from a real first chunk or one that it restored from noise."""

    def __init__(self, lessons: Lessons) -> None:
        self.lessons = lessons
        self.scenes, self.text = lessons.draw(ROLLOUTS)
        self.window = _draw_window()
        self.length = random.randint(self.window, LONGEST_ROLLOUT)
        self.chunk = 0
        lessons.model.forget()
        if random.random() < 0.5:
            with torch.no_grad(), mixed_precision(lessons.device):
                lessons.remember(lessons.frames_at(self.scenes, 0), self.text, 0)
            self.chunk = 1

    @property
    def finished(self) -> bool:
        return self.chunk == self.length

    def step(self) -> Tensor:
        """Generate the next chunk and remember it; the loss is that of one step, against what the scene really shows.

        The first chunk may start from its real self under noise, which keeps the small offset of its thing.
        """
        first = CHUNK_FRAMES * self.chunk
        clean = self.lessons.frames_at(self.scenes, first)
        begin = 0 if self.chunk else random.randrange(STEPS)
        judged = random.randrange(begin, STEPS)
        latents = _noised(clean, SIGMAS[begin])
        loss = torch.zeros(())
        with mixed_precision(clean.device):
            for index in range(begin, STEPS):
                sigma = torch.full((len(clean),), SIGMAS[index], device=clean.device)
                with torch.set_grad_enabled(index == judged):
                    estimate, error = self.lessons.denoise(latents, sigma, clean, self.text, first)
                loss = error if index == judged else loss
                latents = estimate if index + 1 == STEPS else _noised(estimate, SIGMAS[index + 1])
            with torch.no_grad():
                self.lessons.remember(latents, self.text, first)
        self.lessons.model.forget(keep=self.window - 1)
        self.chunk += 1
        return loss

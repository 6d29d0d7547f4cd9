"""Training in stages: Muon and AdamW, a running average of the weights, checkpoints from which a run goes on."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hasten.assets.recipes.emoji_image.progress import CHECKPOINT_EVERY, Clock, cosine, save_atomically

MUON_RATE = 3e-3
ADAM_RATE = 1e-3
REPORT_EVERY = 30.0
WARMUP = 0.03

Optimizers = list[tuple[torch.optim.Optimizer, float]]
"""Each with its learning rate, which a stage's factor multiplies."""


@dataclass(frozen=True)
class Stage:
    """`share` of the training time; learning-rate factor from `start` to `end`; `average`: decay of the average."""

    name: str
    share: float
    start: float
    end: float
    average: float = 0.995


def adam(parameters: Iterable[nn.Parameter], rate: float = ADAM_RATE) -> Optimizers:
    """AdamW alone."""
    return [(torch.optim.AdamW(list(parameters), betas=(0.9, 0.98), weight_decay=1e-4, fused=True), rate)]


def muon_and_adam(blocks: nn.Module, others: Iterable[nn.Parameter]) -> Optimizers:
    """Muon for the matrices of `blocks`, AdamW for its other parameters and for `others`; none for frozen ones."""
    matrices = [
        p for name, p in blocks.named_parameters() if name.endswith("weight") and p.ndim == 2 and p.requires_grad
    ]
    chosen = {id(p) for p in matrices}
    rest = [p for p in (*blocks.parameters(), *others) if id(p) not in chosen and p.requires_grad]
    return [
        (torch.optim.Muon(matrices, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"), MUON_RATE),
        (torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01, fused=True), ADAM_RATE),
    ]


class Learner:
    """Modules that are trained together, with the running average of what the optimizers move."""

    def __init__(self, modules: dict[str, nn.Module], optimizers: Optimizers) -> None:
        self.modules, self.optimizers = modules, optimizers
        self.parameters = [
            p for optimizer, _ in optimizers for group in optimizer.param_groups for p in group["params"]
        ]
        self.average = [p.detach().clone() for p in self.parameters]
        self.step = 0

    def update(self, factor: float, decay: float) -> None:
        """One optimizer step at `factor` times the learning rates, then the running average."""
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer, rate in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
        for module in self.modules.values():
            module.zero_grad(set_to_none=True)
        self.step += 1
        with torch.no_grad():
            values = [p.detach() for p in self.parameters]
            torch._foreach_lerp_(self.average, values, 1 - min(decay, (self.step + 1) / (self.step + 10)))

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
            "step": self.step,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()`."""
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.average, self.step = state["average"], state["step"]
        for (optimizer, _), saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def use_average(self) -> None:
        """Replace the weights by their running average, for evaluation and saving."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, self.average, strict=True):
                parameter.copy_(value)


def run_stages(
    learner: Learner, stages: Sequence[tuple[Stage, Callable[[], Tensor]]], seconds: float, checkpoint: Path
) -> None:
    """Train through `stages`, each with a function that draws a batch and returns its loss, and load the average.

    A checkpoint is written every two minutes and after each stage. Where `checkpoint` exists the run goes on from
    there; a finished run only loads its weights.
    """
    resumed = torch.load(checkpoint, map_location=learner.parameters[0].device) if checkpoint.exists() else None
    if resumed:
        learner.load(resumed)
    names = [stage.name for stage, _ in stages]
    reached = names.index(resumed["stage"]) if resumed else 0
    for index, (stage, loss) in enumerate(stages[reached:], reached):
        clock = Clock(seconds * stage.share, resumed["spent"] if resumed and index == reached else 0.0)
        _run(learner, stage, loss, clock, checkpoint)
    learner.use_average()


def _run(learner: Learner, stage: Stage, batch_loss: Callable[[], Tensor], clock: Clock, checkpoint: Path) -> None:
    torch.manual_seed(learner.step)
    saved = reported = clock.spent
    losses: list[float] = []
    for share in clock.ticks():
        loss = batch_loss()
        loss.backward()
        learner.update(cosine(share, stage.start, stage.end, warmup=WARMUP), stage.average)
        losses.append(loss.item())
        if clock.spent - reported > REPORT_EVERY:
            reported, mean = clock.spent, sum(losses) / len(losses)
            spent = f"{clock.spent:.0f}/{clock.budget:.0f} s"
            print(f"{stage.name} step {learner.step} {spent}  loss {mean:.4f} over {len(losses)} steps", flush=True)
            losses.clear()
        if clock.spent - saved > CHECKPOINT_EVERY:
            saved = clock.spent
            save_atomically(learner.state() | {"stage": stage.name, "spent": clock.spent}, checkpoint)
    save_atomically(learner.state() | {"stage": stage.name, "spent": clock.spent}, checkpoint)

"""The processes of one launch: `accelerate launch` or `torchrun` starts the same command several times."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from hasten.app.errors import UserError

PATIENCE = timedelta(hours=2)
"""How long processes wait for each other at the start: loading a large model takes its time."""


@dataclass(frozen=True)
class Launch:
    """
    What the launcher tells one of its processes.

    Args:
        rank (`int`): Number of this process among all.
        world (`int`): Number of processes, on all machines.
        local_rank (`int`): Number of this process among those of this machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks for all."""
        return self.rank == 0


class FirstRefused(Exception):  # noqa: N818
    """The first process refused the run, and has said why."""


def launch_from_environment(environment: Mapping[str, str] = os.environ) -> Launch:
    """The launch that this process is part of; one of a single process where there is no launcher.

    Raises:
        UserError: the environment tells of several processes, but not where they meet; or a number of it is none.
    """
    world = _number(environment, "WORLD_SIZE", 1)
    if world == 1:
        return Launch()
    if not environment.get("RANK") or not environment.get("MASTER_ADDR"):
        raise UserError("WORLD_SIZE is set without RANK or MASTER_ADDR; start with accelerate launch, or unset it.")
    rank = _number(environment, "RANK", 0)
    return Launch(rank, world, _number(environment, "LOCAL_RANK", rank))


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    """A variable that is empty says nothing, as one that is not there."""
    text = environment.get(name) or str(default)
    if not text.isdecimal():
        raise UserError(f"{name} is '{text}', which is no whole number; start with accelerate launch, or unset it.")
    return int(text)


def device_of(launch: Launch, device: str) -> str:
    """The device of this process: with `auto` and several accelerators, its own one."""
    count = torch.accelerator.device_count()
    if device != "auto" or launch.world == 1 or count < 2:
        return device
    return f"{torch.accelerator.current_accelerator()}:{launch.local_rank % count}"


def after_first(launch: Launch, work: Callable[[], None]) -> None:
    """Do `work` in the first process of the launch; in all of them return when it is done.

    They meet this once and then go their own ways: one that is killed later holds no other back.

    Raises:
        UserError: `work` did, in the first process.
        FirstRefused: in the others.
    """
    if launch.world == 1:
        work()
        return
    distributed.init_process_group("gloo", timeout=PATIENCE)
    verdict = [False]
    try:
        if launch.is_first:
            work()
            verdict = [True]
    finally:
        distributed.broadcast_object_list(verdict, src=0)
        distributed.destroy_process_group()
    if not verdict[0]:
        raise FirstRefused

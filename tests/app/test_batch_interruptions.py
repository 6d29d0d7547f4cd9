"""Batches whose processes are killed, really and at any moment: nothing is lost, nothing is made twice."""

import json
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from batch_processes import (
    SETTINGS,
    Witness,
    check_manifest,
    command_line,
    identities,
    invented_picture,
    invented_plan,
    rows_of,
    work,
    work_until_killed,
)
from PIL import Image

from hasten.app.batch.plan import Plan, Settings
from hasten.app.loading import LoadedModel

KILLED = -9
LONG = pytest.mark.skipif("HASTEN_STRESS" not in os.environ, reason="takes minutes; set HASTEN_STRESS=1")
SMALL = ("--height", "64", "--width", "64", "--steps", "2", "--plain")

Start = Callable[..., ForkServerProcess]


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServerContext]:
    """Forks of a process that imported everything and ran nothing: a fresh process in milliseconds."""
    context = multiprocessing.get_context("forkserver")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv("PYTHONSAFEPATH", "1")  # the folder kernels/ would hide the package of that name
        patch.setenv("OMP_NUM_THREADS", "1")
        context.set_forkserver_preload(["batch_processes", "hasten.app.batch.run", "hasten.app.batch.launch"])
        yield context


@pytest.fixture
def start(forks: ForkServerContext) -> Iterator[Start]:
    """Starts `function(*arguments)` in a process of its own."""
    started: list[ForkServerProcess] = []

    def begin(function: Callable[..., Any], *arguments: Any) -> ForkServerProcess:
        process = forks.Process(target=function, args=arguments)
        process.start()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.join()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the processes have it: more threads may add up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ended(process: ForkServerProcess) -> int | None:
    process.join(300)
    return process.exitcode


def test_a_process_killed_at_any_access_to_the_folder_loses_and_repeats_nothing(tmp_path: Path, start: Start) -> None:
    compared, plain = invented_plan(2, compare=True).items
    plan = Plan(Settings(**{**vars(SETTINGS), "compare": True}), (compared, replace(plain, recipe=None)))
    for moment in count(1):
        root = tmp_path / str(moment)
        code = ended(start(work_until_killed, root, plan, moment))
        if code == 0:
            break
        assert code == KILLED
        if (root / "manifest.jsonl").exists():
            check_manifest(root, 2)
        finished = identities(root)
        work(root, plan)
        assert identities(root).items() >= finished.items(), moment
        assert check_manifest(root, 2) == {"0001", "0002"}
        for name, seed, plain in (("1-picture-1", 1, False), ("1-picture-1.plain", 1, True), ("2-picture-2", 2, True)):
            assert Image.open(root / f"000{name}.png").tobytes() == invented_picture(seed, plain).tobytes()
        assert not list((root / ".hasten" / "parts").iterdir())
    assert moment > 60


def test_two_hundred_items_survive_twenty_kills_of_two_processes(tmp_path: Path, start: Start) -> None:
    items, kills = 200, 20
    dice = random.Random(0)
    plan, root, log = invented_plan(items), tmp_path / "out", tmp_path / "log"
    with Witness(root, items) as witness:
        workers = [start(work, root, plan, 0.01, log) for _ in range(2)]
        for kill in range(kills):
            goal = items * (kill + 1) // (kills + 2)
            while len(identities(root)) < goal and all(worker.is_alive() for worker in workers):
                time.sleep(0.002)
            time.sleep(dice.random() * 0.03)
            victim = dice.randrange(2)
            workers[victim].kill()
            workers[victim].join()
            workers[victim] = start(work, root, plan, 0.01, log)
        assert [ended(worker) for worker in workers] == [0, 0]
    assert witness.problems == []
    assert witness.looks > 10
    assert len(check_manifest(root, items)) == items
    begun = log.read_text().split()
    assert len(set(begun)) == items
    assert len(begun) <= items + kills  # a kill costs the one item at hand
    for row in rows_of(root):
        assert Image.open(root / row["file"]).tobytes() == invented_picture(row["seed"], False).tobytes()


@pytest.mark.parametrize(("items", "kills"), [(12, 2), pytest.param(200, 20, marks=LONG)])
def test_the_command_line_survives_kills_of_two_processes(
    tmp_path: Path, start: Start, emoji_image: LoadedModel, one_thread: None, items: int, kills: int
) -> None:
    dice = random.Random(items)
    call = {**emoji_image.call, "height": 64, "width": 64, "num_inference_steps": 2}
    prompts, root, log = tmp_path / "prompts.txt", tmp_path / "out", tmp_path / "log"
    prompts.write_text("".join(f"a cat on a red background {number}\n" for number in range(items)))
    root.mkdir()
    arguments = ["batch", str(prompts), *SMALL, "--out", str(root), "--resume"]

    def process() -> ForkServerProcess:
        return start(command_line, arguments, {}, log)

    with Witness(root, items) as witness:
        workers = [process() for _ in range(2)]
        for kill in range(kills):
            goal = items * (kill + 1) // (kills + 1) - 1
            while len(identities(root)) < goal and all(worker.is_alive() for worker in workers):
                time.sleep(0.01)
            time.sleep(dice.random() * 0.2)
            victim = dice.randrange(2)
            workers[victim].kill()
            workers[victim].join()
            workers[victim] = process()
        assert [ended(worker) for worker in workers] == [0, 0], log.with_suffix(".err").read_text()
    assert witness.problems == []
    assert len(check_manifest(root, items)) == items

    for row in rows_of(root):
        stock = emoji_image.pipe(row["prompt"], generator=torch.Generator().manual_seed(row["seed"]), **call).images[0]
        assert Image.open(root / row["file"]).tobytes() == stock.tobytes()


def test_processes_of_one_launch_share_the_items(tmp_path: Path, start: Start, free_port: int) -> None:
    prompts, root = tmp_path / "prompts.txt", tmp_path / "out"
    prompts.write_text("".join(f"a cat on a red background {number}\n" for number in range(8)))
    arguments = ["batch", str(prompts), *SMALL, "--out", str(root), "--json"]
    launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port)}
    logs = [tmp_path / "first", tmp_path / "second"]
    processes = [
        start(command_line, arguments, {**launch, "RANK": str(rank), "LOCAL_RANK": str(rank)}, log)
        for rank, log in enumerate(logs)
    ]
    assert [ended(process) for process in processes] == [0, 0]
    assert len(check_manifest(root, 8)) == 8
    assert len({row["worker"] for row in rows_of(root)}) == 2
    assert json.loads(logs[0].read_text())["done"] == 8
    assert logs[1].read_text() == ""


def test_when_the_first_of_a_launch_refuses_the_others_end_without_a_word(
    tmp_path: Path, start: Start, free_port: int
) -> None:
    prompts, root = tmp_path / "prompts.jsonl", tmp_path / "out"
    prompts.write_text('{"prompt": "a cat", "height": 100}\n')
    launch = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port)}
    logs = [tmp_path / "first", tmp_path / "second"]
    processes = [
        start(command_line, ["batch", str(prompts), "--out", str(root)], {**launch, "RANK": str(rank)}, log)
        for rank, log in enumerate(logs)
    ]
    assert [ended(process) for process in processes] == [2, 2]
    assert "height of 100 pixels" in logs[0].with_suffix(".err").read_text()
    assert "Error" not in logs[1].with_suffix(".err").read_text()
    assert not root.exists()


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]

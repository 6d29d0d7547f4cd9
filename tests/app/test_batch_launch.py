"""What a launcher tells a process."""

import pytest
import torch

from hasten.app.batch.launch import Launch, device_of, launch_from_environment
from hasten.app.errors import UserError

LAUNCHED = {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    "environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}, {"RANK": "3"}, {"WORLD_SIZE": ""}], ids=str
)
def test_without_a_launcher_there_is_one_process(environment: dict[str, str]) -> None:
    launch = launch_from_environment(environment)
    assert launch == Launch()
    assert launch.is_first


def test_a_launcher_numbers_its_processes() -> None:
    launch = launch_from_environment(LAUNCHED)
    assert launch == Launch(rank=5, world=8, local_rank=1)
    assert not launch.is_first
    assert launch_from_environment({**LAUNCHED, "RANK": "0"}).is_first


@pytest.mark.parametrize("missing", ["RANK", "MASTER_ADDR"])
def test_half_a_launch_is_refused(missing: str) -> None:
    with pytest.raises(UserError, match="accelerate launch"):
        launch_from_environment({name: value for name, value in LAUNCHED.items() if name != missing})


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK"])
def test_what_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is 'many', which is no whole number"):
        launch_from_environment({**LAUNCHED, name: "many"})


def test_each_process_of_a_machine_takes_its_own_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    assert [device_of(Launch(rank, 12, rank % 6), "auto") for rank in (0, 1, 5, 7)] == [
        "cuda:0",
        "cuda:1",
        "cuda:1",
        "cuda:1",
    ]
    assert device_of(Launch(), "auto") == "auto"
    assert device_of(Launch(1, 2, 1), "cpu") == "cpu"
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 0)
    assert device_of(Launch(1, 2, 1), "auto") == "auto"

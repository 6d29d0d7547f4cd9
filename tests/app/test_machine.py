"""What a result says of the machine that it comes from."""

import platform

import pytest
import torch

from hasten.app.machine import describe_device


def test_a_cpu_is_told_with_the_instructions_that_decide_its_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    threads = torch.get_num_threads()
    assert describe_device(torch.device("cpu")) == f"cpu ({platform.machine()}, AVX512, {threads} threads)"


def test_another_device_is_told_by_its_name() -> None:
    assert describe_device(torch.device("meta")) == "meta"

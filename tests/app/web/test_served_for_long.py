"""A page in a process of its own: what it takes to start, what a comparison takes beside the CLI, and its memory."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client

pytestmark = pytest.mark.skipif("HASTEN_STRESS" not in os.environ, reason="takes minutes; set HASTEN_STRESS=1")

COMPARISONS, SETTLED = 50, 10
MOST_SECONDS_TO_START, MOST_OVER_COMMAND_LINE = 5, 1.3
HASTEN = (sys.executable, "-P", "-m", "hasten.app")
PROMPT = "a rocket on a blue background"


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int, float]]:
    """Address, process id, and seconds until a browser, open before, can press Compare."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tab = browser.new_page()
    out = tmp_path_factory.mktemp("outputs")
    began = time.perf_counter()
    process = subprocess.Popen([*HASTEN, "app", "--port", str(port), "--out", str(out)])
    url = f"http://127.0.0.1:{port}/"
    try:
        while not _answers(url):
            assert process.poll() is None
            assert time.perf_counter() - began < 120
            time.sleep(0.05)
        tab.goto(url)
        tab.locator("#compare").click(trial=True)
        usable = time.perf_counter() - began
        tab.close()
        yield url, process.pid, usable
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_seconds_of_the_page_beside_those_of_the_command_line(
    page: tuple[str, int, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, _, started = page
    command = [*HASTEN, "compare", "--prompt", PROMPT, "--preset", "fast", "--out", str(tmp_path / "out"), "--json"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    client = Client(url, verbose=False)
    began = time.perf_counter()
    shown = client.predict("emoji-image", PROMPT, "fast", api_name="/compare")
    whole = time.perf_counter() - began
    ratios = {lane: shown[lane]["seconds"] / told[lane]["seconds"] for lane in ("baseline", "accelerated")}
    with capsys.disabled():
        print(f"\nusable after {started:.1f} s; first comparison {whole:.1f} s, seconds beside the CLI's: {ratios}")
    assert started <= MOST_SECONDS_TO_START
    assert max(ratios.values()) <= MOST_OVER_COMMAND_LINE
    assert shown["accelerated"]["density"] == pytest.approx(told["accelerated"]["density"])


def test_memory_stays_flat_over_many_comparisons(
    page: tuple[str, int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    url, pid, _ = page
    client = Client(url, verbose=False)
    resident = []
    for seed in range(COMPARISONS):
        client.predict("emoji-image", PROMPT, "fast", height=192, width=192, steps=6, seed=seed, api_name="/compare")
        resident.append(_resident(pid))
    with capsys.disabled():
        print(f"\nresident MB: {[round(size / 1e6) for size in resident[::5]]}")
    assert max(resident[-5:]) < 1.1 * max(resident[:SETTLED])

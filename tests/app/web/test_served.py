"""What programs and strangers get from the server."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from served_page import Served

from hasten import Recipe, RettentionConfig


@pytest.fixture(scope="module")
def client(served: Served) -> Client:
    return Client(served.url, verbose=False)


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_program_compares_and_reads_the_figures_and_files(client: Client, served: Served) -> None:
    known = client.predict(api_name="/models")
    told = client.predict(known["models"][0], "a ball", "fast", height=64, width=64, steps=5, api_name="/compare")
    kept = json.loads((served.outputs / told["run"] / "result.json").read_text())
    assert told["speedup"] == kept["speedup"]
    assert told["accelerated"]["psnr"] == pytest.approx(kept["accelerated"]["psnr"])
    assert client.predict(api_name="/runs")[0] == told["run"]
    assert client.predict(told["run"], api_name="/result")["command"] == kept["command"]
    picture = next(file for file in told["files"] if file.endswith("accelerated-01.png"))
    assert status(f"{served.url}gradio_api/file={quote(picture)}") == 200


def test_a_mistake_of_a_program_is_answered_in_a_sentence(client: Client) -> None:
    with pytest.raises(AppError, match="is not offered here"):
        client.predict("/etc", "a ball", api_name="/compare")
    with pytest.raises(AppError, match="'fastt' is not a preset"):
        client.predict("emoji-image", "a ball", "fastt", api_name="/compare")


def test_no_preset_is_a_file(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    Recipe(RettentionConfig()).save(file)
    with pytest.raises(AppError, match="is not a preset; choose one of"):
        client.predict("emoji-image", "a ball", str(file), api_name="/compare")


def test_programs_of_one_session_wait_for_each_other(client: Client) -> None:
    jobs = [
        client.submit("emoji-image", prompt, "fast", height=64, width=64, steps=5, api_name="/compare")
        for prompt in ("a dog", "a tree")
    ]
    assert [job.result()["requests"][0]["prompt"] for job in jobs] == ["a dog", "a tree"]


@pytest.mark.parametrize("name", ["../..", "/etc", "app/../../x", "", "app"])
def test_no_run_lies_outside_the_outputs(client: Client, name: str) -> None:
    with pytest.raises(AppError, match="no such run"):
        client.predict(name, api_name="/result")


def test_no_file_outside_the_outputs_is_served(served: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    for path in (secret, Path("/etc/passwd"), Path(__file__), served.outputs.parent):
        assert status(f"{served.url}gradio_api/file={quote(str(path))}") in (403, 404), path
    dotted = f"{served.outputs}/../{served.outputs.name}/../../{secret}"
    assert status(f"{served.url}gradio_api/file={quote(dotted)}") in (403, 404)

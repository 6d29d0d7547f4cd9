"""A page behind a password, launched or mounted into somebody's own server."""

from collections.abc import Iterator

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hasten.app.web.application import build_app, serving_options

PASSWORD = "pässwörd"


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    outputs = tmp_path_factory.mktemp("outputs")
    page = build_app(outputs)
    server = gr.mount_gradio_app(FastAPI(), page, "/hasten", **serving_options(outputs, PASSWORD))
    with TestClient(server) as client:
        yield client
    page.close()


def log_in(visitor: TestClient, password: str) -> int:
    return visitor.post("/hasten/login", data={"username": "anybody", "password": password}).status_code


@pytest.mark.parametrize("wrong", ["pass", "passwort", "пароль", "🔑"])
def test_a_wrong_password_opens_nothing(visitor: TestClient, wrong: str) -> None:
    assert log_in(visitor, wrong) == 400
    assert visitor.get("/hasten/config").status_code == 401


def test_the_password_opens_the_mounted_page(visitor: TestClient) -> None:
    assert log_in(visitor, PASSWORD) == 200
    assert visitor.get("/hasten/config").json()["title"] == "hasten"
    assert "hasten" in visitor.get("/hasten/").text

"""The page as a server of tools, seen by a client of the Model Context Protocol."""

import ast
import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from served_page import Served

pytest.importorskip("mcp", reason="these tests need mcp, from the extra mcp")

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

import hasten


def ask(served: Served, question: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    async def talk() -> Any:
        async with (
            streamablehttp_client(f"{served.url.rstrip('/')}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await question(session)

    with ThreadPoolExecutor(1) as apart:  # the browser's tests leave an event loop running in this thread
        return apart.submit(asyncio.run, talk()).result()


def test_the_tools_are_the_named_endpoints_and_say_what_they_take(served: Served) -> None:
    tools = {tool.name.rpartition("hasten_")[2]: tool for tool in ask(served, lambda one: one.list_tools()).tools}
    assert set(tools) == {"compare", "models", "runs", "result", "tally"}
    properties: dict[str, Any] = tools["compare"].inputSchema["properties"]
    assert {"model", "prompt", "preset", "seed"} <= set(properties)
    assert "What to draw" in json.dumps(properties["prompt"])


def test_a_tool_answers(served: Served) -> None:
    async def models(session: ClientSession) -> Any:
        name = next(tool.name for tool in (await session.list_tools()).tools if tool.name.endswith("models"))
        return await session.call_tool(name, {})

    answer = ask(served, models)
    assert not answer.isError
    assert list(hasten.presets()) == ast.literal_eval(answer.content[0].text)["presets"]

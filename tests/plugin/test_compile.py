"""Accelerated pipelines under `torch.compile`: block by block in one graph each, and as a whole."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tiny_pipeline import TinyPipeline, generate
from tiny_pipelines import TINY_PIPELINES

from hasten import RettentionConfig

CONFIG = RettentionConfig(density=0.3, dense_steps=1, refresh_interval=3, correction="fitted")


def pipelines_called(*names: str) -> pytest.MarkDecorator:
    chosen = [tiny for tiny in TINY_PIPELINES if tiny.name in names]
    return pytest.mark.parametrize("tiny", chosen, ids=lambda tiny: tiny.name)


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Graphs(list):
    """A backend that runs the graphs as they are and keeps them."""

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Callable[..., Any]:
        self.append(graph)
        return graph.forward


def compile_blocks(pipeline: Any, tiny: TinyPipeline) -> tuple[torch.Tensor, Graphs]:
    """Runs the pipeline with each of its blocks compiled; stock without hasten if that is not enabled."""
    torch._dynamo.reset()
    transformer, graphs = pipeline.transformer, Graphs()
    names = [name for name, _ in transformer.named_modules() if re.fullmatch(tiny.attention, name)]
    for name in names:
        transformer.get_submodule(name.rpartition(".")[0]).compile(fullgraph=True, backend=graphs)
    return generate(tiny, pipeline), graphs


@pipelines_called("pixart-sigma", "cogvideox-2b", "wan", "flux", "hunyuan-video")
def test_blocks_are_whole_graphs_and_no_more_of_them_than_in_stock(tiny: TinyPipeline) -> None:
    stock_graphs = compile_blocks(tiny.build(), tiny)[1]
    pipeline = tiny.build()
    pipeline.enable_acceleration(attention=CONFIG)
    expected = generate(tiny, pipeline)
    actual, graphs = compile_blocks(pipeline, tiny)
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
    assert len(graphs) == len(stock_graphs)
    assert all("hasten.attention_core" in graph.code for graph in graphs)
    report = pipeline.acceleration_report()
    assert report.count("sparse") == 3
    assert not report.fallbacks


@pipelines_called("wan", "flux")
def test_a_model_that_is_compiled_as_a_whole(tiny: TinyPipeline) -> None:
    pipeline = tiny.build()
    pipeline.enable_acceleration(attention=CONFIG)
    expected = generate(tiny, pipeline)
    pipeline.disable_acceleration()
    pipeline.transformer = torch.compile(pipeline.transformer, backend="eager")
    stock = generate(tiny, pipeline)
    pipeline.enable_acceleration(attention=CONFIG)
    torch.testing.assert_close(generate(tiny, pipeline), expected, rtol=1e-3, atol=1e-3)
    assert pipeline.acceleration_report().count("sparse") == 3
    assert not pipeline.acceleration_report().fallbacks
    pipeline.disable_acceleration()
    assert torch.equal(generate(tiny, pipeline), stock)

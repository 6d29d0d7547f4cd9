"""What `import hasten` loads, and that pipelines have its methods whichever of both libraries comes first."""

import importlib
import subprocess
import sys

import pytest

LAZY = ("hasten", "hasten.kernels", "hasten.kernels.paged", "hasten.pipelines.bottleneck", "hasten.pipelines.kv_cache")


def told_by(program: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout


def test_configs_presets_and_recipes_need_neither_torch_nor_diffusers() -> None:
    program = """
import sys
import hasten
recipe = hasten.Recipe(hasten.RettentionConfig(), hasten.BottleneckConfig.preset("flux-x2"), hasten.KVCacheConfig())
assert hasten.Recipe.from_dict(recipe.to_dict()) == recipe and hasten.presets() and hasten.sampling_presets()
print({"torch", "diffusers", "transformers"} & set(sys.modules))
"""
    assert told_by(program).strip() == "set()"


@pytest.mark.parametrize("first", ["hasten", "diffusers", "diffusers.pipelines.pipeline_utils"])
def test_pipelines_have_the_methods_whichever_library_comes_first(first: str) -> None:
    program = f"""
import {first}
import hasten
from diffusers import DiffusionPipeline, PixArtSigmaPipeline
from hasten import acceleration
for name in ("enable_acceleration", "disable_acceleration", "acceleration_report"):
    assert getattr(PixArtSigmaPipeline, name) is getattr(acceleration, name)
    assert vars(DiffusionPipeline)[name] is getattr(acceleration, name)
print("same")
"""
    assert told_by(program).strip() == "same"


def test_a_pipeline_can_be_accelerated_by_the_first_thing_that_is_asked_of_it() -> None:
    program = """
import hasten
from diffusers import DiffusionPipeline
assert "hasten.acceleration" not in __import__("sys").modules
try:
    DiffusionPipeline().acceleration_report()
except hasten.AccelerationError as error:
    print(error)
"""
    assert "enable_acceleration" in told_by(program)


@pytest.mark.parametrize("package", LAZY)
def test_every_name_that_a_package_promises_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__
    assert {name for name in module.__all__ if getattr(module, name, None) is None} == set()

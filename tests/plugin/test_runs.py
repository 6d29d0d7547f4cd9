"""The signal that a run begins."""

import copy
import inspect

import pytest
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

from hasten.runs import observe_runs


@pytest.fixture
def scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler()


def test_every_set_timesteps_tells_the_number_of_denoiser_steps(scheduler: DPMSolverMultistepScheduler) -> None:
    runs: list[int] = []
    observe_runs(scheduler, runs.append)
    scheduler.set_timesteps(7)
    scheduler.set_timesteps(timesteps=[900, 500, 100])
    assert runs == [7, 3]
    assert scheduler.num_inference_steps == 3


def test_the_signature_that_pipelines_inspect_stays(scheduler: DPMSolverMultistepScheduler) -> None:
    before = inspect.signature(scheduler.set_timesteps)
    observe_runs(scheduler, lambda steps: None)
    assert inspect.signature(scheduler.set_timesteps) == before


def test_observers_of_one_scheduler_leave_in_any_order(scheduler: DPMSolverMultistepScheduler) -> None:
    before = vars(scheduler).copy()
    first, second = [], []
    end_first = observe_runs(scheduler, first.append)
    end_second = observe_runs(scheduler, second.append)
    scheduler.set_timesteps(4)
    end_first()
    scheduler.set_timesteps(5)
    end_second()
    scheduler.set_timesteps(6)
    assert (first, second) == ([4], [4, 5])
    assert vars(scheduler).keys() == before.keys()


def test_a_copy_sets_its_own_timesteps_unobserved(scheduler: DPMSolverMultistepScheduler) -> None:
    runs: list[int] = []
    observe_runs(scheduler, runs.append)
    scheduler.set_timesteps(4)
    duplicate = copy.deepcopy(scheduler)
    duplicate.set_timesteps(9)
    assert runs == [4]
    assert len(scheduler.timesteps) == 4
    assert len(duplicate.timesteps) == 9


def test_keyword_arguments_of_other_schedulers_pass() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    runs: list[int] = []
    observe_runs(scheduler, runs.append)
    scheduler.set_timesteps(sigmas=[1.0, 0.5], mu=0.7)
    assert runs == [2]

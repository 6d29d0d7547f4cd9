"""From what a user calls a model (bundled name, folder or hub id) to a pipeline ready to run."""

import difflib
import inspect
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import HfApi

from hasten import AccelerationError
from hasten.app.errors import UserError
from hasten.app.machine import choose_device, choose_dtype
from hasten.assets import CARD, bundled_models, model_path, read_card
from hasten.families import family_of
from hasten.methods.kv_cache_config import rolls_out

INDEX = "model_index.json"
HUB_SECONDS = 10
OWN_PIPELINE = "SelfForcingWanPipeline"


@dataclass(frozen=True)
class LoadedModel:
    """A pipeline on its device, and what is known about calling it.

    Args:
        name (`str`): As the user gave it.
        pipe (`DiffusionPipeline`): On its device, loading bars off.
        bundled (`bool`): Whether it ships with hasten, so that held-out prompts and caption accuracy exist.
        call (`dict`): Pipeline arguments that its card recommends.
        sizes (`tuple[int, ...]`): Sides in pixels that it was trained for, empty if unknown.
    """

    name: str
    pipe: DiffusionPipeline
    bundled: bool
    call: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[int, ...] = ()

    @property
    def denoiser(self) -> torch.nn.Module:
        """The component that the denoising loop calls, or calls first."""
        return self.pipe.transformer if hasattr(self.pipe, "transformer") else self.pipe.unet

    @property
    def denoisers(self) -> list[torch.nn.Module]:
        """All components of which the denoising loop calls one in a step."""
        try:
            return family_of(self.pipe).denoisers_of(self.pipe)
        except AccelerationError:  # of a family that hasten does not know
            return [self.denoiser]

    def arguments(self, **given: Any) -> dict[str, Any]:
        """Pipeline arguments: those of the card, overridden by the `given` ones that are not None.

        Raises:
            UserError: the pipeline does not take one of them, or cannot make the size.
        """
        known = inspect.signature(self.pipe.__call__).parameters
        chosen = {name: value for name, value in given.items() if value is not None}
        for name in chosen:
            if name not in known:
                raise UserError(f"{type(self.pipe).__name__} takes no {name}; leave that out.")
        self._check_size(chosen)
        steps = known["num_inference_steps"].default
        # a pipeline that rolls out keeps its number of steps with its weights
        defaults = {"num_inference_steps": self.pipe.config.num_inference_steps if steps is None else steps}
        return {**defaults, **self.call, **chosen}

    def _check_size(self, chosen: dict[str, Any]) -> None:
        try:
            cell = family_of(self.pipe).cell(self.pipe)
        except AccelerationError:  # of a family that hasten does not know; the pipeline itself will say
            return
        for side, multiple in (("height", cell.height), ("width", cell.width)):
            if chosen.get(side, 0) % multiple:
                trained = f" (trained sizes: {', '.join(map(str, self.sizes))})" if self.sizes else ""
                given = f"a {side} of {chosen[side]} pixels"
                raise UserError(f"'{self.name}' cannot make {given}; give a multiple of {multiple}{trained}.")


def load_model(name: str, *, dtype: str = "auto", device: str = "auto", videos: bool = False) -> LoadedModel:
    """Load the pipeline that `name` stands for.

    Args:
        name (`str`): A bundled name, a folder with a `model_index.json`, or a hub id such as `owner/model`.
        dtype (`str`, defaults to `"auto"`): A torch dtype's name, or `auto`: float32 on a CPU, else bfloat16.
        device (`str`, defaults to `"auto"`): A torch device, or `auto`: the accelerator if there is one.
        videos (`bool`, defaults to `False`): Whether a pipeline that makes videos will do.

    Raises:
        UserError: there is no such model, its folder is incomplete or no pipeline, its card is damaged, or the device
            does not exist.
    """
    source, is_folder = _find(name)
    card = _card(Path(source)) if is_folder else {}
    target = choose_device(device)
    chosen_dtype = choose_dtype(dtype, target)
    hub_refusal = None if is_folder else _hub_refusal(source)
    try:
        # without the hub, what it gave earlier still loads
        local = {"local_files_only": hub_refusal is not None}
        loader = _own_pipeline(source) if is_folder else None
        pipe = (loader or DiffusionPipeline).from_pretrained(source, dtype=chosen_dtype, **local).to(target)
    except Exception as error:
        # from a missing file to a truncated one, the folder or the hub is the cause
        if is_folder:
            reason = f"'{name}' could not be loaded as a pipeline ({_first_line(error)}); complete the folder."
        else:
            refusal = _first_line(hub_refusal or error)
            reason = f"There is no folder '{name}', and the hub did not give it ({refusal}); check name and connection."
        raise UserError(reason) from error
    if not _takes_prompts(pipe) or (makes_videos(pipe) and not videos):
        kind = type(pipe).__name__
        raise UserError(
            f"'{name}' holds a {kind}, which makes no pictures from prompts; give a text-to-image pipeline."
        )
    bundled = name in bundled_models()
    return LoadedModel(name, pipe, bundled=bundled, call=card.get("call", {}), sizes=tuple(card.get("sizes", ())))


def _find(name: str) -> tuple[str, bool]:
    """Folder or hub id to load from and whether it is a folder, checked as far as that goes without loading."""
    if name in bundled_models():
        return str(model_path(name)), True
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return str(folder), True
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not folder.exists():
        return name, False
    nearest = difflib.get_close_matches(name, bundled_models(), n=1, cutoff=0.4)
    hint = f"did you mean '{nearest[0]}'?" if nearest else "give a pipeline folder or a hub id such as owner/model."
    raise UserError(f"There is no model '{name}' (bundled: {', '.join(bundled_models())}); {hint}")


def _card(folder: Path) -> dict[str, Any]:
    """What a recipe wrote of its model beside it; nothing for a model from elsewhere."""
    try:
        return dict(read_card(folder))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise UserError(f"The card of folder '{folder}' ({CARD}) is damaged; repair it or take it away.") from error


def _own_pipeline(folder: str) -> type[DiffusionPipeline] | None:
    """The class of a pipeline that hasten has and diffusers lacks."""
    if json.loads((Path(folder) / INDEX).read_text())["_class_name"] != OWN_PIPELINE:
        return None
    from hasten.pipelines.self_forcing import SelfForcingWanPipeline

    return SelfForcingWanPipeline


def _check_folder(folder: Path) -> None:
    try:
        index = json.loads((folder / INDEX).read_text())
        class_name = index["_class_name"]
    except FileNotFoundError as error:
        raise UserError(
            f"Folder '{folder}' is not a diffusers pipeline: it has no {INDEX}; give one that has."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"Folder '{folder}' is not a diffusers pipeline: its {INDEX} is damaged; fetch it anew."
        ) from error
    if class_name != OWN_PIPELINE and not hasattr(diffusers, str(class_name)):
        raise UserError(
            f"Folder '{folder}' holds a '{class_name}', which diffusers {diffusers.__version__} does not know."
        )
    components = [part for part, origin in index.items() if isinstance(origin, list) and None not in origin]
    missing = [part for part in components if not (folder / part).is_dir() or not any((folder / part).iterdir())]
    if missing:
        raise UserError(f"Folder '{folder}' is incomplete: {', '.join(missing)} is missing; complete it and try again.")


def makes_videos(pipe: DiffusionPipeline) -> bool:
    """Whether a call of `pipe` gives frames."""
    return "num_frames" in inspect.signature(pipe.__call__).parameters


def refuse_rollout(model: LoadedModel, command: str) -> None:
    """Refuse a model that generates chunk by chunk, for a `command` that has nothing for it.

    Raises:
        UserError: it does.
    """
    if rolls_out(model.pipe):
        instead = "use `hasten bench kv`, which compares its caches"
        raise UserError(f"'{model.name}' generates chunk by chunk, which `{command}` is not for; {instead}.")


def _takes_prompts(pipe: DiffusionPipeline) -> bool:
    arguments = inspect.signature(pipe.__call__).parameters
    has_denoiser = hasattr(pipe, "transformer") or hasattr(pipe, "unet")
    return has_denoiser and {"prompt", "num_inference_steps"} <= set(arguments)


def _hub_refusal(hub_id: str) -> Exception | None:
    """Why the hub does not give `hub_id`; asked once and briefly, because loading would retry for minutes."""
    try:
        HfApi().model_info(hub_id, timeout=HUB_SECONDS)
    except Exception as error:
        return error
    return None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")

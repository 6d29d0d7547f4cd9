"""What a visitor asks for: one comparison, as the form, a deep link and a saved run have it."""

import base64
import binascii
import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Self

from hasten import Recipe
from hasten.app.errors import UserError
from hasten.presets import DEFAULT_PRESET, presets, resolve_recipe

CUSTOM = "custom"
LARGEST_SEED = 2**63 - 1
LARGEST_GUIDANCE = 1_000_000
LONGEST_LINK = 60_000
"""Characters: what servers take as an address, and more than the longest prompts that the page takes by default."""
_WHOLE = {"height": "the height", "width": "the width", "num_frames": "the frames", "steps": "the steps"}


@dataclass(frozen=True)
class Settings:
    """
    A comparison before it runs. What is None is left to the model.

    Args:
        model (`str`): A bundled name, a pipeline folder or a hub id.
        prompt (`str`): What to draw.
        recipe (`Recipe`): What to accelerate, and how.
        preset (`str`): The name of `recipe`, or `"custom"`.
        negative_prompt (`str`): What to keep out; the empty string leaves the argument away.
        height, width (`int`, *optional*): Pixels.
        num_frames (`int`, *optional*): Frames, for pipelines that make videos.
        steps (`int`, *optional*): Denoising steps.
        guidance (`float`, *optional*): Classifier-free guidance scale.
        seed (`int`): Seed of the initial noise.

    Raises:
        UserError: a value has the wrong type or is out of bounds.
    """

    model: str
    prompt: str
    recipe: Recipe = dataclasses.field(default_factory=resolve_recipe)
    preset: str = DEFAULT_PRESET
    negative_prompt: str = ""
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise UserError("No model was given; choose a bundled one, or give a folder or a hub id.")
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise UserError("The prompt is empty; say what to draw.")
        if not isinstance(self.recipe, Recipe) or not isinstance(self.preset, str):
            raise UserError("The recipe or the name of its preset is none; give a recipe as JSON and a name as text.")
        if not isinstance(self.negative_prompt, str):
            raise UserError("The negative prompt is no text; give text or nothing.")
        for field, words in _WHOLE.items():
            value = getattr(self, field)
            if value is not None and (not _is_whole(value) or value < 1):
                raise UserError(f"{value!r} was given for {words}; give a whole number of at least 1.")
        if not _is_whole(self.seed) or not 0 <= self.seed <= LARGEST_SEED:
            raise UserError(f"{self.seed!r} was given for the seed; give a whole number from 0 to {LARGEST_SEED}.")
        if self.guidance is not None and not _is_allowed_guidance(self.guidance):
            allowed = f"a number from 0 to {LARGEST_GUIDANCE}"
            raise UserError(f"{self.guidance!r} was given for the guidance; give {allowed}.")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-able values."""
        return {**vars(self), "recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Build settings from what `to_dict` gives; what is left out keeps its default.

        Raises:
            UserError: not an object, an unknown key, or a value out of bounds.
            AccelerationError: its recipe is none.
        """
        if not isinstance(values, dict) or not {"model", "prompt"} <= set(values):
            raise UserError("These are no settings of a comparison; give an object with a model and a prompt.")
        unknown = set(values) - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise UserError(f"'{min(unknown)}' is no setting of a comparison; leave it out.")
        recipe = values.get("recipe")
        return cls(**{**values, "recipe": resolve_recipe() if recipe is None else Recipe.from_dict(recipe)})

    def link(self) -> str:
        """The settings as a token for the address of the page."""
        recipe = dataclasses.replace(self.recipe, measured=None).to_dict()
        text = json.dumps({**self.to_dict(), "recipe": recipe}, separators=(",", ":"), ensure_ascii=False)
        return base64.urlsafe_b64encode(text.encode(errors="surrogatepass")).decode().rstrip("=")

    @classmethod
    def from_link(cls, token: str) -> Self:
        """The settings that `link` encoded.

        Raises:
            UserError: the token is damaged.
            AccelerationError: its recipe is none.
        """
        try:
            if len(token) > LONGEST_LINK:
                raise ValueError("too long")
            values = json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        except (ValueError, binascii.Error, RecursionError) as error:
            raise UserError("The link to a comparison is damaged; ask for it again.") from error
        return cls.from_dict(values)


def preset_recipe(name: Any) -> Recipe:
    """The recipe of the preset called `name`; never a file, because visitors choose the name.

    Raises:
        UserError: there is no such preset.
    """
    if not isinstance(name, str) or name not in presets():
        raise UserError(f"{name!r} is not a preset; choose one of: {', '.join(presets())}.")
    return presets()[name]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_allowed_guidance(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST_GUIDANCE

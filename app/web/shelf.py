"""The models that visitors may choose, and the one that is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hasten.app.errors import UserError
from hasten.assets import bundled_models

if TYPE_CHECKING:
    from hasten.app.loading import LoadedModel
    from hasten.app.web.previews import LatentPreview


@dataclass
class Loaded:
    """A loaded model, how to preview its latents, and the calls that it was warmed up for."""

    model: LoadedModel
    preview: LatentPreview | None
    warm: set[str] = field(default_factory=set)


class Shelf:
    """
    Loads what visitors choose; keeps one model, because two large ones may not fit.

    Args:
        models (`tuple[str, ...]`): What to offer beside the bundled models: folders and hub ids.
        any_model (`bool`): Whether visitors may name others. They could then probe folders of this machine and fill
            its disk from the hub.
        dtype, device (`str`): As for `load_model`.
    """

    def __init__(self, models: tuple[str, ...] = (), any_model: bool = False, *, dtype: str, device: str) -> None:
        self.offered = (*bundled_models(), *models)
        self.any_model = any_model
        if device != "auto":  # which needs no torch, and always is there
            from hasten.app.machine import choose_device

            choose_device(device)  # one that does not exist is refused before the page is served
        self._dtype, self._device = dtype, device
        self._loaded: Loaded | None = None

    def check(self, name: str) -> None:
        """Refuse a model that is not offered.

        Raises:
            UserError: naming those that are.
        """
        if not self.any_model and name not in self.offered:
            raise UserError(f"'{name}' is not offered here; choose one of: {', '.join(self.offered)}.")

    def get(self, name: str) -> Loaded:
        """The model called `name`, loaded if it is not yet.

        Raises:
            UserError: it is not offered, or cannot be loaded.
        """
        self.check(name)
        from hasten.app.loading import load_model
        from hasten.app.web.previews import preview_of

        if self._loaded is None or self._loaded.model.name != name:
            self._loaded = None  # the earlier model goes first, so that both need not fit
            model = load_model(name, dtype=self._dtype, device=self._device, videos=True)
            model.pipe.set_progress_bar_config(disable=True)
            self._loaded = Loaded(model, preview_of(model.pipe))
        return self._loaded

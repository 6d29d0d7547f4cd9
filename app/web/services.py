"""What the tabs of one page share: the device's queue, the models, the limits, and the folder of results."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from hasten.app.web.engine import Engine, Job
from hasten.app.web.limits import Limits
from hasten.app.web.runs import RunStore
from hasten.app.web.settings import Settings
from hasten.app.web.shelf import Shelf
from hasten.app.web.votes import FILE


@dataclass(frozen=True)
class Services:
    """One page's engine, models, limits and store."""

    engine: Engine
    shelf: Shelf
    limits: Limits
    store: RunStore

    @property
    def votes(self) -> Path:
        """The file of the blind test's votes."""
        return self.store.own / FILE

    def prepare(self) -> None:
        """Load torch and diffusers in the device's thread, for the first comparison to begin at once."""
        self.engine.prepare(_comparing)

    def start(self, session: str, settings: Settings, *, several: bool = False) -> Job:
        """Queue a comparison; its result is the name of the run. `several` is as for `Engine.submit`.

        Raises:
            UserError: it is beyond the limits, or the queue does not take it.
        """
        self.limits.check(settings)
        self.shelf.check(settings.model)

        def work(job: Job) -> str:
            return _comparing().compare(settings, self.shelf, self.limits, self.store, job)

        return self.engine.submit(session, work, several=several)


def _comparing() -> ModuleType:
    """What needs torch and diffusers, which take longer to load than the page takes to open without them."""
    return import_module("hasten.app.web.comparing")

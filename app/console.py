"""What a command shows: tables and progress for people, one JSON object for machines."""

import contextlib
import json
import logging
import math
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import wrapt
from rich import box
from rich.console import Console
from rich.table import Table

WIDTH_OF_FILES = 120


@dataclass
class Screen:
    """Where one command writes. People get tables on standard output; machines get `result` there and nothing else."""

    for_machines: bool
    result: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.messages = _console(stderr=True)
        self.tables = self.messages if self.for_machines else _console(stderr=False)
        if not self.tables.is_terminal:
            self.tables.width = WIDTH_OF_FILES

    @property
    def shows_progress(self) -> bool:
        """Progress bars are for people who watch: neither machines nor log files get them."""
        return not self.for_machines and self.messages.is_terminal

    def say(self, text: str) -> None:
        """One line about what is going on, on standard error; nothing when a machine asked."""
        if not self.for_machines:
            self.messages.print(text, style="dim")

    def table(self, title: str, header: Sequence[str], rows: Iterable[Sequence[str]], *, texts: int = 1) -> None:
        """A table whose first `texts` columns hold text and whose other columns hold figures."""
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for index, name in enumerate(header):
            table.add_column(name, justify="left" if index < texts else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self.tables.print(table)

    def text(self, text: str) -> None:
        """Plain text beside the tables, exactly as given."""
        self.tables.print(text, soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    # prompts are shown as they were given, with what rich would read as markup or as the name of an emoji
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


@contextlib.contextmanager
def screen(for_machines: bool) -> Iterator[Screen]:
    """The screen of one command; on success a machine's `result` is printed at the end.

    Whatever a library prints meanwhile goes to standard error when a machine reads standard output.
    """
    output = sys.stdout
    silence = contextlib.redirect_stdout(sys.stderr) if for_machines else contextlib.nullcontext()
    with silence, warnings.catch_warnings():
        shown = Screen(for_machines)
        yield shown
    if for_machines:
        print(to_json(shown.result), file=output)


def quiet_libraries() -> None:
    """Keep the loading bars and advice of diffusers and transformers off the screen; hasten's own warnings stay."""
    for library in ("diffusers.utils.logging", "transformers.utils.logging"):
        wrapt.register_post_import_hook(_quiet, library)  # at once, or when it is loaded
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    for category in (FutureWarning, DeprecationWarning):
        warnings.filterwarnings("ignore", category=category)


def _quiet(library_logging: ModuleType) -> None:
    library_logging.set_verbosity_error()
    library_logging.disable_progress_bar()


def to_json(value: dict[str, Any]) -> str:
    """Strict JSON: a figure without a finite value (the PSNR of identical pictures) becomes null."""
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

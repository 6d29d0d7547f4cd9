"""Results of `bench pipeline`, `bench sampling` and `compare` in one shape."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hasten.app.errors import UserError
from hasten.app.methods import PLAIN
from hasten.app.output import RESULT

_ABOUT = ("model", "device", "versions", "arguments", "requests")


@dataclass(frozen=True)
class Result:
    """What a benchmark found.

    Args:
        path (`Path`): Where it was read from.
        rows (`dict`): The figures of each method that ran, by its name.
        about (`dict`): Model, device, versions, pipeline arguments and requests.
    """

    path: Path
    rows: dict[str, dict[str, Any]]
    about: dict[str, Any]

    def requests(self, name: str) -> list[dict[str, Any]] | None:
        """Figures of each request of a method; None if they were not kept, as hasten once did."""
        return self.rows[name].get("per_request")


def read_result(path: Path) -> Result:
    """The result in a file, or in the folder that holds it.

    Raises:
        UserError: there is none, or none of a benchmark whose methods were compared with plain.
    """
    file = path / RESULT if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not JSON"
        raise UserError(f"Result '{file}' cannot be read ({reason}); give a result.json or its folder.") from error
    try:
        rows = _rows(content)
        about = {key: content[key] for key in _ABOUT}
        if not all({"speedup", "psnr", "ssim"} <= set(row) for row in rows.values()):
            raise KeyError("speedup")
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"'{file}' is no result of bench pipeline, bench sampling or compare; give one of these."
        ) from error
    return Result(file, rows, about)


def _rows(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    if "rows" in content:
        return {row["name"]: row for row in content["rows"] if "why" not in row}
    fewer = content["fewer_steps"]
    return {
        PLAIN.name: content["baseline"],
        content["recipe"]["name"]: content["accelerated"],
        f"plain, {fewer['steps']} steps": fewer,
    }

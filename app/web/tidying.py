"""Folders that must not grow without end: the oldest of their files go."""

from collections.abc import Iterable
from pathlib import Path


def modified(path: Path) -> float:
    """When `path` was written, in seconds since 1970; 0 if somebody has deleted it meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def keep_newest(files: Iterable[Path], most: int) -> None:
    """Delete all but the `most` newest of `files`."""
    for old in sorted(files, key=modified, reverse=True)[most:]:
        old.unlink(missing_ok=True)

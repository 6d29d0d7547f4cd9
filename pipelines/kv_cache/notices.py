"""What a user should know of how a method fits a model."""

from collections.abc import Iterator

from hasten.kernels.paged import PageFormat

from .formats import WHOLE_HEAD, Packed, fit, split_tokens
from .geometry import PageShape
from .method import CacheMethod


def group_notices(method: CacheMethod, page: PageShape) -> tuple[str, ...]:
    """A sentence for each group that does not divide what it is to divide, with the one that is taken instead.

    Raises:
        ValueError: a frame has fewer tokens than parts.
    """
    sentences = []
    for wanted, tokens in _formats(method, page):
        group = fit(wanted, tokens, page.head_dim).group
        if group == wanted.group or wanted.group == WHOLE_HEAD:
            continue
        by_channel = wanted.grouping == "channel"
        size, what = (tokens, "tokens that are stored alike") if by_channel else (page.head_dim, "channels of a head")
        sentences.append(f"a group of {wanted.group} does not divide the {size:,} {what}; {group} share a scale")
    return tuple(dict.fromkeys(sentences))


def _formats(method: CacheMethod, page: PageShape) -> Iterator[tuple[PageFormat, int]]:
    """All formats of the method, each with the tokens of a page that it is for."""
    for parts in method.formats.values():
        for part, tokens in zip(parts, split_tokens(parts, page.frame_tokens), strict=True):
            if isinstance(part.storage, Packed):
                yield from ((one, tokens) for one in (part.storage.keys, part.storage.values) if one is not None)

"""What a server says about itself: its settings (CONFIG) and its sections of INFO."""

from __future__ import annotations

from ..effects import Execute, StoreOperation
from ..errors import StoreRefused


def config(*names: str) -> StoreOperation[dict[str, str]]:
    """Settings of the server by name; a setting that the server does not have is left out. Raises StoreRefused."""
    replies = yield Execute([("CONFIG", "GET", name) for name in names])
    words = [word.decode() for reply in replies for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))


def info(section: str) -> StoreOperation[dict[str, str]]:
    """The fields of a section of INFO; empty if the user may not read it."""
    try:
        [text] = yield Execute([("INFO", section)])
    except StoreRefused:
        return {}
    return fields(text)


def fields(text: bytes) -> dict[str, str]:
    """The fields of INFO's reply by name."""
    pairs = (line.partition(":") for line in text.decode().splitlines())
    return {name: value for name, separator, value in pairs if separator}

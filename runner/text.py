"""Text for people: what a terminal would obey, or nobody could see, is shown by its code.

Names, payloads and errors come from whoever appends events. On a terminal they could clear the screen, turn the order
of letters round, or look like a line of the log. So each letter that is no picture on the screen is shown as Python
would write it: ``\\x1b``, ``\\n``, ``\\u202e``. A backslash stays as it is, so a text that was shown can be
shown again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from difflib import get_close_matches

#: A longer line is cut, with a mark that tells how much is missing.
LONGEST = 4_000

#: A longer traceback loses its beginning.
LONGEST_TRACEBACK = 8_000

#: Letters that move the cursor or end the line, turn the direction round, or take no room; and halves of letters. Those
#: that only choose the form of the letter before them (U+FE00 to U+FE0F) stay: they are part of many emojis.
_HIDDEN_IN_JSON = (
    r"\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
#: What stands for a piece of a URL that holds a password, or may hold one.
HIDDEN = "***"

#: User and password of a URL; and a port, which is a password where the ``@`` after it was forgotten.
_user = re.compile(r"//\S*@")
_port = re.compile(r"(?i)\b((?:rediss?|unix)://(?:\[[^\s\]]*\]|[^\s/?#@:\[]*)):([^\s/?#]+)\S*")

_hidden = re.compile(rf"[\x00-\x1f{_HIDDEN_IN_JSON}]")
_hidden_in_json = re.compile(f"[{_HIDDEN_IN_JSON}]")


def visible(text: str, longest: int = LONGEST) -> str:
    """A text in one line, for people; what is longer than ``longest`` characters is cut, and says so."""
    text = cut(text, longest)
    if text.isascii() and text.isprintable():
        return text
    return _hidden.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without_passwords(text: str) -> str:
    """The same text, without the passwords of the URLs in it: somebody may have given one in the wrong place."""
    if "//" not in text:
        return text
    return _port.sub(_without_port, _user.sub(f"//{HIDDEN}@", text))


def _without_port(url: re.Match[str]) -> str:
    return url[0] if is_port(url[2].rstrip("'\"`.,:;)")) else f"{url[1]}:{HIDDEN}"


def is_port(text: str) -> bool:
    """Whether a text can be the number of a port. It may be empty, for the usual port."""
    return not text or (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) < 65536)


def visible_json(text: str) -> str:
    """The same JSON, with the codes of letters that nobody can see: what is read from it is the same."""
    return text if text.isascii() else _hidden_in_json.sub(lambda found: json.dumps(found[0])[1:-1], text)


def visible_traceback(text: str) -> list[str]:
    """The last lines of a traceback, each with a mark before it, so that none looks like a line of ours."""
    return [f"  | {visible(line)}" for line in text.rstrip("\n")[-LONGEST_TRACEBACK:].split("\n")]


def cut(text: str, longest: int = LONGEST) -> str:
    """The text, or its first characters and how many more it has."""
    return text if len(text) <= longest else f"{text[:longest]}… and {len(text) - longest:,} more characters"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that a mistyped one was probably meant to be; empty if none is like it."""
    return next(iter(get_close_matches(name, list(known), n=1)), "")

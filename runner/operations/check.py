"""One finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass

GOOD, WARNING, BAD = "good", "warning", "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding about the server."""

    name: str
    #: `GOOD`, `WARNING` or `BAD`: "good", "warning" or "bad".
    verdict: str
    finding: str
    #: What to do; empty when there is nothing to do.
    advice: str = ""


#: What to do about what one may not see.
ASK_AN_OPERATOR = "Run `runner doctor` as an operator."


def unseen(name: str, what: str, advice: str = ASK_AN_OPERATOR, known: str = "") -> Check:
    """The check of what the user may not see. ``what`` is not allowed; ``known``: what was seen besides."""
    return Check(name, WARNING, f"{known}could not be checked: {what} is not allowed to this user", advice)

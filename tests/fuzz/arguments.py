"""URLs of stores, and command lines."""

from __future__ import annotations

import importlib
import re
from typing import Any

from click.testing import CliRunner
from hypothesis import strategies as st
from verbs import EXIT_CODES

from runner import InvalidInput
from runner.cli.main import VERBS, main
from runner.wire.address import parse

from .kind import Fresh, Kind

SECRET = "s3cr3t"

#: Pieces of URLs, among them all that separates their parts.
PIECES = st.sampled_from(
    [
        *[
            "redis",
            "rediss",
            "unix",
            "://",
            "//",
            ":",
            "@",
            "/",
            "?",
            "#",
            "&",
            "=",
            "%",
            "[",
            "]",
            "[::1]",
            "h",
            "6379",
            "99999",
            "0",
            "-1",
            "1e3",
            "..",
            "%zz",
        ],
        *("ssl_cert_reqs=none", "client_name", "password", "\u2028", "\udcff", "\xe9", " "),
    ]
)
URLS = st.builds(
    lambda before, after: f"{before}{SECRET}{after}",
    st.sampled_from(["redis://:", "redis://u:", "rediss://:", "unix://:", "redis://?password="])
    | st.builds("".join, st.lists(PIECES, max_size=6)).map(lambda text: f"redis://{text}:"),
    st.sampled_from(["@h/0", "@h:1/0", "@h"]) | st.builds("".join, st.lists(PIECES, max_size=6)).map("{}@h".format),
)
ANY_URL = st.builds("".join, st.lists(PIECES | st.text(max_size=3), max_size=9))

#: What these do ends only when they are stopped, or takes too long: one word too many keeps them from beginning.
ENDLESS = {"run", "tail", "bench", "demo", "import", "export"}
OPTIONS = sorted(
    {
        name
        for module in VERBS.values()
        for option in importlib.import_module(module).command.params
        for name in option.opts
        if name.startswith("--")
    }
    - {"--store", "--name", "--projections"}
)
WORDS = st.one_of(
    st.sampled_from(
        [*["a-1", "X", "p", "{}", "[1]", "1", "-1", "any", "2026-01-31"], "9" * 30, "", '{"$runner:uuid": 5}']
    ),
    st.sampled_from(OPTIONS),
    st.builds("{}={}".format, st.sampled_from(OPTIONS), st.text(max_size=5)),
    st.text(st.characters(exclude_characters="\0"), max_size=6),
)
LINES = st.tuples(st.just("line"), st.sampled_from(sorted(VERBS)), st.lists(WORDS, max_size=5))
INPUTS = st.one_of(
    URLS.map(lambda text: ("secret", text)),
    ANY_URL.map(lambda text: ("url", text)),
    LINES,
)


def check(given: Any, fresh: Fresh) -> None:
    """A URL is an address or a mistake, and shows no password; a command line ends without a traceback."""
    what, text, *words = given
    if what == "line":
        _line(text, *words)
        return
    if re.match(r"(memory|embedded):", text):
        return
    try:
        said = repr(parse(text)) + parse(text).label
    except InvalidInput as error:
        said = f"{error} {error.hint}"
    assert what == "url" or SECRET not in said, said


def _line(verb: str, words: list[str]) -> None:
    stop = ["too", "many", "words", "for", "this"] if verb in ENDLESS else []
    result = CliRunner().invoke(main, [verb, *words, *stop, "--store", "memory:"], input="n\n")
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert result.exit_code in EXIT_CODES, result.exit_code
    assert "\nTraceback" not in f"\n{result.output}"


ARGUMENTS = Kind("arguments", "URLs and command lines: no traceback, and no password in an error", INPUTS, check)

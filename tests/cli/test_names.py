"""Names that are not there: of commands, projections, streams and categories."""

from __future__ import annotations

import pytest
from command_line import run


@pytest.fixture
def bank(fresh_name: str) -> str:
    """The URL of a store with an event of one stream, and the shipped projections."""
    url = f"memory:names-{fresh_name}"
    run("append", "account-1", "Opened", '{"owner": "Ada"}', store=url)
    run("run", "--once", "--accept-bad", store=url)
    return url


@pytest.mark.parametrize(
    "args",
    [
        ("view",), ("view", "--as-of", "1"), ("rebuild",), ("rollback",), ("reset",), ("unregister", "--yes"),
        ("why",), ("skipped",),
        ("parked", "list"), ("parked", "show"), ("parked", "drop", "--yes"), ("parked", "retry"),
        ("run", "--only"), ("run", "--except"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_projection_that_never_was_is_a_mistake(bank: str, args: tuple[str, ...]) -> None:
    """Exit code 2, and the one that was probably meant."""
    verbs = 2 if args[0] in ("parked", "run") else 1
    result = run(*args[:verbs], "balanecs", *args[verbs:], store=bank)
    assert result.exit_code == 2, result.output
    assert "no projection 'balanecs'" in result.stderr or "holds a projection 'balanecs'" in result.stderr
    assert "Hint: Did you mean 'balances'? " in result.stderr


def test_a_command_that_never_was_is_a_mistake() -> None:
    """Exit code 2, and the one that was probably meant; where none is like it, only that."""
    assert "No such command 'statsu'. Did you mean 'status'?" in run("statsu").stderr
    assert (run("statsu").exit_code, run("xyzzy").exit_code) == (2, 2)
    assert "Did you mean" not in run("xyzzy").stderr


@pytest.mark.parametrize("verb", ["read", "tail"])
def test_a_name_alone_is_a_stream(bank: str, verb: str) -> None:
    """For a stream that is not there that is said, and how to name a category."""
    # given
    follow = ("--limit", "1", "--after", "0") if verb == "tail" else ()
    run("append", "account", "Noted", store=bank)

    # then
    assert "Noted" in run(verb, "account", *follow, store=bank).stdout
    assert "Opened" in run(verb, "--category", "account", *follow, store=bank).stdout
    assert run(verb, "account", "--category", "account", store=bank).exit_code == 2


def test_a_stream_that_is_not_there_is_told(bank: str) -> None:
    """As it may be that a category was meant; of a name with a '-' not."""
    said = run("read", "account", store=bank)
    assert said.stderr == "There is no stream 'account'; for all streams of a category: --category account.\n"
    assert run("read", "account-2", store=bank).stderr == "There is no stream 'account-2'.\n"


@pytest.mark.parametrize(
    "args", [("acount",), ("account", "--after", "1"), ("account", "--partition", "0", "--to", "0")]
)
def test_a_category_without_such_an_event_is_told(bank: str, args: tuple[str, ...]) -> None:
    """An empty output would look the same for a name that was mistyped."""
    said = run("read", "--category", *args, "--json", store=bank)
    assert (said.exit_code, said.stdout, said.stderr) == (0, "", f"There is no such event in category {args[0]!r}.\n")
    assert run("read", "--category", "account", store=bank).stderr == ""


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("read", "--backwards"), "Give partition= (--partition), and read one partition after the other."),
        (("read", "--after", "1"), "Give the position with partition= (--partition)."),
        (("export", "-", "--after", "1"), "Give the position with partition= (--partition)."),
        (("tail",), "Give partition= (--partition), and subscribe once for each partition."),
        (("trim", "--before", "2", "--yes"), "Give the position with partition= (--partition)."),
        (("init", "--partitions", "3"), "Give partitions=2 (--partitions 2), or none: the number is fixed."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_hint_names_the_option_beside_the_argument_of_a_program(
    fresh_name: str, args: tuple[str, ...], hint: str
) -> None:
    """Both read the same hint, and each finds what to write."""
    url = f"memory:names-{fresh_name}"
    run("init", "--partitions", "2", store=url)
    result = run(*args, store=url)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, f"Hint: {hint}")

"""Commands that remove something for good: each asks in the same way, and a no is told from a yes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import run

from runner import EventStore, NewEvent, ParkStream, Projection, catch_up
from runner.cli.asking import confirm

#: The commands, and what each says after a yes.
ASKING: dict[str, tuple[tuple[str, ...], str]] = {
    "reset": (("reset", "sums"), "removed 1 row and the checkpoint at position 3"),
    "unregister": (("unregister", "sums"), "removed sums from partition 0"),
    "trim": (("trim", "--before", "2"), "removed 1 event"),
    "drop": (("parked", "drop", "sums"), "a-2: 1 given up"),
}

asking = pytest.mark.parametrize(("command", "done"), ASKING.values(), ids=list(ASKING))


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[str]:
    """A store with three events, one of which is parked."""
    url = f"memory:{tmp_path.name}"
    with EventStore.open(url) as store:
        store.append("a-1", [NewEvent("Added"), NewEvent("Added")])
        store.append("a-2", NewEvent("Bad"))
        projection: Projection[Any] = Projection("sums", on_error=ParkStream())
        projection.when("Added", lambda state, event: {"n": event.number})
        projection.when("Bad", lambda state, event: 1 // 0)
        catch_up(store, projection)
        yield url


def everything(url: str) -> list[str]:
    return [run(*what, store=url).output for what in (("status", "--json"), ("view", "sums"), ("export", "-"))]


@asking
def test_a_no_ends_the_command_with_1_and_removes_nothing(filled: str, command: tuple[str, ...], done: str) -> None:
    """The question and the answer are not in the output that a program reads."""
    before = everything(filled)

    refused = run(*command, "--json", store=filled, text="n\n")

    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.endswith("[y/N]: n\nNothing was removed.\n")
    assert everything(filled)[1:] == before[1:]


@asking
def test_without_an_answer_the_way_out_is_named(filled: str, command: tuple[str, ...], done: str) -> None:
    """As in a script, whose standard input is empty: a mistake, exit code 2."""
    before = everything(filled)

    refused = run(*command, store=filled, text="")

    assert refused.exit_code == 2
    assert "Error: nobody answered the question, so nothing was removed\nHint: Give --yes." in refused.stderr
    assert everything(filled)[1:] == before[1:]


@asking
@pytest.mark.parametrize("text", ["y\n", None], ids=["a yes", "--yes"])
def test_a_yes_goes_on(filled: str, command: tuple[str, ...], done: str, text: str | None) -> None:
    """Given as an answer, or as an option."""
    said = run(*command, *(["--yes"] if text is None else []), store=filled, text=text)

    assert said.exit_code == 0
    assert done in said.stdout
    assert ("[y/N]" in said.stderr) == (text is not None)


def test_an_interrupt_at_the_question_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no answer; the command line ends with 130, as everywhere."""

    def interrupt(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.termui.visible_prompt_func", interrupt)
    with pytest.raises(KeyboardInterrupt):
        confirm("Remove it?")


def test_what_is_asked_says_what_goes(filled: str) -> None:
    """A reset names the rows and the checkpoint, and the way that keeps the view."""
    refused = run("reset", "sums", store=filled, text="n\n")

    assert "would remove 1 row and the checkpoint at position 3\n" in refused.stderr
    assert "`runner rebuild` keeps the old one" in refused.stderr
    assert "Reset sums? [y/N]" in refused.stderr

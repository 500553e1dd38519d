"""User functions whose answer cannot mean anything: refused when they are declared, or a failure when it shows."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from accounts import PAGE_SIZES, rows_of
from faces import FACES, catch_up_on
from workbench import skipped_of

from runner import EventStore, InvalidInput, NewEvent, Projection, Reactor, Skip, catch_up
from runner.aggregates import Aggregate, Repository, handles
from runner.errors import InvalidName, ProjectionError
from runner.forwarding import Forwarder
from runner.operations import export_lines
from runner.testing import TEST_SETTINGS, AggregateScenario, memory_store


def generator(first: Any, second: Any) -> Iterator[Any]:
    """Its body runs for whoever iterates; nobody does."""
    yield first


async def async_generator(first: Any, second: Any) -> AsyncIterator[Any]:
    yield first


class Generating:
    def __call__(self, first: Any, second: Any) -> Iterator[Any]:
        yield first

    def method(self, first: Any, second: Any) -> Iterator[Any]:
        yield first


class Made:
    """A class that can be called with two arguments."""

    def __init__(self, first: Any, second: Any) -> None: ...


#: Handlers that do nothing when they are called, and what is said of them.
REFUSED: dict[str, tuple[Any, str]] = {
    "generator": (generator, "holds a yield"),
    "async generator": (async_generator, "holds a yield"),
    "partial": (functools.partial(lambda factor, first, second: (yield factor), 2), "holds a yield"),
    "partial of an async generator": (functools.partial(async_generator), "holds a yield"),
    "callable object": (Generating(), "holds a yield"),
    "partial of a callable object": (functools.partial(functools.partial(Generating())), "holds a yield"),
    "method": (Generating().method, "holds a yield"),
    "lambda": (lambda first, second: (yield first), "holds a yield"),
    "class": (Made, "is a class"),
    "type": (dict, "is a class"),
    "partial of a class": (functools.partial(functools.partial(Made), 1), "handler 'Made' is a class"),
    "cached generator": (functools.lru_cache(generator), "holds a yield"),
    "cached function of one": (functools.lru_cache(lambda first: None), "must take"),
    "builtin of one": (len, "a handler 'len' must take"),
    "builtin of any": (max, "handler 'max' does not tell which arguments it takes; give a function of"),
    "method of a builtin class": (dict.update, "handler 'update' does not tell"),
    "no function": (7, "must be a function"),
    "one parameter": (lambda first: None, "must take"),
    "three parameters": (lambda first, second, third: None, "must take"),
}

refused = pytest.mark.parametrize(("wrong", "said"), REFUSED.values(), ids=list(REFUSED))


@pytest.mark.parametrize("kind", [Projection, Reactor])
@refused
def test_a_handler_that_cannot_mean_anything_is_refused_when_it_is_declared(kind: Any, wrong: Any, said: str) -> None:
    """C7. The error names the projection or reactor, and the handler; nothing is declared."""
    for declare in (lambda one: one.when("A")(wrong), lambda one: one.when()(wrong)):
        one = kind("careful")
        with pytest.raises(ProjectionError, match=f"'careful'.*{said}"):
            declare(one)
        assert one.types == ()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": lambda event: (yield event)}, "key.*holds a yield"),
        ({"key": lambda: "row"}, r"key.*must take \(event\)"),
        ({"initial": lambda state: {}}, r"initial.*must take \(\)"),
        ({"initial": lambda: (yield {})}, "initial.*holds a yield"),
    ],
)
def test_a_key_or_initial_that_cannot_mean_anything_is_refused(options: dict[str, Any], said: str) -> None:
    """C7. They are called as they are declared: a key with the event, initial with nothing."""
    with pytest.raises(ProjectionError, match=said):
        Projection("careful", **options)


def test_a_key_or_initial_that_would_have_to_be_awaited_is_refused() -> None:
    """C7. Only handlers may be ``async def``."""

    async def key(event: Any) -> str:
        return "row"

    async def initial() -> dict[str, int]:
        return {}

    with pytest.raises(ProjectionError, match="key 'key' is an async def"):
        Projection("careful", key=key)  # type: ignore[arg-type]
    with pytest.raises(ProjectionError, match="initial 'initial' is an async def"):
        Projection("careful", initial=initial)


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    "lazy",
    [
        lambda event, key: generator(event, key),
        lambda event, key: async_generator(event, key),
        lambda event, key: map(print, [event]),
    ],
    ids=["generator", "async generator", "map"],
)
@pytest.mark.parametrize("forwards", [False, True])
def test_a_reactor_that_returns_something_to_iterate_over_has_failed(
    fresh_name: str, face: str, lazy: Callable[..., Any], forwards: bool
) -> None:
    """C7. Nobody iterates, so the effect would never happen, and the event would count as handled."""
    # given
    url = f"memory:{fresh_name}"
    if forwards:

        class Transport:
            def send(self, message: Any) -> Any:
                return lazy(message, "key")

        one: Reactor = Forwarder("lazy", transport=Transport(), on_error=Skip())
    else:
        one = Reactor("lazy", on_error=Skip())
        one.when("Happened", lazy)
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        store.append("a-1", NewEvent("Happened"))

        # when
        applied = catch_up_on(face, url, store.info.name, one)

        # then
        assert applied == 0
        [skipped] = skipped_of(store, "lazy")
        assert "which nobody runs" in skipped.error


@pytest.mark.parametrize("send", [generator, async_generator])
def test_a_transport_whose_send_holds_a_yield_is_refused(send: Any) -> None:
    """C7. The forwarder would send nothing."""
    transport = type("Transport", (), {"send": send})()
    with pytest.raises(InvalidInput, match=r"forwarder 'out': the transport's.*holds a yield"):
        Forwarder("out", transport=transport)


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_a_state_that_cannot_be_stored_blames_its_event_wherever_the_batch_ends(page_size: int) -> None:
    """C7. Also if a later event of the batch fails over that state first."""
    # given
    projection = Projection[Any]("blamed", initial=lambda: {"n": 0}, on_error=Skip())
    projection.when("Good", lambda state, event: {"n": state["n"] + 1})
    projection.when("Bad", lambda state, event: map(print, [event]))
    settings = replace(TEST_SETTINGS, page_size=page_size)
    with EventStore.open("memory:", settings=settings) as store:
        store.append("a-1", [NewEvent(kind) for kind in ("Good", "Bad", "Good", "Good")])

        # when
        catch_up(store, projection)

        # then
        assert [skipped.position for skipped in skipped_of(store, "blamed")] == [2]
        assert rows_of(store, "blamed") == {"a-1": {"n": 3}}


# -- aggregates -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["generator", "async generator", "async", "parameters", "override"])
def test_an_aggregate_with_a_handler_that_cannot_mean_anything_is_refused(form: str) -> None:
    """C7. The class is refused: its state would never change."""
    methods: dict[str, Any] = {
        "generator": lambda self, event: (yield event),
        "async generator": async_generator,
        "async": _async_method,
        "parameters": lambda self: None,
    }
    said = {"async": "is an async def", "override": "is an async def", "parameters": r"must take \(self, event\)"}

    class Base(Aggregate):
        @handles("A")
        def a(self, event: Any) -> None: ...

    with pytest.raises(ProjectionError, match=f"aggregate 'Wrong'.*{said.get(form, 'holds a yield')}"):
        if form == "override":
            type("Wrong", (Base,), {"a": _async_method})
        else:
            type("Wrong", (Aggregate,), {"a": handles("A")(methods[form])})


async def _async_method(self: Any, event: Any) -> None: ...


def test_a_command_that_holds_a_yield_is_refused() -> None:
    """C7. It would not run, and nothing would be saved, without a word."""

    class Thing(Aggregate):
        @handles("A")
        def a(self, event: Any) -> None: ...

    def command(thing: Thing) -> Iterator[None]:
        thing.record("A")
        yield

    with memory_store() as store:
        things = Repository(store, Thing, category="thing")
        for change in (command, lambda thing: command(thing)):
            with pytest.raises(InvalidInput, match="which nobody runs"):
                things.change("1", change)
    AggregateScenario(Thing).when(command).then_raises(InvalidInput, "which nobody runs")


def test_a_callback_that_would_have_to_be_awaited_is_refused() -> None:
    """What an operation tells its progress to is called, not awaited; the error says so before anything is done."""

    async def progress(told: object) -> None: ...

    written: list[bytes] = []
    with memory_store() as store:
        store.append("a-1", NewEvent("Happened"))
        with pytest.raises(InvalidInput, match="progress 'progress' is an async def"):
            export_lines(store, written.append, progress=progress)
    assert written == []


@pytest.mark.parametrize("args", [("T", None), ("T", 5), (5,), (b"T",), ("",), (None,)])
@pytest.mark.parametrize("kind", [Projection, Reactor])
def test_what_is_neither_an_event_type_nor_a_handler_is_refused_at_once(
    kind: type[Projection | Reactor], args: tuple[Any, ...]
) -> None:
    """Else a handler that is missing would be a decorator that nobody uses, and its events would pass unseen."""
    with pytest.raises(InvalidName, match="event type"):
        kind("p").when(*args)

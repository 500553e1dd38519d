"""Projections: plain functions that fold events into the rows of a view.

A handler takes ``(state, event)``. It changes the state in place and returns None, or returns the new state, or
returns `DELETE` to remove the row. It must be a pure function of the two: the runner may call it again for an event
whose result was not committed. Handlers may be ``async def``.

A handler that raises leaves no trace. Rows are kept packed, and unpacked for each batch. So the state that the handler
had begun to change is thrown away, and the row is folded again from its packed form up to the event before. The
projection's policy decides about the event: the fold ends before it, or goes on without it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, final, overload

from ..errors import InvalidInput, InvalidName, ProjectionError, text_of
from ..format.codec import unpack
from ..format.events import RecordedEvent
from ..format.keys import FIRST_BUILD
from ..format.names import check_plain_name
from ..format.sharing import Held
from ..format.states import check_state
from .calling import check_failure
from .functions import check_plain
from .handlers import Handlers
from .policies import DEFAULT, OnError
from .reach import held_by

if TYPE_CHECKING:  # type checkers know this module without its being installed; a default needs no annotation anywhere
    from typing_extensions import TypeVar

    #: The type of a row's state. It must be the same after storing and reading: a dict, a TypedDict, a list, a number.
    State = TypeVar("State", default=Any)
else:
    from typing import TypeVar

    State = TypeVar("State")


@final
class Delete:
    """The type of `DELETE`, for the annotation of handlers that return it."""

    def __repr__(self) -> str:
        return "DELETE"


#: What a handler returns to remove the row.
DELETE: Final = Delete()


#: What a projection takes as a handler: a function of the state and the event, plain or ``async``, that changes the
#: state and returns None, or returns the new state, or `DELETE`.
StateHandler = Callable[[State, RecordedEvent], State | Delete | Awaitable[State | Delete | None] | None]


class Declare(Protocol[State]):
    """The decorator that `Projection.when` returns: it gives the handler back as it was."""

    @overload
    def __call__(
        self, handler: Callable[[State, RecordedEvent], None], /
    ) -> Callable[[State, RecordedEvent], None]: ...
    @overload
    def __call__(
        self, handler: Callable[[State, RecordedEvent], State], /
    ) -> Callable[[State, RecordedEvent], State]: ...
    @overload
    def __call__(
        self, handler: Callable[[State, RecordedEvent], Awaitable[State | Delete | None]], /
    ) -> Callable[[State, RecordedEvent], Awaitable[State | Delete | None]]: ...
    @overload
    def __call__(
        self, handler: Callable[[State, RecordedEvent], State | Delete | None], /
    ) -> Callable[[State, RecordedEvent], State | Delete | None]: ...


def by_stream(event: RecordedEvent) -> str:
    """The default key of a row: the stream's name."""
    return event.stream


class Projection(Handlers, Generic[State]):
    """A fold over events into a view of keyed rows.

    ``category``: only the events of that category; None means all events. ``initial`` is a function that makes the
    state of a new row, each time the same. ``key`` gives the key of an event's row, a text.
    ``build`` names the version of the code: if another version made the live view, the runner makes a new one beside
    it and switches. ``on_error`` is the policy for events that fail (see `runner.projections.policies`).

    Type checkers take the type of a state from ``initial``; ``Projection[dict[str, Any]]("accounts", …)`` overrides it.
    Without either it is Any.

    Raises ProjectionError or InvalidName.
    """

    def __init__(
        self,
        name: str,
        *,
        category: str | None = None,
        initial: Callable[[], State] = dict,  # type: ignore[assignment]  # where none is given, a state is Any
        key: Callable[[RecordedEvent], str] = by_stream,
        build: str = FIRST_BUILD,
        on_error: OnError = DEFAULT,
    ) -> None:
        super().__init__(name, category, on_error)
        check_plain(initial, f"projection {name!r}: initial", "()")
        check_plain(key, f"projection {name!r}: key", "(event)")
        if "." in check_plain_name(build, "build"):
            raise InvalidName(f"projection {name!r}: build {build!r} holds a '.', which numbers rebuilds of one build")
        self.initial = initial
        self.key = key
        self.build = build
        #: Makes the state of a new row, as the view would return it; no two rows share a part of it. Raises what
        #: `check_initial` raises.
        self.new_state: Callable[[], State] = self._first_new_state

    def check_initial(self) -> None:
        """Raise ProjectionError if ``initial`` raises, PayloadError if no row can have the state that it makes."""
        self.new_state()

    @overload
    def when(self, handler: StateHandler[State], /) -> StateHandler[State]: ...
    @overload
    def when(self, type: str, handler: StateHandler[State], /) -> StateHandler[State]: ...
    @overload
    def when(self, type: str, second: str, handler: StateHandler[State], /) -> StateHandler[State]: ...
    @overload
    def when(self, type: str, second: str, third: str, handler: StateHandler[State], /) -> StateHandler[State]: ...
    @overload
    def when(self, *types: str) -> Declare[State]: ...
    def when(self, *args: Any) -> Any:
        """Declare the handler of one or more event types: ``@p.when("A", "B")``, or ``p.when("A", "B", handler)``.

        Without a type, ``@p.when()``, it takes every event that no other handler takes. A handler takes
        ``(state, event)``; it changes the state in place, or returns the new one, or returns `DELETE`. Returns the
        handler, or the decorator that does.

        Raises ProjectionError for a second handler of the same type, or a handler that is not a function of two
        arguments; InvalidName for a type that no event can have.
        """
        return super().when(*args)

    def _first_new_state(self) -> State:
        """Call ``initial``, and from now on make new states without it."""
        what = f"projection {self.name!r}: initial state"
        try:
            made, another = self.initial(), self.initial()
        except BaseException as raised:
            why = f"{type(raised).__name__}: {text_of(check_failure(raised))}"
            raise ProjectionError(
                f"projection {self.name!r}: initial raised {why}",
                hint="It makes the state of a new row, from nothing but itself; what may fail belongs into a handler.",
            ) from raised
        packed = check_state(made, what)
        if packed != check_state(another, what):
            raise ProjectionError(
                f"projection {self.name!r}: initial makes another state each time; what differs from row to row "
                "belongs into a handler, which takes it from the event"
            )
        state = unpack(packed)
        flat = isinstance(state, dict) and not any(isinstance(value, (dict, list, tuple)) for value in state.values())
        self.new_state = state.copy if flat else partial(unpack, packed)
        new: State = self.new_state()  # not `state`, which is what the others are copied from
        return new

    @property
    def keyed_by_stream(self) -> bool:
        """Whether the key of an event's row is the name of its stream: no ``key`` was given."""
        return self.key is by_stream

    @cached_property
    def held(self) -> Held:
        """The lists and maps that the handlers reach between two calls, as they are when this is first asked for."""
        return held_by(self.handler(name) for name in self.types)


def check_projection(value: object, what: str) -> Projection:
    """The value, if it is a Projection that can make rows; ``what`` needs it. Raises InvalidInput."""
    if not isinstance(value, Projection):
        named = "a reactor has no rows" if isinstance(value, Handlers) else f"a {type(value).__name__} is none"
        raise InvalidInput(
            f"{what} needs a Projection, and {named}: {value!r}",
            hint="Give the object itself, as the program or `runner.projections.plugins.load` has it.",
        )
    value.check_initial()
    return value

"""An ``initial`` that raises is refused before any event: else events of new rows would fail for no fault of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from faces import FACES, catch_up_on
from trouble import Trouble

from runner import EventStore, NewEvent, ParkStream, Projection, catch_up, follow, operations, state_at
from runner.errors import ProjectionError
from runner.testing import TEST_SETTINGS, Scenario, memory_store

#: What `initial` raises.
FAULTS: dict[str, Callable[[], BaseException]] = {
    "an error": lambda: Trouble("not yet"),
    "StopIteration": lambda: StopIteration("no more"),
    "SystemExit": lambda: SystemExit(3),
}

faults = pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))


def failing(fault: Callable[[], BaseException]) -> Projection:
    def initial() -> Any:
        raise fault()

    projection = Projection[Any]("tried", initial=initial, on_error=ParkStream())
    projection.when("Happened", lambda state, event: {"n": event.number})
    return projection


@pytest.mark.parametrize("face", FACES)
@faults
def test_a_run_does_not_begin(fresh_name: str, fault: Callable[[], BaseException], face: str) -> None:
    """C7. The error names the projection and what was raised; nothing is parked, and nothing is written."""
    url = f"memory:{fresh_name}"
    with EventStore.open(url, settings=TEST_SETTINGS) as store:
        store.append("a-1", NewEvent("Happened"))

        with pytest.raises(ProjectionError, match=f"projection 'tried': initial raised {type(fault()).__name__}") as no:
            catch_up_on(face, url, store.info.name, failing(fault))

        assert isinstance(no.value.__cause__, type(fault()))
        assert "what may fail belongs into a handler" in no.value.hint
        assert store.driver.execute([("KEYS", "*tried*")]) == [[]]


@faults
def test_all_that_folds_refuses_it_in_the_same_way(fault: Callable[[], BaseException]) -> None:
    """C7, D3. A rebuild, a retry, the past, the test kit, and a follower."""
    good = Projection[Any]("tried")
    good.when("Happened", lambda state, event: {"n": event.number})
    bad = failing(fault)
    with memory_store() as store:
        store.append("a-1", NewEvent("Happened"))
        catch_up(store, good)
        for use in (
            lambda: operations.rebuild(store, bad),
            lambda: operations.retry_parked(store, bad),
            lambda: state_at(store, bad),
            lambda: Scenario(bad),
            lambda: follow(store, bad).__enter__(),
        ):
            with pytest.raises(ProjectionError, match="projection 'tried': initial raised"):
                use()
        assert operations.parked(store) == []
        assert [one.build for one in operations.status(store).projections] == ["1"]


def test_an_interrupt_in_initial_is_one() -> None:
    """C7. It ends what is under way, as everywhere."""
    with memory_store() as store, pytest.raises(KeyboardInterrupt):
        catch_up(store, failing(KeyboardInterrupt))

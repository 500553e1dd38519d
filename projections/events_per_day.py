"""How many events of each type were recorded on each day (UTC): one row a type and day, whatever the stream."""

from runner import Projection, RecordedEvent


def type_and_day(event: RecordedEvent) -> str:
    return f"{event.type} {event.recorded_at:%Y-%m-%d}"


events_per_day = Projection("events-per-day", key=type_and_day, initial=lambda: {"events": 0})


@events_per_day.when()  # no type: every event that no other handler takes
def count(state: dict[str, int], event: RecordedEvent) -> None:
    state["events"] += 1

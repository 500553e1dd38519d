"""How many events of each type were recorded on each day (UTC): one row a type and day, whatever the stream."""

from runner import Projection


def type_and_day(event):
    return f"{event.type} {event.recorded_at:%Y-%m-%d}"


events_per_day = Projection("events-per-day", key=type_and_day, initial=lambda: {"events": 0})


@events_per_day.when()  # no type: every event that no other handler takes
def count(state, event):
    state["events"] += 1

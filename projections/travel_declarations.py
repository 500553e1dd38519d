"""Three views of a log of travel expense declarations: streams ``declaration-<id>``, one a claim.

The log is that of the BPI Challenge 2020 ("Domestic Declarations", a Dutch university): each event is a step such as
``Declaration SUBMITTED by EMPLOYEE`` or ``Payment Handled``, and carries the amount that is claimed.

``declaration-status``    a row a declaration: its last step, its amount in cents, how many steps it took
``declaration-amounts``   how many declarations are in each state, and for how many cents: add up the 16 rows' totals
``declaration-payments``  a row a declaration: its first submission, its first payment, the seconds between them
"""

from typing import Any
from zlib import crc32

from runner import Projection, RecordedEvent

#: What a row is, once it is read again: a map.
Row = dict[str, Any]

SUBMITTED = "Declaration SUBMITTED by EMPLOYEE"
PAID = "Payment Handled"


def cents(event: RecordedEvent) -> int:
    amount: float = event.data["Amount"]
    return round(amount * 100)


declaration_status = Projection[Row](
    "declaration-status", category="declaration", initial=lambda: {"status": "", "cents": 0, "steps": 0}
)


@declaration_status.when()
def step(state: Row, event: RecordedEvent) -> None:
    state["status"] = event.type
    state["cents"] = cents(event)
    state["steps"] += 1


# Which state is a declaration's final one is known only when nothing follows. So a declaration is counted where it is
# now, and moved when it moves: the row must know where it was. An event reaches one row only, so all that a move
# needs is in one row; sixteen rows rather than one keep them small.
def part(event: RecordedEvent) -> str:
    return f"part-{crc32(event.stream.encode()) % 16:02}"


declaration_amounts = Projection[Row](
    "declaration-amounts", category="declaration", key=part, initial=lambda: {"now": {}, "totals": {}}
)


@declaration_amounts.when()
def move(state: Row, event: RecordedEvent) -> None:
    before = state["now"].get(event.stream)
    amount = cents(event)
    if before is not None:
        status, then = before
        add(state["totals"], status, then, count=-1)
    add(state["totals"], event.type, amount, count=1)
    state["now"][event.stream] = [event.type, amount]


def add(totals: Row, status: str, amount: int, count: int) -> None:
    row = totals.setdefault(status, {"declarations": 0, "cents": 0})
    row["declarations"] += count
    row["cents"] += count * amount


declaration_payments = Projection[Row](
    "declaration-payments", category="declaration", initial=lambda: {"submitted": None, "paid": None, "seconds": None}
)


@declaration_payments.when(SUBMITTED)
def submitted(state: Row, event: RecordedEvent) -> None:
    state["submitted"] = state["submitted"] or event.recorded_at


@declaration_payments.when(PAID)
def paid(state: Row, event: RecordedEvent) -> None:
    if state["paid"] is None:
        state["paid"] = event.recorded_at
        if state["submitted"] is not None:  # one claim of the log was paid without ever being submitted
            state["seconds"] = int((event.recorded_at - state["submitted"]).total_seconds())

"""``runner append``: one event, from the command line."""

from __future__ import annotations

from json import JSONDecodeError
from typing import Any
from uuid import UUID, uuid4

import click
import msgspec

from ..errors import InvalidInput
from ..format.events import NewEvent
from ..format.json_lines import from_json
from ..format.json_text import read_json
from ..log.append_plan import ANY, STREAM_EXISTS, ExpectedVersion
from ..sync.store import EventStore
from .common import creating_store_options, json_option, parse_number
from .output import print_json, say


def _expected(text: str) -> ExpectedVersion:
    named: dict[str, ExpectedVersion] = {"any": ANY, "exists": STREAM_EXISTS, "none": 0}
    if text in named:
        return named[text]
    number = parse_number(text, "--expected")
    if number is not None:
        return number
    raise InvalidInput(f"expected version {text!r} is not a number, 'any', 'none' or 'exists'")


def _value(text: str | None, option: str) -> Any:
    if text is None:
        return None
    try:
        value = read_json(text)
    except JSONDecodeError as fault:
        raise InvalidInput(
            f"{option} is not JSON: {fault}", hint="""Quote it for the shell: '{"amount": 5}'."""
        ) from None
    except ValueError as fault:
        raise InvalidInput(f"{option}: {fault}") from None
    try:
        return from_json(value)
    except InvalidInput as fault:
        raise InvalidInput(f"{option}: {fault}") from None


@click.command("append")
@click.argument("stream")
@click.argument("type_", metavar="TYPE")
@click.argument("data", required=False)
@click.option("--metadata", help="JSON, stored beside the data.")
@click.option("--id", "event_id", help="A UUID; appending the same id again changes nothing.")
@click.option("--expected", default="any", show_default=True, help="A version, 'any', 'none' or 'exists'.")
@json_option
@creating_store_options
def command(
    store: EventStore,
    stream: str,
    type_: str,
    data: str | None,
    metadata: str | None,
    event_id: str | None,
    expected: str,
    as_json: bool,
) -> None:
    """Append an event with JSON data to a stream.

    Example: runner append account-1 Deposited '{"amount": 500}' --expected 1
    """
    try:
        chosen = uuid4() if event_id is None else UUID(event_id)
    except ValueError:
        raise InvalidInput(f"--id {event_id!r} is not a UUID") from None
    event = NewEvent(type_, _value(data, "DATA"), _value(metadata, "--metadata"), chosen)
    result = store.append(stream, event, _expected(expected))
    if as_json:
        print_json(msgspec.structs.asdict(result))
    else:
        known = ", which was in the log already" if result.duplicate else ""
        say(f"{stream} is at version {result.version}, position {result.position}{known}")

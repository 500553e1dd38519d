"""Shared by all verbs: options, the exit code of an error, numbers and times that are given as text."""

from __future__ import annotations

import codecs
import functools
import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

import click

from ..errors import InvalidInput, RunnerError, StoreTrouble
from ..format.json_lines import to_json
from ..format.json_text import read_time
from ..format.keys import PartitionKeys
from ..log.trimmed import floor_of
from ..operations.status import projection_names
from ..progress.builds import code_of
from ..progress.runners import live_runners
from ..settings import DEFAULT_NAME, DEFAULTS
from ..sync.store import EventStore
from ..text import nearest, visible, without_passwords
from .output import say, say_error, say_fault, say_warning, show_log

FOUND, MISTAKE, SERVER, INTERRUPTED = 1, 2, 3, 130

#: The default store: an embedded server in the working directory.
DEFAULT_STORE = "embedded:.runner"

#: How letters are written that the encoding of the output lacks, so that JSON stays JSON.
ESCAPES = "runner.escapes"

F = TypeVar("F", bound=Callable[..., Any])


def exit_code(error: RunnerError) -> int:
    """The exit code for an error, by whose fault it is."""
    if isinstance(error, InvalidInput):
        return MISTAKE
    return SERVER if isinstance(error, StoreTrouble) else FOUND


def fail(error: RunnerError) -> NoReturn:
    """Print an error and its hint, and exit."""
    say_error(str(error), error.hint)
    sys.exit(exit_code(error))


def place_options(verb: F) -> F:
    """Add ``--store`` and ``--name`` to a verb, which gets ``url`` and ``name``; see `chosen`."""
    verb = click.option(
        "--name", envvar="RUNNER_NAME", default=DEFAULT_NAME, show_default=True, help="The store's name."
    )(verb)
    return click.option("--store", "url", envvar="RUNNER_STORE", show_default=DEFAULT_STORE, help="The URL.")(verb)


#: Options of a URL that may stand in the environment instead, and which URLs take them.
URL_VARIABLES = {
    "RUNNER_PASSWORD_FILE": ("password_file", ("redis:", "rediss:", "unix:", "redis+sentinel:", "rediss+sentinel:")),
    "RUNNER_SSL_CA_CERTS": ("ssl_ca_certs", ("rediss:", "rediss+sentinel:")),
}


def chosen(url: str | None) -> str:
    """The URL that was given, or the default one, which is told. It has the options that the environment gives."""
    if url is None:
        say(f"The store is {DEFAULT_STORE}, in this directory: RUNNER_STORE is not set.", err=True)
        return DEFAULT_STORE
    return with_environment(url)


def with_environment(url: str) -> str:
    """A URL with those of its options that stand in the environment."""
    for variable, (option, schemes) in URL_VARIABLES.items():
        value = os.environ.get(variable)
        if value and url.startswith(schemes) and f"{option}=" not in url:
            url += f"{'&' if '?' in url else '?'}{option}={quote(value, safe='/')}"
    return url


def store_options(verb: F) -> F:
    """Add ``--store`` and ``--name`` to a verb, which gets the open store as its first argument. It must exist.

    If the verb has an option ``--lease``, the store has that setting.
    """
    return _store_options(verb, create=False)


def creating_store_options(verb: F) -> F:
    """The same for a verb that makes the store if it is not there."""
    return _store_options(verb, create=True)


def _store_options(verb: F, *, create: bool) -> F:
    @place_options
    @functools.wraps(verb)
    def with_store(*args: Any, url: str | None, name: str, **options: Any) -> Any:
        settings = replace(DEFAULTS, lease=options.pop("lease", DEFAULTS.lease))
        with EventStore.open(chosen(url), name=name, settings=settings, create=create) as store:
            return verb(store, *args, **options)

    return with_store  # type: ignore[return-value]


def complete_projections(context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The names of the store's projections that begin so, for the shell; none where the store cannot be read."""
    url = context.params.get("url") or os.environ.get("RUNNER_STORE") or DEFAULT_STORE
    name = context.params.get("name") or os.environ.get("RUNNER_NAME") or DEFAULT_NAME
    try:
        with EventStore.open(url, name=name, create=False) as store:
            return [known for known in projection_names(store) if known.startswith(begun)]
    except RunnerError:
        return []


def projection_argument(*, required: bool = True) -> Callable[[F], F]:
    """Add the argument PROJECTION, which shells complete."""
    return click.argument("projection", required=required, shell_complete=complete_projections)


lease_option = click.option(
    "--lease",
    type=float,
    envvar="RUNNER_LEASE",
    default=DEFAULTS.lease,
    show_default=True,
    metavar="SECONDS",
    help="How long a runner that has gone silent keeps its projections.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")


def say_keepers(store: EventStore, projection: str, live: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Say which runners will keep the builds that are live now, or warn. ``live``: builds with their runners."""
    for build, keepers in dict(live).items():
        if keepers:
            say(f"{projection}: build {build} is kept up to date by {' or '.join(keepers)}")
            continue
        which = f"build {code_of(build)} of {projection}"
        others = store.run(live_runners(store.info))
        nobody = f"none of the runners that are alive has the code of {which}" if others else "no runner is alive"
        say_warning(
            f"{nobody}: the view stays as it is: new events are not applied until a runner with that code runs",
            f"Start `runner run` with the code of {which}.",
        )


def row_as_json(key: str, row: Any) -> dict[str, Any]:
    return {"key": key, "row": to_json(row)}


#: How many digits the largest number has, 2**63 - 1. Python refuses to read numbers of thousands of digits.
MOST_DIGITS = 19

#: The type of options that limit how many items of an iterator are taken.
COUNT = click.IntRange(1, sys.maxsize)


def left_after(store: EventStore, keys: PartitionKeys) -> int:
    """The position after which the events of a partition are left; what was trimmed is said."""
    floor = store.run(floor_of(keys))
    if floor:
        which = f" of partition {keys.partition}" if store.info.partitions > 1 else ""
        say(f"The log{which} is trimmed up to position {floor}: this begins at position {floor + 1}.", err=True)
    return floor


def parse_time(text: str, option: str, *, or_position: bool = False) -> datetime:
    """An ISO 8601 time; without a zone it is UTC. Raises InvalidInput, naming the option, and what else it takes."""
    try:
        time = read_time(text)
    except ValueError:
        what = f"{'not a position and ' if or_position else ''}not an ISO 8601 time such as 2026-01-31T12:00:00+00:00"
        raise InvalidInput(f"{option} {text!r} is {what}") from None
    return time if time.utcoffset() is not None else time.replace(tzinfo=UTC)


def parse_number(text: str, option: str) -> int | None:
    """The number, if the text has only digits, else None. Raises InvalidInput, naming the option, if there are many."""
    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text) > MOST_DIGITS:
        raise InvalidInput(f"{option} must be a number up to 2**63 - 1, not one of {len(text)} digits")
    return int(text)


def name_variables(command: click.Command, prefix: str) -> None:
    """Give each option without a variable of the environment the variable of its name: ``RUNNER_EXPORT_CATEGORY``."""
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None and option.allow_from_autoenv:
            option.envvar = f"{prefix}_{option.opts[0].removeprefix('--').replace('-', '_').upper()}"
    if isinstance(command, click.Group):
        for name, verb in command.commands.items():
            name_variables(verb, f"{prefix}_{name.upper()}")


class Verbs(click.Group):
    """Loads a verb's module when it is asked for, and turns errors into sentences.

    ``verbs`` are the modules by verb; each holds a ``command``.
    """

    def __init__(self, *args: Any, verbs: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._verbs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._verbs:
            return None
        command: click.Command = importlib.import_module(self._verbs[cmd_name]).command
        name_variables(command, "RUNNER" if cmd_name == "run" else f"RUNNER_{cmd_name.upper()}")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._verbs and (meant := nearest(args[0], self._verbs)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {meant!r}?")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **options: Any) -> Any:
        sys.excepthook = say_fault
        return super().main(*args, **options)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _visible_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors=ESCAPES)
        show_log("text", logging.WARNING)
        try:
            with _visible_usage_errors():
                return super().invoke(ctx)
        except RunnerError as error:
            fail(error)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # the reader of our output has seen enough
            _write_no_more()
            sys.exit(0)
        except OSError as fault:
            _write_no_more()
            say_error(f"the output cannot be written: {fault.strerror or fault}")
            sys.exit(MISTAKE)


@contextmanager
def _visible_usage_errors() -> Iterator[None]:
    """What click says of an argument has the argument in it."""
    try:
        yield
    except click.ClickException as error:
        error.message = visible(without_passwords(error.message))  # type: ignore[misc]  # it prints itself, and knows no other way
        raise


def _escaped(fault: UnicodeError) -> tuple[str, int]:
    """The letters that an encoding lacks, as JSON escapes them."""
    if not isinstance(fault, UnicodeEncodeError):
        raise fault
    units = fault.object[fault.start : fault.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True)), fault.end


codecs.register_error(ESCAPES, _escaped)


def _write_no_more() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

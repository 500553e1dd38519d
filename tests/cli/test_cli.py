"""The command line: every verb, its JSON, its exit codes, and one sentence for every mistake."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runner import EventStore, NewEvent
from runner.cli.main import VERBS, main
from runner.testing import all_events
from runner.text import HIDDEN


@pytest.fixture
def memory(fresh_name: str) -> str:
    """The URL of a store in memory that one test's commands share."""
    return f"memory:cli-{fresh_name}"


def run(*args: str, store: str = "", text: str | None = None) -> Result:
    given = [*args, "--store", store] if store else list(args)
    result = CliRunner().invoke(main, given, input=text, env={"COLUMNS": "200"})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def lines(*events: tuple[str, str], **more: object) -> str:
    return "".join(json.dumps({"stream": stream, "type": kind, **more}) + "\n" for stream, kind in events)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_an_example(verb: str) -> None:
    """--help works for every verb and holds an example that begins with the command."""
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert f"Example: runner {verb}" in result.output


def test_an_event_is_appended_and_read(memory: str) -> None:
    """append says version and position; read prints the event, or the line that import takes."""
    assert "version 1, position 1" in run("append", "account-1", "Opened", '{"owner": "Ada"}', store=memory).output
    assert '{"owner": "Ada"}' in run("read", "account-1", store=memory).output
    [line] = run("read", "--json", store=memory).output.splitlines()
    assert json.loads(line)["data"] == {"owner": "Ada"}


def test_a_wrong_expected_version_is_a_conflict(memory: str) -> None:
    """A conflict is one sentence with both versions, a hint, and exit code 1."""
    run("append", "a-1", "X", store=memory)
    result = run("append", "a-1", "X", "--expected", "7", store=memory)
    assert result.exit_code == 1
    assert "expected version 7, actual version 1" in result.stderr
    assert "Hint: " in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("append", "a-1", "X", "{bad"), "DATA is not JSON"),
        (("append", "a-1", "X", "--id", "seven"), "--id 'seven' is not a UUID"),
        (("append", "a-1", "X", "--expected", "new"), "expected version 'new'"),
        (("append", "a-1", "X", "--expected", "9" * 19), "expected version, if it is not ANY"),
        (("append", "a-1", "X", "--expected", "9" * 5000), "not one of 5000 digits"),
        (("trim", "--before", "9" * 5000), "not one of 5000 digits"),
        (("read", "--after", "9" * 20), "after must be a number from 0 to 2**63 - 1"),
        (("read", "a-1", "--category", "a"), "not both"),
        (("append", "account-1", ""), "an event type name must not be empty"),
        (("append", "", "Opened"), "a stream name must not be empty"),
        (("read", "--since", "yesterday"), "'yesterday' is not an ISO 8601 time"),
        (("trim", "--before", "-1"), "'-1' is not a position and not an ISO 8601 time"),
        (("view", "balances", "--as-of", "x"), "'x' is not a position and not an ISO 8601 time"),
        (("view", "nothing"), "knows no projection 'nothing'"),
        (("view", "nothing", "--as-of", "3"), "no plug-in holds a projection 'nothing'; loaded are: balances,"),
        (("parked", "retry", "nothing"), "no plug-in holds a projection 'nothing'; loaded are: balances,"),
        (("reset", "nothing"), "knows no projection 'nothing'"),
        (("import", "/no/such/file"), "/no/such/file cannot be read: No such file"),
        (("export", "/no/such/place/file"), "cannot be written: No such file"),
        (("run", "--once", "--projections", "/no/such.py"), "/no/such.py: there is no such file"),
        (("run", "--once", "--projections", "no_such_module"), "no_such_module: ModuleNotFoundError"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(memory: str, args: tuple[str, ...], text: str) -> None:
    """Whatever the user got wrong, the error names it; there is no traceback."""
    run("init", store=memory)
    result = run(*args, store=memory)
    assert result.exit_code == 2, result.output
    assert text in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://localhost/0?colour=red"])
def test_a_store_url_that_cannot_be_right_is_named(url: str) -> None:
    """An unknown scheme, no scheme, an unknown option: exit code 2."""
    result = run("status", store=url)
    assert result.exit_code == 2
    assert "store URL" in result.stderr
    assert HIDDEN not in result.stderr


def test_a_server_that_is_not_there_is_exit_code_three() -> None:
    """Nobody listens on the reserved port 1: the address is named, the password is not."""
    result = run("status", store="redis://:secret@127.0.0.1:1/0")
    assert result.exit_code == 3
    assert "redis://127.0.0.1:1" in result.stderr
    assert "secret" not in result.output


def test_import_twice_holds_every_event_once(memory: str, tmp_path: Path) -> None:
    """Events without ids get ids that follow from the file, so the second import finds them all."""
    file = tmp_path / "events.jsonl.gz"
    file.write_bytes(
        gzip.compress(lines(("a-1", "X"), ("a-1", "X"), ("b-1", "Y"), time="2026-01-31T12:00:00").encode())
    )
    first = json.loads(run("import", str(file), "--json", store=memory).output)
    second = json.loads(run("import", str(file), "--json", store=memory).output)
    assert (first["appended"], first["known"]) == (3, 0)
    assert (second["appended"], second["known"]) == (0, 3)
    with EventStore.open(memory) as store:
        assert [(event.stream, event.number) for event in all_events(store)] == [("a-1", 1), ("a-1", 2), ("b-1", 1)]


def test_an_import_that_was_cut_short_goes_on(memory: str) -> None:
    """Half of a file, then the whole: the log holds each event once, in order."""
    text = lines(*[(f"a-{place % 7}", f"T{place}") for place in range(2500)])
    half = "".join(text.splitlines(keepends=True)[:1300])
    run("import", "-", store=memory, text=half)
    result = run("import", "-", store=memory, text=text)
    assert "1200 events appended, 1300 were there already" in result.output
    with EventStore.open(memory) as store:
        assert [event.type for event in all_events(store)] == [f"T{place}" for place in range(2500)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"stream": "a-1"}', "'type' is missing"),
        ('{"stream": "a-1", "type": "X", "colour": 1}', "unknown key 'colour'"),
        ('{"stream": "a-1", "type": "X", "id": "7"}', "id '7' is not a UUID"),
        ('{"stream": "a-1", "type": "X", "time": "soon"}', "time 'soon'"),
        ('{"stream": "", "type": "X"}', "must not be empty"),
        ('{"stream": "a-1", "type": "X", "data": 99999999999999999999}', "more than 64 bits"),
    ],
)
def test_a_bad_line_is_named_and_nothing_before_it_is_lost(memory: str, bad: str, reason: str) -> None:
    """The number and the reason; --skip-bad goes on behind it."""
    text = lines(("a-1", "X")) + bad + "\n" + lines(("a-1", "Y"))
    result = run("import", "-", store=memory, text=text)
    assert result.exit_code == 2
    assert "line 2: " in result.stderr
    assert reason in result.stderr
    with EventStore.open(memory) as store:
        assert [event.type for event in all_events(store)] == ["X"]
    result = run("import", "-", "--skip-bad", store=memory, text=text)
    assert result.exit_code == 1
    assert f"skipped line 2: {result.stderr.partition('line 2: ')[2][:5]}" in result.stderr
    with EventStore.open(memory) as store:
        assert [event.type for event in all_events(store)] == ["X", "Y"]


def test_a_compressed_file_that_ends_in_the_middle_is_a_clear_error(memory: str, tmp_path: Path) -> None:
    """What came before the end is in the log."""
    file = tmp_path / "cut.jsonl.gz"
    whole = gzip.compress(lines(*[("a-1", f"T{place}") for place in range(5000)]).encode())
    file.write_bytes(whole[: len(whole) // 2])
    result = run("import", str(file), store=memory)
    assert result.exit_code == 2
    assert "ends in the middle" in result.stderr
    with EventStore.open(memory) as store:
        assert store.last_position() > 0


def test_what_is_exported_is_imported_as_it_was(memory: str, fresh_name: str, tmp_path: Path) -> None:
    """Every kind of value, ids and times survive the way through JSON lines."""
    from datetime import UTC, date, datetime
    from decimal import Decimal
    from uuid import uuid4

    data = {
        "at": datetime(2026, 1, 31, 12, tzinfo=UTC), "on": date(2026, 1, 31), "id": uuid4(), "sum": Decimal("1.50"),
        "raw": b"\x00\xff", "pair": (1, 2), "map": {1: "one"}, "like a tag": {"$runner:date": "not one"}, "text": "ü🙂",
    }  # fmt: skip
    with EventStore.open(memory) as store:
        store.append("a-1", [NewEvent("X", data, {"by": "Ada"}), NewEvent("Y")])
        before = all_events(store)
    file = tmp_path / "out.jsonl"
    assert run("export", str(file), store=memory).exit_code == 0
    other = f"memory:other-{fresh_name}"
    assert run("import", str(file), store=other).exit_code == 0
    with EventStore.open(other) as store:
        after = all_events(store)
    assert after == before
    assert after[0].data == data
    assert after[0].metadata == {"by": "Ada"}


def test_a_store_is_restored_from_an_export_with_positions(memory: str, fresh_name: str, tmp_path: Path) -> None:
    """Into a new store, which gets as many partitions; what is no such export makes no store."""
    file, other = tmp_path / "out.jsonl.gz", f"memory:other-{fresh_name}"
    with EventStore.open(memory, partitions=3) as store:
        for number in range(9):
            store.append(f"a-{number}", NewEvent("X"))
        before = all_events(store)
    assert "9 events exported" in run("export", str(file), "--with-positions", store=memory).stdout
    for _ in range(2):
        assert run("import", str(file), "--keep-positions", store=other).exit_code == 0
    with EventStore.open(other) as store:
        assert all_events(store) == before

    plain, third = tmp_path / "plain.jsonl", f"memory:third-{fresh_name}"
    assert run("export", str(plain), store=memory).exit_code == 0
    refused = run("import", str(plain), "--keep-positions", store=third)
    assert refused.exit_code == 2
    assert "runner export --with-positions" in refused.stderr
    with EventStore.open(third, partitions=2):
        pass


def test_the_status_tells_that_a_store_is_not_restored_yet(memory: str, fresh_name: str, tmp_path: Path) -> None:
    """Also where no projection was run, and as a line of its own; after the whole import it does not."""
    # given
    file, other = tmp_path / "out.jsonl", f"memory:other-{fresh_name}"
    for _ in range(3):
        run("append", "a-1", "X", store=memory)
    run("export", str(file), "--with-positions", store=memory)
    whole = file.read_bytes()
    file.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert run("import", str(file), "--keep-positions", store=other).exit_code == 2

    # when
    halfway = run("status", store=other)
    file.write_bytes(whole)
    run("import", str(file), "--keep-positions", store=other)
    after = run("status", store=other)

    # then
    assert (halfway.exit_code, after.exit_code) == (0, 0)
    assert "Warning: store 'es' is being restored, and is not whole yet\n" in halfway.stderr
    assert "restored" not in after.stderr


def test_a_store_is_copied_into_one_with_other_partitions(memory: str, fresh_name: str) -> None:
    """The target is made; digests are printed when they are asked for; bookmarks that are left are told."""
    target, third = f"memory:to-{fresh_name}", f"memory:third-{fresh_name}"
    with EventStore.open(memory, partitions=2) as store:
        for number in range(9):
            store.append(f"a-{number}", [NewEvent("X"), NewEvent("Y")])
        store.append_many([], bookmark=("feed", 7), partition=1)
    for _ in range(2):
        done = run("copy", memory, target, "--partitions", "3", "--digests")
        assert done.exit_code == 0, done.output
        assert "18 events in 9 streams: positions are new" in done.stdout
        assert ", the same in source and target" in done.stdout
        assert re.search(r"^[0-9a-f]{32}  2 events  a-4$", done.stdout, re.MULTILINE)
        assert "1 bookmark not copied, because positions are new" in done.stderr
    with EventStore.open(target) as store:
        assert (store.info.partitions, len(all_events(store))) == (3, 18)

    found = json.loads(run("copy", memory, third, "--json").stdout)
    assert (found["good"], found["positions_kept"], found["copied"], len(found["streams"])) == (True, True, 18, 9)
    assert run("copy", f"memory:none-{fresh_name}", third).exit_code == 2

    with EventStore.open(memory) as store:
        store.append("a-1", NewEvent("Z"))
    refused = run("copy", memory, third)
    assert refused.exit_code == 2
    assert "is not empty" in refused.stderr


def test_numbers_that_json_lacks_are_printed_as_json(memory: str, tmp_path: Path) -> None:
    """Events and rows that hold NaN or infinity are objects with a tag, in every output."""

    def read(text: str) -> list[Any]:
        return [json.loads(each, parse_constant=lambda name: pytest.fail(name)) for each in text.splitlines()]

    plugin = tmp_path / "odd.py"
    plugin.write_text(
        "from runner import Projection\nodd = Projection('odd')\n"
        "@odd.when('X')\ndef x(state, event):\n    state['n'] = event.data\n"
    )
    run("append", "a-1", "X", '{"$runner:float": "-Infinity"}', store=memory)
    run("run", "--once", "--projections", str(plugin), store=memory)

    tagged = {"$runner:float": "-Infinity"}
    assert [event["data"] for event in read(run("read", "--json", store=memory).output)] == [tagged]
    assert [event["data"] for event in read(run("export", store=memory).output)] == [tagged]
    [rows] = read(run("view", "odd", "--json", store=memory).output)
    assert '"n": {"$runner:float": "-Infinity"}' in json.dumps(rows)


@pytest.mark.parametrize(
    ("chosen", "ran"),
    [
        (("--only", "a", "--only", "c"), {"a", "c"}),
        (("--except", "a"), {"b", "c"}),
        (("--except", "a", "--except", "b", "--except", "c"), None),
    ],
)
def test_a_runner_runs_the_projections_that_are_chosen(
    memory: str, tmp_path: Path, chosen: tuple[str, ...], ran: set[str] | None
) -> None:
    plugin = tmp_path / "three.py"
    plugin.write_text("from runner import Projection\na, b, c = Projection('a'), Projection('b'), Projection('c')\n")
    run("append", "s-1", "X", "{}", store=memory)
    result = run("run", "--once", "--accept-bad", "--projections", str(plugin), *chosen, store=memory)
    if ran is None:
        assert (result.exit_code, "no projection to run" in result.stderr) == (2, True)
        return
    assert result.exit_code == 0
    status = json.loads(run("status", "--json", store=memory).output)
    assert {one["name"] for one in status} == ran


def test_a_runner_names_a_chosen_projection_that_is_not_there(memory: str, tmp_path: Path) -> None:
    plugin = tmp_path / "one.py"
    plugin.write_text("from runner import Projection\na = Projection('a')\n")
    for option in ("--only", "--except"):
        result = run("run", "--once", "--projections", str(plugin), option, "b", store=memory)
        assert (result.exit_code, "no plug-in holds a projection 'b'; loaded are: a" in result.stderr) == (2, True)
    result = run("run", "--once", "--projections", str(plugin), "--only", "a", "--except", "a", store=memory)
    assert (result.exit_code, "were both given" in result.stderr) == (2, True)


def test_a_view_is_shown_now_and_as_it_was(memory: str) -> None:
    """run --once makes the view; view prints it, one row of it, and what it was at a position or a time."""
    run("append", "account-1", "Opened", '{"owner": "Ada"}', store=memory)
    run("append", "account-1", "Deposited", '{"amount": 5}', store=memory)
    assert run("run", "--once", "--accept-bad", store=memory).exit_code == 0
    assert '"balance": 5' in run("view", "balances", store=memory).output
    [row] = [json.loads(line) for line in run("view", "balances", "--json", store=memory).output.splitlines()]
    assert row == {"key": "account-1", "row": {"owner": "Ada", "balance": 5, "movements": 1}}
    assert '"balance": 0' in run("view", "balances", "account-1", "--as-of", "1", store=memory).output
    result = run("view", "balances", "account-1", "--as-of", "2000-01-01", store=memory)
    assert result.exit_code == 1
    assert "no row 'account-1'" in result.stderr


def test_status_tells_position_and_lag_while_no_runner_runs(memory: str) -> None:
    """After a run that has ended, an append is lag of one event, which waits."""
    run("append", "account-1", "Opened", '{"owner": "Ada"}', store=memory)
    run("run", "--once", "--accept-bad", store=memory)
    run("append", "account-1", "Deposited", '{"amount": 5}', store=memory)
    found = {one["name"]: one for one in json.loads(run("status", "--json", store=memory).output)}
    assert (found["balances"]["state"], found["balances"]["position"], found["balances"]["lag"]) == ("idle", 1, 1)
    assert found["balances"]["lag_seconds"] > 0
    assert "balances" in run("status", store=memory).output


def test_status_and_doctor_warn_of_code_that_changed_without_its_build(memory: str, tmp_path: Path) -> None:
    """The table is as ever; the warning with its advice stands beside it."""
    text = "from runner import Projection\nsums = Projection('sums')\nsums.when(lambda state, event: {'rate': 1})\n"
    for rate in ("1", "2"):
        (tmp_path / f"sums{rate}.py").write_text(text.replace("'rate': 1", f"'rate': {rate}"))
        run("append", "account-1", "Opened", store=memory)
        run("run", "--once", "--accept-bad", "--projections", str(tmp_path / f"sums{rate}.py"), store=memory)
    found = run("status", store=memory)
    assert found.exit_code == 0
    assert "Warning: the code of projection 'sums' changed at position 1, its build '1' did not" in found.stderr
    assert "Give changed code another build." in found.stderr
    assert "its build '1' did not" in run("doctor", store=memory).stdout


def test_status_warns_of_a_view_that_was_deleted_by_hand(memory: str) -> None:
    """Beside the table, with what to do."""
    run("append", "account-1", "Opened", '{"owner": "Ada"}', store=memory)
    run("run", "--once", "--accept-bad", store=memory)
    with EventStore.open(memory) as store:
        store.driver.execute([("DEL", store.info.keys[0].view("balances", "1"))])
        found = run("status", store=memory)
        assert "the view of projection 'balances' (build '1') has 0 rows and should have 1" in found.stderr
        assert run("rebuild", "balances", store=memory).exit_code == 0
        assert "by hand" not in run("status", store=memory).stderr  # the previous build goes with the next rebuild


def test_reset_says_what_it_would_remove_and_then_removes_it(memory: str) -> None:
    """--dry-run changes nothing; without it the next run makes the same view again."""
    run("append", "account-1", "Opened", '{"owner": "Ada"}', store=memory)
    run("run", "--once", "--accept-bad", store=memory)
    before = run("view", "balances", store=memory).output
    assert "would remove 1 row and" in run("reset", "balances", "--dry-run", store=memory).output
    assert run("view", "balances", store=memory).output == before
    assert "removed 1 row and" in run("reset", "balances", "--yes", store=memory).output
    assert run("view", "balances", store=memory).exit_code == 2
    run("run", "--once", "--accept-bad", store=memory)
    assert run("view", "balances", store=memory).output == before


def test_a_projection_is_forgotten_after_a_question(memory: str) -> None:
    """What would go is listed before, in each partition; a script has to say --yes; --yes does not ask."""
    # given
    run("append", "account-1", "Opened", '{"owner": "Ada"}', store=memory)
    run("append", "account-1", "Deposited", '{"amount": 5}', store=memory)
    run("run", "--once", "--accept-bad", store=memory)

    # when
    no = run("unregister", "balances", store=memory, text="n\n")
    silent = run("unregister", "balances", store=memory, text="")
    yes = run("unregister", "balances", "--yes", store=memory)

    # then
    would = (
        "would remove balances from partition 0: build 1, the checkpoint at position 2, 1 row, 0 parked events, "
        "0 records of skipped events"
    )
    assert would in no.stderr
    assert "Forget balances for good?" in no.stderr
    assert (no.exit_code, silent.exit_code, yes.exit_code) == (1, 2, 0)
    assert yes.stdout == would.replace("would remove", "removed") + "\n"
    assert run("unregister", "balances", store=memory).exit_code == 2


def test_verify_finds_nothing_in_a_sound_store_and_names_what_is_wrong_in_a_damaged_one(memory: str) -> None:
    """Each kind of damage is a finding with its entry, and makes the exit code 1."""
    for _ in range(5):
        run("append", "a-1", "X", store=memory)
    run("append", "b-1", "Y", store=memory)
    run("run", "--once", "--accept-bad", store=memory)
    assert "6 events, nothing wrong" in run("verify", store=memory).output
    with EventStore.open(memory) as store:
        keys = store.info.keys[0]
        log, index = keys.log, keys.stream
        [[(_, [_, envelope])]] = store.driver.execute([("XRANGE", log, "1-1", "1-1")])
        store.driver.execute([
            ("XDEL", log, "3-3"),  # an event is gone
            ("XADD", log, "9-6", "e", envelope),  # a gap, and an id for the second time
            ("XADD", log, "10-7", "e", b"\xff"),  # nobody can read this
            ("DEL", index("b-1")),  # an index is gone
            ("HSET", keys.build("balances", "1"), "id", "x" * 16),  # another history
            ("HSET", keys.bookmarks, "mine", "soon"),
        ])  # fmt: skip
    result = run("verify", store=memory)
    assert result.exit_code == 1
    for part in (
        "position 3 missing", "positions 7 to 8 missing", "is in stream 'a-1' twice", "cannot be decoded",
        "stream 'b-1' has events in the log but no index", "stands at position 6", "is no position",
        f"{index('a-1')} 3-3: points to position 3",
    ):  # fmt: skip
        assert part in result.output, part
    found = json.loads(run("verify", "--json", store=memory).output)
    assert len(found["findings"]) == len(result.stdout.splitlines())


@pytest.mark.real
def test_doctor_finds_the_embedded_server_fit(real_url: str) -> None:
    """Every check is good on a server of our own."""
    run("init", store=real_url)
    checks = json.loads(run("doctor", "--json", store=real_url).output)
    assert {check["verdict"] for check in checks} == {"good"}
    assert {check["name"] for check in checks} >= {"version", "durability", "eviction", "expiry", "clock", "round trip"}


@pytest.mark.real
def test_doctor_and_run_refuse_a_server_that_is_not_fit(tmp_path: Path) -> None:
    """Eviction, no append-only file, a log that expires: bad, with what to do; run refuses unless told to accept."""
    url = f"embedded:{tmp_path}/s"
    with EventStore.open(url) as store:
        store.append("a-1", NewEvent("X"))
        store.driver.execute([
            ("CONFIG", "SET", "maxmemory", "100mb"),
            ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru"),
            ("CONFIG", "SET", "appendonly", "no"),
            ("EXPIRE", store.info.keys[0].log, 1000),
        ])  # fmt: skip
        result = run("doctor", "--json", store=url)
        assert result.exit_code == 3
        bad = {check["name"]: check["advice"] for check in json.loads(result.output) if check["verdict"] == "bad"}
        assert bad.keys() == {"durability", "eviction", "expiry"}
        assert all(bad.values())
        refused = run("run", "--once", store=url)
        assert refused.exit_code == 3
        assert "not fit" in refused.stderr
        assert "--accept-bad" in refused.stderr
        assert run("run", "--once", "--accept-bad", store=url).exit_code == 0


def test_projections_are_listed_with_file_and_types() -> None:
    """The shipped ones, when no place is given."""
    found = {one["name"]: one for one in json.loads(run("projections", "--json").output)}
    assert found["balances"]["types"] == ["Closed", "Deposited", "Opened", "Withdrawn"]
    assert found["events-per-day"]["category"] is None
    assert found["declaration-status"]["file"].endswith("travel_declarations.py")
    assert "balances" in run("projections").output


def test_tail_prints_what_it_is_asked_for(memory: str) -> None:
    """After a position, a stream or a category, up to a limit."""
    for stream in ("a-1", "b-1", "a-2"):
        run("append", stream, "X", store=memory)
    output = run("tail", "--category", "a", "--after", "0", "--limit", "2", "--json", store=memory).output
    assert [json.loads(line)["stream"] for line in output.splitlines()] == ["a-1", "a-2"]


def test_parked_and_skipped_events_are_shown_up_to_a_limit(memory: str, tmp_path: Path) -> None:
    """The table says how many there are; with --json every row is listed. Of skipped events the last are shown."""
    plugin = tmp_path / "fails.py"
    plugin.write_text(
        "from runner import ParkStream, Projection, Skip\n"
        "parks, skips = Projection('parks', on_error=ParkStream()), Projection('skips', on_error=Skip())\n"
        "for each in (parks, skips):\n    each.when('X')(lambda state, event: event.data['no'])\n"
    )
    for number in range(3):
        run("append", f"a-{number}", "X", '{"yes": 1}', store=memory)
    run("run", "--once", "--accept-bad", "--projections", str(plugin), store=memory)

    some = run("parked", "--limit", "2", store=memory).output
    assert "3 parked events in 3 rows; shown: the first 2 (see --limit)" in some
    assert ("a-1" in some, "a-2" in some) == (True, False)
    assert "shown" not in run("parked", store=memory).output
    assert len(json.loads(run("parked", "--json", "--limit", "1", store=memory).output)) == 3
    shown = run("parked", "show", "parks", "--limit", "2", store=memory).output
    assert [f"event 1 of a-{number}" in shown for number in range(3)] == [True, True, False]
    shown = run("skipped", "--limit", "2", store=memory).output
    assert [f"event 1 of a-{number}" in shown for number in range(3)] == [False, True, True]
    assert len(json.loads(run("skipped", "--json", store=memory).output)) == 3

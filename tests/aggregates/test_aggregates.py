"""Aggregates: commands, events applied at once, replay, conflicts, and snapshots that are never believed too much."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import ExitStack
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, cast
from zlib import crc32

import pytest
from accounts import closed, deposited, in_thread
from servers import server

from runner import AsyncEventStore, EventStore, InvalidInput, NewEvent, WrongExpectedVersion
from runner.aggregates import Aggregate, AsyncRepository, Happened, Repository, handles
from runner.embedded.server import find_binary
from runner.errors import InvalidName, LogTrimmed, PayloadError, ProjectionError
from runner.format.checksum import unseal
from runner.format.codec import pack
from runner.log.records import record_of
from runner.operations.trim import Trim
from runner.testing import TEST_SETTINGS, memory_store

DOCUMENT = (Path(__file__).parents[2] / "docs" / "aggregates.md").read_text()


class Account(Aggregate):
    """Counts what its handlers saw, beside its state."""

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id)
        self.balance = 0
        self.entries: list[Any] = []
        self._seen: list[int] = []

    def deposit(self, amount: int = 10) -> None:
        self.record("Deposited", {"amount": amount})

    def withdraw(self, amount: int) -> None:
        if amount > self.balance:
            raise ValueError(f"{amount} is more than {self.balance}")
        self.record("Withdrew", {"amount": amount}, {"by": "Ada"})

    @handles("Deposited", "Withdrew")
    def _moved(self, event: Happened) -> None:
        self.balance += event.data["amount"] if event.type == "Deposited" else -event.data["amount"]
        self.entries.append((event.type, event.data))
        self._seen.append(event.data["amount"])


def deposit_times(account: Account, times: int) -> None:
    for _ in range(times):
        account.deposit()


def loaded_with(store: EventStore, *amounts: int, every: int | None = None) -> Repository[Account]:
    """A repository in which account 1 has these deposits, saved one by one."""
    accounts = Repository(store, Account, category="account", snapshot_every=every)
    account = accounts.load("1")
    for amount in amounts:
        account.deposit(amount)
        accounts.save(account)
    return accounts


def key_of(store: EventStore, stream: str = "account-1") -> str:
    return f"{store.info.of_stream(stream).tag}:snapshot:{stream}"


def stored_snapshot(store: EventStore) -> bytes | None:
    [found] = store.driver.execute([("GET", key_of(store))])
    return found  # type: ignore[no-any-return]


def store_snapshot(store: EventStore, content: Any) -> None:
    packed = pack([b"random..", *content] if isinstance(content, list) else content)
    store.driver.execute([("SET", key_of(store), crc32(packed).to_bytes(4, "big") + packed)])


# -- without a store ----------------------------------------------------------------------------


def test_a_new_aggregate_has_version_0_and_nothing_uncommitted() -> None:
    """It has an id and its first state, and nothing else."""
    account = Account("1")
    assert (account.id, account.version, account.uncommitted, account.balance) == ("1", 0, (), 0)


def test_a_recorded_event_is_applied_at_once_and_waits_to_be_saved() -> None:
    """The state is the new one, the version still the old one, and the event is kept with its data and metadata."""
    account = Account("1")
    account.deposit(70)
    account.withdraw(20)
    assert (account.balance, account.version) == (50, 0)
    assert [(event.type, event.data, event.metadata) for event in account.uncommitted] == [
        ("Deposited", {"amount": 70}, None),
        ("Withdrew", {"amount": 20}, {"by": "Ada"}),
    ]


def test_a_command_that_refuses_records_nothing() -> None:
    """What a rule forbids has not happened."""
    account = Account("1")
    with pytest.raises(ValueError, match="5 is more than 0"):
        account.withdraw(5)
    assert (account.balance, account.uncommitted) == (0, ())


def test_what_is_recorded_is_a_copy_for_the_handler_and_for_the_log() -> None:
    """Neither a caller who changes its data later nor a handler that keeps it and changes it alters the event."""
    # given
    account, data = Account("1"), {"amount": 5}
    account.record("Deposited", data)

    # when
    data["amount"] = 6
    account.entries[0][1]["amount"] = 7

    # then
    assert account.uncommitted[0].data == {"amount": 5}


def test_a_type_without_a_handler_cannot_be_recorded() -> None:
    """A misspelt type is an error of the caller, who is told what to declare."""
    account = Account("1")
    with pytest.raises(InvalidInput, match="has no handler for event type 'Depositd'; declare one with @handles"):
        account.record("Depositd", {"amount": 5})
    assert account.uncommitted == ()


def test_what_cannot_be_stored_is_refused_when_it_is_recorded() -> None:
    """The state is as it was, and the text names the path."""
    account = Account("1")
    with pytest.raises(PayloadError, match=r"event 'Deposited': data\.amount cannot be stored: a set"):
        account.record("Deposited", {"amount": {5}})
    assert (account.balance, account.uncommitted) == (0, ())


def test_handlers_are_inherited_and_overridden() -> None:
    """A subclass has its parent's handlers, and further types; a method of the same name replaces the parent's."""

    class Savings(Account):
        def _moved(self, event: Happened) -> None:
            super()._moved(event)
            self.balance += 1

        @handles("Closed")
        def _closed(self, event: Happened) -> None:
            self.balance = 0

    savings = Savings("1")
    savings.deposit(5)
    assert savings.balance == 6
    savings.record("Closed")
    assert savings.balance == 0
    with pytest.raises(InvalidInput):
        Account("1").record("Closed")


def test_two_handlers_for_a_type_and_a_handler_for_none_are_refused() -> None:
    """The mistake is told when the class is made."""
    with pytest.raises(ProjectionError, match="aggregate 'Twice': two handlers for event type 'A'"):

        class Twice(Aggregate):
            @handles("A")
            def one(self, event: Happened) -> None: ...

            @handles("B", "A")
            def two(self, event: Happened) -> None: ...

    with pytest.raises(ProjectionError, match="needs the event types"):
        handles()
    with pytest.raises(InvalidName):
        handles("a\nb")


# -- loading and saving -------------------------------------------------------------------------


def test_load_replays_history_and_leaves_nothing_uncommitted(store: EventStore) -> None:
    """State and version are those of the stream, over several pages; events that no handler takes pass by."""
    # given
    store.append("account-1", [*(deposited(1) for _ in range(1200)), closed()])
    store.append("account-2", deposited(1000))

    # when
    account = Repository(store, Account, category="account").load("1")

    # then
    assert (account.balance, account.version, account.uncommitted) == (1200, 1201, ())


def test_what_was_never_saved_loads_as_new(store: EventStore) -> None:
    """Nothing is made by loading."""
    account = Repository(store, Account, category="account").load("1")
    assert (account.version, account.balance, store.last_position()) == (0, 0, 0)


def test_save_appends_with_the_loaded_version_and_clears(store: EventStore) -> None:
    """The stream holds the events, the aggregate goes on at the new version, and its next save follows."""
    # given
    accounts = Repository(store, Account, category="account")
    account = Account("1")
    account.deposit(70)
    account.withdraw(20)

    # when
    first = accounts.save(account)

    # then
    assert (first.stream, first.version, first.position, first.duplicate) == ("account-1", 2, 2, False)
    assert (account.version, account.uncommitted, account.balance) == (2, (), 50)
    account.deposit(1)
    assert accounts.save(account).version == 3
    assert [(event.type, event.data, event.metadata) for event in store.read_stream("account-1")] == [
        ("Deposited", {"amount": 70}, None),
        ("Withdrew", {"amount": 20}, {"by": "Ada"}),
        ("Deposited", {"amount": 1}, None),
    ]
    again = accounts.load("1")
    assert (again.state(), again.version) == (account.state(), 3)


def test_saving_nothing_writes_nothing(store: EventStore) -> None:
    """The result says the version and no position, so whoever waits for it waits for nothing."""
    accounts = loaded_with(store, 5)
    result = accounts.save(accounts.load("1"))
    assert (result.stream, result.version, result.position) == ("account-1", 1, 0)
    assert store.last_position() == 1


def test_of_two_loaded_copies_the_second_save_is_refused(store: EventStore) -> None:
    """It raises WrongExpectedVersion, writes nothing, and keeps what it could not save."""
    # given
    accounts = loaded_with(store, 10)
    mine, yours = accounts.load("1"), accounts.load("1")
    mine.withdraw(10)
    yours.withdraw(10)

    # when
    accounts.save(mine)
    with pytest.raises(WrongExpectedVersion) as conflict:
        accounts.save(yours)

    # then
    assert (conflict.value.stream, conflict.value.expected, conflict.value.actual) == ("account-1", 1, 2)
    assert (yours.version, len(yours.uncommitted)) == (1, 1)
    assert accounts.load("1").balance == 0


def test_two_new_aggregates_of_one_id_are_a_conflict(store: EventStore) -> None:
    """Version 0 means that the stream must not exist."""
    accounts = loaded_with(store, 10)
    another = Account("1")
    another.deposit(5)
    with pytest.raises(WrongExpectedVersion):
        accounts.save(another)


def test_a_save_that_was_not_answered_may_be_repeated(store: EventStore) -> None:
    """The events keep their ids: saving the same aggregate again stores them once, and says so."""
    # given: the append ran, and nobody was told
    accounts = loaded_with(store, 10)
    account = accounts.load("1")
    account.deposit(5)
    store.append("account-1", account.uncommitted, expected_version=1)

    # when
    result = accounts.save(account)

    # then
    assert (result.duplicate, result.version, account.uncommitted) == (True, 2, ())
    assert store.version("account-1") == 2


def test_an_aggregate_whose_handler_raised_is_not_saved() -> None:
    """Its state is half of something; the error names the event, and what was loaded anew is fine."""

    class Fragile(Account):
        @handles("Broken")
        def _broken(self, event: Happened) -> None:
            self.balance = -1
            raise LookupError("halfway")

    with memory_store() as store:
        # given
        accounts = Repository(store, Fragile, category="account")
        account = Fragile("1")
        account.deposit(5)

        # when
        with pytest.raises(LookupError) as fault:
            account.record("Broken")

        # then
        assert "'Fragile', '1': while" in fault.value.__notes__[0]
        assert [event.type for event in account.uncommitted] == ["Deposited"]
        with pytest.raises(InvalidInput, match="its handler of 'Broken' raised"):
            accounts.save(account)
        assert store.last_position() == 0
        store.append("account-2", NewEvent("Broken"))
        with pytest.raises(LookupError, match="halfway"):
            accounts.load("2")


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda store: Repository(store, Account, category="a-b"), "holds a '-'"),
        (lambda store: Repository(store, Account, category=""), "must not be empty"),
        (lambda store: Repository(store, cast("Any", dict), category="a"), "needs a subclass of Aggregate"),
        (lambda store: Repository(store, Account, category="a", snapshot_every=0), "snapshot_every must be a number"),
        (lambda store: Repository(store, Account, category="a").load(""), "must not be empty"),
        (lambda store: Repository(store, Account, category="a").load("x" * 511), "longer than 512 bytes"),
        (lambda store: Repository(store, Account, category="a").save(cast("Any", Aggregate("1"))), "cannot save"),
        (lambda store: Repository(store, Account, category="a").change("1", Account.deposit, attempts=0), "attempts"),
    ],
)
def test_what_cannot_be_right_is_refused(wrong: Any, reason: str) -> None:
    """With the reason, and before anything is written."""
    with memory_store() as store:
        with pytest.raises(InvalidInput, match=reason):
            wrong(store)
        assert store.last_position() == 0


# -- change -------------------------------------------------------------------------------------


def interrupted(store: EventStore, times: int, seen: list[int]) -> Any:
    """A command before whose save another writer is faster, so many times."""

    def command(account: Account) -> None:
        seen.append(account.balance)
        if len(seen) <= times:
            store.append("account-1", deposited(100))
        account.withdraw(1)

    return command


def test_change_decides_again_when_another_writer_was_faster(store: EventStore) -> None:
    """Each attempt sees what the other writers did; the last one is saved, once."""
    accounts, seen = loaded_with(store, 10), list[int]()
    result = accounts.change("1", interrupted(store, 2, seen), attempts=3)
    assert seen == [10, 110, 210]
    assert (result.version, accounts.load("1").balance) == (4, 209)


def test_change_gives_up_after_its_attempts(store: EventStore) -> None:
    """The conflict is raised, and nothing of the command was stored."""
    accounts, seen = loaded_with(store, 10), list[int]()
    with pytest.raises(WrongExpectedVersion):
        accounts.change("1", interrupted(store, 9, seen), attempts=3)
    assert len(seen) == 3
    assert accounts.load("1").balance == 310


def test_change_does_not_repeat_what_a_rule_refused(store: EventStore) -> None:
    """A command that raises is run once, and its error is the caller's."""
    accounts, calls = loaded_with(store, 10), list[int]()

    def too_much(account: Account) -> None:
        calls.append(1)
        account.withdraw(11)

    with pytest.raises(ValueError, match="11 is more than 10"):
        accounts.change("1", too_much)
    assert (len(calls), store.version("account-1")) == (1, 1)


def test_of_many_writers_every_change_counts_once(store: EventStore) -> None:
    """Four threads, one aggregate, snapshots on the way: no change is lost or stored twice, and none breaks a rule."""
    # given
    accounts = loaded_with(store, 30, every=7)
    refused: list[int] = []

    def withdraw_ten_times() -> None:
        for _ in range(10):
            try:
                accounts.change("1", lambda account: account.withdraw(1), attempts=1000)
            except ValueError:
                refused.append(1)

    # when
    with ExitStack() as threads:
        for _ in range(4):
            threads.enter_context(in_thread(withdraw_ten_times))

    # then
    account = accounts.load("1")
    assert (account.balance, account.version, len(refused)) == (0, 31, 10)
    assert account.state() == Repository(store, Account, category="account").load("1").state()


# -- snapshots ----------------------------------------------------------------------------------


def test_only_what_follows_the_snapshot_is_replayed(store: EventStore) -> None:
    """State, version and what is not state are as they should be, with events in and behind the snapshot."""
    # given
    accounts = loaded_with(store, 1, 2, 3, 4, 5, every=3)

    # when
    account = accounts.load("1")

    # then
    assert account._seen == [4, 5]
    plain = Repository(store, Account, category="account").load("1")
    assert plain._seen == [1, 2, 3, 4, 5]
    assert (account.state(), account.version, account.uncommitted) == (plain.state(), 5, ())
    assert [type(entry) for entry in account.entries] == [tuple] * 5


def test_a_snapshot_is_taken_when_so_many_events_were_saved_since_the_last(store: EventStore) -> None:
    """Counted over loads and saves, whatever the size of a save."""
    accounts, seen = Repository(store, Account, category="account", snapshot_every=3), list[bool]()
    for size in (2, 1, 1, 1, 4, 2, 1):
        before = stored_snapshot(store)
        accounts.change("1", partial(deposit_times, times=size))
        seen.append(stored_snapshot(store) != before)
    assert seen == [False, True, False, False, True, False, True]


def test_without_snapshot_every_none_is_written_or_believed(store: EventStore) -> None:
    """A plain repository leaves no key, and replays beside one."""
    loaded_with(store, 1, 2, 3, 4)
    assert stored_snapshot(store) is None


def content(store: EventStore, **other: Any) -> list[Any]:
    """A snapshot at event 2 that would be believed, with a balance nobody has; each part may be another."""
    [second] = store.read_stream("account-1", after=1, to=2)
    good = {
        "kind": "Account", "snapshot_version": 1, "version": 2, "id": second.id.bytes,
        "state": {"balance": 1000, "entries": []},
    }  # fmt: skip
    return list((good | other).values())


def test_a_snapshot_that_fits_is_believed(store: EventStore) -> None:
    """The control of the next test: the snapshot that it makes unfit in each way would be used as it is."""
    accounts = loaded_with(store, 1, 2, 3, every=100)
    store_snapshot(store, content(store))
    assert accounts.load("1").balance == 1003


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "Savings"},
        {"snapshot_version": 2},
        {"id": b"0" * 16},
        {"version": 1},
        {"version": 3},
        {"version": 4},
        {"version": 400},
        {"version": 0},
        {"version": "2"},
        {"version": None},
        {"version": -7},
        {"version": 2**64 - 1},
        {"further": "items"},
    ],
    ids=repr,
)
def test_a_snapshot_that_does_not_fit_is_passed_over(store: EventStore, other: dict[str, Any]) -> None:
    """Of another class, another version, or at an event that the stream does not hold: the log says what is right."""
    accounts = loaded_with(store, 1, 2, 3, every=100)
    store_snapshot(store, content(store, **other))
    account = accounts.load("1")
    assert (account.balance, account.version, account._seen) == (6, 3, [1, 2, 3])


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("wrong", [None, [], {}, -1, "x", b"", 1.5], ids=ascii)
def test_a_snapshot_with_a_value_of_another_type_is_passed_over_and_replaced(
    store: EventStore, at: int, wrong: Any
) -> None:
    """Though its checksum is right."""
    # given
    accounts = loaded_with(store, 1, 2, 3, every=3)
    good = stored_snapshot(store)
    assert good is not None
    values = unseal(good)[1:]
    values[at] = wrong
    store.driver.execute([("SET", key_of(store), record_of(values, "it"))])

    # when
    account = accounts.load("1")

    # then
    assert account._seen == [1, 2, 3]
    account.deposit(4)
    accounts.save(account)
    assert accounts.load("1")._seen == []


def test_a_key_of_another_type_in_the_place_of_a_snapshot_is_passed_over_and_replaced(store: EventStore) -> None:
    """The events are there; the next snapshot takes its place."""
    accounts = loaded_with(store, 1, 2, 3, every=3)
    store.driver.execute([("DEL", key_of(store)), ("HSET", key_of(store), "a", "b")])
    account = accounts.load("1")
    assert account._seen == [1, 2, 3]
    account.deposit(4)
    accounts.save(account)
    assert accounts.load("1")._seen == []


@pytest.mark.parametrize("where", [0, 5, 20, -1])
@pytest.mark.parametrize("damage", ["flipped", "cut"])
def test_a_damaged_snapshot_is_passed_over_and_replaced(store: EventStore, damage: str, where: int) -> None:
    """Whatever was changed or is missing; and the next save that is due leaves a good one."""
    # given
    accounts = loaded_with(store, 1, 2, 3, every=3)
    good = stored_snapshot(store)
    assert good is not None
    bad = bytearray(good)
    bad[where] ^= 1
    store.driver.execute([("SET", key_of(store), bytes(bad) if damage == "flipped" else good[:where])])

    # when
    account = accounts.load("1")

    # then
    assert account._seen == [1, 2, 3]
    account.deposit(4)
    accounts.save(account)
    assert accounts.load("1")._seen == []
    assert accounts.load("1").balance == 10


def test_a_snapshot_of_history_that_was_rewritten_is_passed_over(store: EventStore) -> None:
    """The stream has another event at its number: what the snapshot counted never happened."""
    # given
    accounts = loaded_with(store, 1, 2, 3, every=3)
    keys = store.info.keys[0]
    store.driver.execute([("DEL", keys.log, keys.stream("account-1"))])
    store.append("account-1", [deposited(7), deposited(7), deposited(7), deposited(7)])

    # then
    assert accounts.load("1").balance == 28


def test_the_event_of_a_snapshot_may_be_the_first_that_is_left(store: EventStore) -> None:
    """Trimmed up to it, the aggregate still loads; trimmed beyond it, the snapshot alone is not believed."""
    # given
    accounts = loaded_with(store, 1, 2, 3, every=3)
    store.append("other-1", closed())

    # when
    store.run(Trim(store.info, 0, before=3).run())

    # then
    assert accounts.load("1").balance == 6
    store.run(Trim(store.info, 0, before=4).run())
    with pytest.raises(LogTrimmed):
        accounts.load("1")


def test_a_state_that_cannot_be_stored_refuses_the_save(store: EventStore) -> None:
    """Before anything is appended, naming the attribute."""

    class Tagged(Account):
        def deposit(self, amount: int = 10) -> None:
            self.tags = {"a"}
            super().deposit(amount)

    accounts = Repository(store, Tagged, category="account", snapshot_every=1)
    account = Tagged("1")
    account.deposit()
    with pytest.raises(PayloadError, match=r"snapshot of <Tagged '1' .*>\.tags cannot be stored: a set"):
        accounts.save(account)
    assert (store.last_position(), len(account.uncommitted)) == (0, 1)


def test_a_class_may_say_what_its_snapshots_keep(store: EventStore) -> None:
    """What `state` returned is what `restore` is given."""

    class Tagged(Account):
        def state(self) -> Any:
            return (Decimal(self.balance), sorted(tag for tag, _ in self.entries))

        def restore(self, state: Any) -> None:
            assert isinstance(state, tuple)
            self.balance, self.tags = int(state[0]), set(state[1])

    accounts = Repository(store, Tagged, category="account", snapshot_every=1)
    accounts.change("1", lambda account: account.deposit(5))
    again = accounts.load("1")
    assert (again.balance, again.tags, again._seen) == (5, {"Deposited"}, [])


@pytest.mark.real
def test_a_snapshot_that_cannot_be_written_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The events are saved, so the save stands; the log says which stream has no snapshot, and why."""
    with server(binary=find_binary()) as its_server:
        # given: a user who may append, and may not write strings
        its_server.do("ACL", "SETUSER", "writer", "on", ">secret", "~*", "+@all", "-set")
        url = its_server.url.replace("//", "//writer:secret@")
        with EventStore.open(url, settings=TEST_SETTINGS) as store:
            accounts = Repository(store, Account, category="account", snapshot_every=1)
            account = Account("1")
            account.deposit(5)

            # when
            with caplog.at_level(logging.WARNING, "runner"):
                result = accounts.save(account)

            # then
            assert (result.version, account.version, account.uncommitted) == (1, 1, ())
            assert "stream 'account-1': no snapshot at version 1:" in caplog.text
            assert accounts.load("1")._seen == [5]


# -- asyncio ------------------------------------------------------------------------------------


def test_an_asynchronous_repository_does_the_same(url: str, fresh_name: str) -> None:
    """It loads, saves, conflicts, tries again and takes snapshots; its command may be a coroutine."""

    async def main() -> None:
        async with AsyncEventStore.open(url, name=fresh_name, settings=TEST_SETTINGS) as store:
            accounts = AsyncRepository(store, Account, category="account", snapshot_every=2)
            mine, yours = await accounts.load("1"), await accounts.load("1")
            for account in (mine, yours):
                account.deposit(5)
            assert (await accounts.save(mine)).version == 1
            with pytest.raises(WrongExpectedVersion):
                await accounts.save(yours)
            seen = []

            async def later(account: Account) -> None:
                await asyncio.sleep(0)
                seen.append(account.balance)
                if len(seen) == 1:
                    await store.append(accounts.stream("1"), deposited(100))
                account.withdraw(1)

            assert (await accounts.change("1", later)).version == 3
            assert seen == [5, 105]
            again = await accounts.load("1")
            assert (again.balance, again._seen) == (104, [])

    with EventStore.open(url, name=fresh_name, settings=TEST_SETTINGS):
        asyncio.run(main())


def test_the_command_of_a_synchronous_repository_may_be_a_coroutine_too(store: EventStore) -> None:
    """It is waited for, not forgotten."""
    accounts = loaded_with(store, 5)

    async def later(account: Account) -> None:
        await asyncio.sleep(0)
        account.deposit(1)

    assert accounts.change("1", later).version == 2


def test_every_partition_keeps_the_snapshots_of_its_streams(url: str, fresh_name: str) -> None:
    """The key has the hash tag of the stream's partition, so that it may stand beside it in a script."""
    settings = replace(TEST_SETTINGS, page_size=2)
    with EventStore.open(url, name=fresh_name, partitions=3, settings=settings) as store:
        accounts = Repository(store, Account, category="account", snapshot_every=2)
        ids = [str(number) for number in range(12)]
        for id_ in ids:
            for _ in range(7):
                accounts.change(id_, lambda account: account.deposit(int(account.id)))
        assert {store.info.of_stream(accounts.stream(id_)).partition for id_ in ids} == {0, 1, 2}
        for id_ in ids:
            assert store.driver.execute([("EXISTS", key_of(store, accounts.stream(id_)))]) == [1]
            account = accounts.load(id_)
            assert (account.balance, account.version, len(account._seen)) == (7 * int(id_), 7, 1)


# -- the documentation --------------------------------------------------------------------------


@pytest.mark.real
def test_the_blocks_of_the_documentation_are_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They run one after the other, and each assertion holds."""
    monkeypatch.chdir(tmp_path)
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", DOCUMENT, flags=re.MULTILINE | re.DOTALL))
    assert program.count("assert") >= 8
    exec(compile(program, "aggregates.md", "exec"), {"__name__": "document"})


def test_handlers_of_a_mixin_are_handlers() -> None:
    """Whatever class declares them: the nearest one counts."""

    class Dated:
        day = 0

        @handles("Dated", "Both")
        def _dated(self, event: Happened) -> None:
            self.day = event.data

    class Named(Aggregate):
        name = ""

        @handles("Named", "Both")
        def _named(self, event: Happened) -> None:
            self.name = str(event.data)

    class Thing(Dated, Named):
        pass

    thing = Thing("1")
    thing.record("Dated", 3)
    thing.record("Named", "it")
    thing.record("Both", 7)
    assert (thing.day, thing.name) == (7, "it")


def test_what_is_recorded_during_a_save_is_still_to_be_saved(fresh_name: str) -> None:
    """An aggregate is one caller's at a time; yet nothing that it recorded is forgotten."""

    async def scenario() -> None:
        async with AsyncEventStore.open("memory:", name=fresh_name, settings=TEST_SETTINGS) as store:
            accounts = AsyncRepository(store, Account, category="account")
            account = await accounts.load("1")
            account.deposit(1)
            saving = asyncio.create_task(accounts.save(account))
            await asyncio.sleep(0)
            account.deposit(5)
            await saving
            assert [event.type for event in account.uncommitted] == ["Deposited"]
            await accounts.save(account)
            assert await store.version("account-1") == 2

    asyncio.run(scenario())

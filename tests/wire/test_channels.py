"""Channels: what is open on the connection that all who wait share, and who hears what."""

from __future__ import annotations

from runner.errors import RunnerError, StoreUnavailable
from runner.wire.channels import LINGER, NOW, SILENCE, Channels


class Heard(list[bytes | RunnerError]):
    """An ear that keeps what it is told."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __init__(self, channel: str) -> None:
        super().__init__()
        self.channel = channel

    def tell(self, what: bytes | RunnerError) -> None:
        self.append(what)


def reply(kind: str, channel: str, last: object) -> list[object]:
    return [kind.encode(), channel.encode(), last]


def connected(*channels: str) -> tuple[Channels[Heard], list[Heard]]:
    """Channels that are open, at the time 0, with an ear each."""
    found: Channels[Heard] = Channels()
    ears = [Heard(channel) for channel in channels]
    for ear in ears:
        found.join(ear)
    found.begin(0)
    found.commands(0)
    for channel in channels:
        found.take(reply("subscribe", channel, 1), 0)
    return found, ears


def test_a_channel_is_opened_once_for_all_who_wait() -> None:
    """The second ear finds it asked for; both hear when it is open, and each message."""
    # given
    channels: Channels[Heard] = Channels()
    ears = [Heard("a"), Heard("a")]
    channels.begin(0)

    # when
    channels.join(ears[0])
    assert channels.commands(0) == [("SUBSCRIBE", "a")]
    channels.join(ears[1])
    assert channels.commands(0) == []
    assert not channels.is_open("a", 0)
    channels.take(reply("subscribe", "a", 1), 0)
    channels.take(reply("message", "a", b"17"), 0)

    # then
    assert channels.is_open("a", 0)
    assert ears == [[NOW, b"17"], [NOW, b"17"]]


def test_a_channel_stays_open_for_a_while_after_the_last_who_waited() -> None:
    """The next one finds it open. Then a connection without it is made, and none after the last channel."""
    # given
    channels, ears = connected("a", "b")

    # when
    channels.leave(ears[0], 1)
    channels.take(reply("message", "b", b"1"), LINGER)

    # then
    assert channels.commands(LINGER) == []
    assert channels.is_open("a", LINGER)
    assert channels.commands(LINGER + 1.1) is None
    assert not channels.is_open("b", LINGER + 1.1)
    channels.begin(LINGER + 1.1)
    assert channels.commands(LINGER + 1.1) == [("SUBSCRIBE", "b")]

    # when
    channels.leave(ears[1], 2 * LINGER)

    # then
    assert channels.commands(3 * LINGER + 0.1) is None
    assert not channels.needed


def test_who_left_hears_nothing_more() -> None:
    """A wait that ran out of time is over."""
    channels, [ear] = connected("a")
    channels.leave(ear, 1)
    channels.leave(ear, 1)
    channels.take(reply("message", "a", b"1"), 1)
    assert ear == [NOW]


def test_a_connection_that_was_silent_for_long_is_made_anew_for_the_next_who_waits() -> None:
    """It may be dead: nobody can tell. Those who wait already hear on the new one, and look."""
    # given
    channels, [ear] = connected("a")

    # when
    assert not channels.is_open("a", SILENCE + 0.1)

    # then
    assert channels.commands(SILENCE + 0.1) is None
    assert channels.needed == {"a"}
    channels.begin(6)
    assert channels.commands(6) == [("SUBSCRIBE", "a")]
    channels.take(reply("subscribe", "a", 1), 6)
    assert ear == [NOW, NOW]
    assert channels.is_open("a", 6)


def test_the_end_of_the_connection_is_heard_by_all() -> None:
    """They ask for their channels again."""
    channels, ears = connected("a", "b")
    reason = StoreUnavailable("gone")
    channels.end(reason)
    assert ears == [[NOW, reason], [NOW, reason]]
    assert not channels.needed
    channels.leave(ears[0], 1)
    assert channels.commands(1) is None

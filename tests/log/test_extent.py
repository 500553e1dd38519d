"""What trimming has left, in portions: a portion of keys may hold nothing that is looked for."""

from __future__ import annotations

from typing import Any

import pytest

from runner.effects import Execute, StoreOperation
from runner.format.keys import PartitionKeys
from runner.log.extent import Extent, TrimmedStreams


def portion(streams: TrimmedStreams, cursor: int, following: bytes) -> Any:
    """The next portion, of a scan that finds no key and goes on at ``following``."""
    operation: StoreOperation[Any] = streams.next()
    effect = next(operation)
    assert isinstance(effect, Execute)
    [(scan, asked, *_)] = effect.commands
    assert (scan, asked) == ("SCAN", cursor)
    with pytest.raises(StopIteration) as end:
        operation.send([(following, [])])
    return end.value.value


def test_a_portion_of_the_scan_without_a_stream_is_not_the_end() -> None:
    """A server with many other keys answers so: the streams after them are found all the same."""
    streams = TrimmedStreams(PartitionKeys("es", 0), Extent(0, 3, 9, {}))

    assert portion(streams, 0, b"7") == []
    assert portion(streams, 7, b"0") == []
    with pytest.raises(StopIteration) as end:
        next(streams.next())
    assert end.value.value is None


def test_a_log_that_was_never_trimmed_has_no_stream_that_lost_events() -> None:
    """Nothing is asked for."""
    with pytest.raises(StopIteration) as end:
        next(TrimmedStreams(PartitionKeys("es", 0), Extent(0, 0, 9, {})).next())
    assert end.value.value is None

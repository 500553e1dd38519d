"""The index of event ids, ``{es.0}:ids``: which ids a partition has ever had, and where.

The log itself needs no index, because an id identifies an event within its stream only. `append_new` appends events
whose ids must be new in the whole partition: it keeps the index, and refuses an id that the index holds. Other appends
do not keep the index. So the index records up to which position it is complete, and is brought up to date when it lags.
It takes about 100 bytes an event. Trimming the log leaves the ids of trimmed events in the index.
"""

from __future__ import annotations

from uuid import UUID

from ..effects import Command, Execute, StoreOperation
from ..errors import StoreReplaced
from ..format import fields
from ..format.keys import PartitionKeys
from ..format.scripts import load
from .info import StoreInfo
from .reading import last_position

#: Events that one script run indexes: a few milliseconds of server time.
INDEX_RUN = 500


def index_command(info: StoreInfo, keys: PartitionKeys) -> Command:
    """The command that indexes the next portion of events."""
    return load("log/index_ids").call([keys.log, keys.meta, keys.ids], info.epoch, INDEX_RUN)


def position_of(info: StoreInfo, keys: PartitionKeys, event_id: UUID) -> StoreOperation[int]:
    """The position at which an event with this id was appended first, trimmed or not; 0 if there is none.

    Reads only, unless the index lags the log. Events that were trimmed before they were indexed are not known.
    """
    question: Command = ("HMGET", keys.ids, event_id.bytes, "epoch", "upto")
    [[place, epoch, upto]] = yield Execute([question])
    ours = info.epoch.encode()
    if place is None or epoch != ours:
        # Read after the index: an event appended in between can make the index seem to lag, but never seem complete.
        last = yield from last_position(keys)
        complete = epoch in (None, ours) and fields.number(keys.ids, "upto", upto) == last
        while not complete:
            [[verdict, *progress], [place, *_]] = yield Execute([index_command(info, keys), question])
            if verdict == b"replaced":
                raise StoreReplaced(keys.name)
            complete = progress[0] == progress[1]
    return fields.number(keys.ids, str(event_id), place.partition(b"-")[0]) if place is not None else 0

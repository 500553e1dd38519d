"""The keys of a store in Redis, drawn::

    {es.0}:log                     stream  every event of partition 0, entry ID <position>-<number>
    {es.0}:stream:<name>           stream  a thin index, entry ID <number>-<position>
    {es.0}:view:<projection>:<b>   hash    the rows of build <b>
    {es.0}:projection:<name>       hash    the names of the live build, the previous build and the candidate
    {es.0}:build:<name>:<b>        hash    checkpoint, lease, state and counters of build <b>
    {es.0}:parked:<name>:<b>       hash    parked events of build <b>: position, and record
    {es.0}:skipped:<name>:<b>      stream  records of events that build <b> skipped
    {es.0}:projections             set     the names of the projections that are known
    {es.0}:runners                 zset    runners, and the time until which each counts as alive (µs)
    {es.0}:bookmarks               hash    positions by name, which appends move forward; "checkpoints" in format 1
    {es.0}:recent:<0|1>            hash    two generations of the ids of the last events
    {es.0}:ids                     hash    every event id and its place, for appends whose ids must be new
    {es.0}:run:<run id>            string  the refusals of a call of independent appends; expires
    {es.0}:snapshot:<stream>       string  the state of an aggregate, and the event it was taken at
    {es.0}:<library>:…             data of an adapter; see `runner.adapters`
    {es.0}:new                     stream  exists only while a script makes a new index
    {es.0}:meta                    hash    format, partitions, tags, epoch, needs, floor, restoring, restored
    {es.0}:applied:<name>          channel the position of each commit, for processes that wait for it

All keys of a partition share the hash tag ``{es.0}``, so every script is legal in Redis Cluster. The tags of other
partitions have a suffix: ``{es.1.b}``. See `runner.format.tags`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .names import check_plain_name
from .tags import tag_of

#: The build of a projection that does not name one.
FIRST_BUILD: Final = "1"

#: The format of new stores. `docs/format.md` says what the formats are.
FORMAT = 2

#: The formats that are read and written; a store of another one is refused.
FORMATS = (1, 2)

#: The largest number that an entry ID may have after the dash: <position>-<ID_MAX> is after every entry of a position.
ID_MAX = "18446744073709551615"


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one partition of the store ``name``."""

    name: str
    partition: int
    format: int = FORMAT
    suffix: str = ""
    tag: str = field(init=False)
    log: str = field(init=False)
    meta: str = field(init=False)

    def __post_init__(self) -> None:
        check_plain_name(self.name, "store")
        tag = tag_of(self.name, self.partition, self.suffix)
        for key, value in (("tag", tag), ("log", f"{tag}:log"), ("meta", f"{tag}:meta")):
            object.__setattr__(self, key, value)

    @property
    def has_sealed_rows(self) -> bool:
        """Whether rows of views are stored with a checksum."""
        return self.format >= 2

    def stream(self, name: str) -> str:
        return f"{self.tag}:stream:{name}"

    def view(self, projection: str, build: str) -> str:
        return f"{self.tag}:view:{projection}:{build}"

    def projection(self, name: str) -> str:
        return f"{self.tag}:projection:{name}"

    def build(self, projection: str, build: str) -> str:
        return f"{self.tag}:build:{projection}:{build}"

    def parked(self, projection: str, build: str) -> str:
        return f"{self.tag}:parked:{projection}:{build}"

    def skipped(self, projection: str, build: str) -> str:
        return f"{self.tag}:skipped:{projection}:{build}"

    def of_build(self, projection: str, build: str) -> list[str]:
        """Every key of a build: its record, its view, its parked and its skipped events."""
        kinds = (self.build, self.view, self.parked, self.skipped)
        return [key(projection, build) for key in kinds]

    def snapshot(self, stream: str) -> str:
        return f"{self.tag}:snapshot:{stream}"

    def applied(self, projection: str) -> str:
        return f"{self.tag}:applied:{projection}"

    @property
    def runners(self) -> str:
        return f"{self.tag}:runners"

    @property
    def projections(self) -> str:
        return f"{self.tag}:projections"

    @property
    def bookmarks(self) -> str:
        return f"{self.tag}:bookmarks" if self.format >= 2 else f"{self.tag}:checkpoints"

    @property
    def recent(self) -> tuple[str, str]:
        return f"{self.tag}:recent:0", f"{self.tag}:recent:1"

    @property
    def ids(self) -> str:
        return f"{self.tag}:ids"

    def run(self, run_id: str) -> str:
        return f"{self.tag}:run:{run_id}"

    @property
    def new(self) -> str:
        return f"{self.tag}:new"

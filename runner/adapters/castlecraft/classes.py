"""The classes and the names that they are stored under; how objects become plain values and objects again.

msgspec converts both ways, by the types that a class declares for its fields, to values that `runner.format.codec` can
store. Before anything is written, the value is converted back and compared with the object, because a set in a field
that is declared as ``Any`` would come back as a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from ...errors import InvalidInput, PayloadError
from ...format.codec import pack_value, unpack
from ...format.names import check_name

#: Types that msgspec leaves unchanged, because `runner.format.codec` stores them.
_STORABLE = (bytes, datetime, date, UUID, Decimal)

#: An object that msgspec does not know → the value to store in its place.
Encode = Callable[[Any], Any]
#: The declared type, the stored value → the object.
Decode = Callable[[type[Any], Any], Any]
#: Classes, stored under their own names; or names and classes: a class is stored under its first name.
Classes = Iterable[type[Any]] | Mapping[str, type[Any]]


class Registry:
    """The classes that a store was given. Raises InvalidInput, as ``check`` does, for a class that cannot be stored."""

    def __init__(
        self,
        classes: Classes,
        what: str,
        encode: Encode | None,
        decode: Decode | None,
        check: Callable[[type[Any]], None] = lambda kind: None,
    ) -> None:
        self._what = what
        self._encode = encode
        self._decode = decode
        self._classes: dict[str, type[Any]] = {}
        self._names: dict[type[Any], str] = {}
        for name, kind in _named(classes, what):
            if name in self._classes:
                raise InvalidInput(
                    f"two classes are stored as {name!r}: {self._classes[name]!r} and {kind!r}",
                    hint=f"Give one of them another name: {what}={{'another name': {kind.__name__}, …}}.",
                )
            check(kind)
            _check_types(kind)
            self._classes[name] = kind
            self._names.setdefault(kind, name)

    def __contains__(self, thing: object) -> bool:
        return type(thing) in self._names

    def name_of(self, thing: object) -> str:
        """The name that the class of ``thing`` is stored under. Raises InvalidInput for a class that was not given."""
        try:
            return self._names[type(thing)]
        except KeyError:
            kind = type(thing).__qualname__
            known = ", ".join(self._classes) or "none"
            raise InvalidInput(
                f"class {kind!r} is not one of those that this store was given ({known})",
                hint=f"Give its class to the store, too: {self._what}=[{kind}, …].",
            ) from None

    def dump(self, thing: object, what: str) -> Any:
        """The value to store for ``thing``. Raises PayloadError, naming ``what``, if it would not come back equal."""
        try:
            plain = msgspec.to_builtins(thing, builtin_types=_STORABLE, enc_hook=self._encode)
        except (TypeError, ValueError) as fault:
            raise PayloadError(f"{what} cannot be stored: {fault}", hint=_HINT) from fault
        stored = unpack(pack_value(plain, what))
        try:
            again = self.load(self.name_of(thing), stored)
        except Exception as fault:
            raise PayloadError(f"{what} could not be read again: {fault}", hint=_HINT) from fault
        for step, before, after in _compared(thing, again):
            if before != after and (before == before or after == after):  # NaN comes back, and equals nothing
                raise PayloadError(f"{what}{step} would come back as {after!r}, not {before!r}", hint=_HINT)
        return plain

    def load(self, name: str, plain: Any) -> Any:
        """The object for a stored value. Raises LookupError for an unknown name, and what msgspec or a hook raises."""
        if name not in self._classes:
            raise LookupError(f"no class was given for {name!r}")
        return msgspec.convert(plain, self._classes[name], builtin_types=_STORABLE, dec_hook=self._decode)


_HINT = "Declare its type exactly (set[str], not Any), or give encode= and decode= for what msgspec does not know."


def _named(classes: Classes, what: str) -> Iterable[tuple[str, type[Any]]]:
    pairs = classes.items() if isinstance(classes, Mapping) else [(None, kind) for kind in classes]
    for name, kind in pairs:
        if not isinstance(kind, type):
            raise InvalidInput(f"{what} takes classes, not {kind!r}")
        yield check_name(kind.__name__ if name is None else name, "class"), kind


def _check_types(kind: type[Any]) -> None:
    """Raise InvalidInput for a class whose declared types msgspec cannot follow."""
    try:
        msgspec.msgpack.Decoder(kind)
    except (TypeError, NameError) as fault:
        raise InvalidInput(f"objects of class {kind.__qualname__!r} cannot be stored: {fault}") from fault


def _compared(thing: object, again: object) -> Iterable[tuple[str, Any, Any]]:
    """The pairs to compare: each field of a dataclass, even one that ``==`` ignores; else the whole objects."""
    if is_dataclass(thing) and not isinstance(thing, type):
        for field in fields(thing):
            yield f".{field.name}", getattr(thing, field.name), getattr(again, field.name)
    elif type(thing).__eq__ is not object.__eq__:
        yield "", thing, again

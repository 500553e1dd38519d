"""Log lines of the daemon, for people and as JSON."""

from __future__ import annotations

import json
import logging
import socket
import time

from ..text import LONGEST_TRACEBACK, cut, visible, visible_json, visible_traceback


class _Formatter(logging.Formatter):
    """What both forms share."""

    def traceback_of(self, record: logging.LogRecord) -> str:
        """The traceback of a record: among its fields, or that of its exception; empty if there is none."""
        if record.exc_info:
            return self.formatException(record.exc_info)
        return str(getattr(record, "fields", {}).get("traceback", ""))


class TextFormatter(_Formatter):
    """A log record as one line for people; the lines of a traceback follow it, each with a mark."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = visible(f"{clock} {record.levelname} {record.getMessage()}")
        return "\n".join([line, *visible_traceback(trace)]) if (trace := self.traceback_of(record)) else line


class JsonFormatter(_Formatter):
    """A log record as one JSON object a line. ``runner``: the id of this process's runner, if there is one."""

    def __init__(self, runner: str = "") -> None:
        super().__init__()
        self._place = {"host": socket.gethostname(), **({"runner": runner} if runner else {})}

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **self._place,
            "pid": record.process,
            **getattr(record, "fields", {}),
        }
        short = {key: cut(value) if isinstance(value, str) else value for key, value in line.items()}
        if trace := self.traceback_of(record):
            short["traceback"] = trace[-LONGEST_TRACEBACK:]
        return visible_json(json.dumps(short, ensure_ascii=False))

"""Log lines of the daemon, for people and as JSON."""

from __future__ import annotations

import json
import logging
import time

from ..text import cut, visible, visible_json, visible_traceback


class TextFormatter(logging.Formatter):
    """A log record as one line for people; the lines of a traceback follow it, each with a mark."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = visible(f"{clock} {record.levelname} {record.getMessage()}")
        if not record.exc_info:
            return line
        return "\n".join([line, *visible_traceback(self.formatException(record.exc_info))])


class JsonFormatter(logging.Formatter):
    """A log record as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        short = {key: cut(value) if isinstance(value, str) else value for key, value in line.items()}
        return visible_json(json.dumps(short, ensure_ascii=False))

"""How the operator logs: as text or as JSON, one record a line."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_PASSING = ("will retry", "will re-authenticate")


def set_up(form: str, verbose: bool) -> None:
    """To standard output. `form`: text or json."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(_TEXT, timestamp=True) if form == "json" else logging.Formatter(_TEXT))
    handler.addFilter(demote_retries)
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("kopf").setLevel(logging.DEBUG if verbose else logging.WARNING)


def demote_retries(record: logging.LogRecord) -> bool:
    """A request that kopf will repeat is a warning: it says ERROR, many times in each outage."""
    passing = record.levelno == logging.ERROR and record.name.startswith("kopf")
    if passing and any(words in record.getMessage() for words in _PASSING):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True

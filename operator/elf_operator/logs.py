"""How the operator logs: as text or as JSON, one record a line."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_KOPFS_OWN = ("settings", "k8s_skip")
"""What kopf gives its records for itself: the whole of its settings, which are no JSON."""
_PASSING = ("will retry", "will re-authenticate")


def set_up(form: str, verbose: bool) -> None:
    """To standard output. `form`: text or json."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_json() if form == "json" else logging.Formatter(_TEXT))
    handler.addFilter(demote_retries)
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("kopf").setLevel(logging.DEBUG if verbose else logging.WARNING)


def _json() -> logging.Formatter:
    """Whatever a record holds, it gets into the log."""
    reserved = [*RESERVED_ATTRS, *_KOPFS_OWN]
    return JsonFormatter(_TEXT, timestamp=True, reserved_attrs=reserved, json_default=str)


def demote_retries(record: logging.LogRecord) -> bool:
    """A request that kopf will repeat is a warning: it says ERROR, many times in each outage."""
    passing = record.levelno == logging.ERROR and record.name.startswith("kopf")
    if passing and any(words in record.getMessage() for words in _PASSING):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True

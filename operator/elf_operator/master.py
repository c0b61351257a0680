"""The operator's master key, in the one Secret that it may read: its own."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import os

from elf_operator.apiserver import MERGE_PATCH, OUTAGES, ApiError, KubeApi, brief
from elf_operator.authority import MASTER_BYTES, Authority, BadMasterError

_log = logging.getLogger(__name__)
MASTER_KEY, SCRAPE_KEY = "master", "scrapeToken"
"""In the Secret's data: what all identities come from, and what opens the figures of all jobs."""
PAUSE_SECONDS = 2.0


class MasterError(Exception):
    """There is no master key; the message says what to do."""


async def load(api: KubeApi, namespace: str, name: str) -> Authority:
    """The authority of the key in this Secret; an empty Secret is given one. Waits for the API server.

    Raises MasterError.
    """
    while True:
        try:
            made = await _look(api, f"api/v1/namespaces/{namespace}/secrets/{name}", f"{namespace}/{name}")
        except ApiError as error:
            if error.status in (401, 403):
                raise MasterError(f"Secret {namespace}/{name}: {brief(error)}") from error
            _log.warning("the master key cannot be read: %s", brief(error))
        except OUTAGES as error:
            _log.warning("the master key cannot be read: %s", brief(error))
        else:
            if made is not None:
                return made
        await asyncio.sleep(PAUSE_SECONDS)


async def _look(api: KubeApi, path: str, where: str) -> Authority | None:
    """None: another operator has written meanwhile, look again."""
    found = await api.get(path)
    if found is None:
        raise MasterError(f"there is no Secret {where}; make an empty one: the operator fills it")
    held = found.get("data") or {}
    master = held.get(MASTER_KEY) or _encoded(os.urandom(MASTER_BYTES))
    try:
        made = Authority(base64.b64decode(master, validate=True))
    except (BadMasterError, binascii.Error) as error:
        raise MasterError(f"Secret {where}, {MASTER_KEY}: {error}") from error
    data = {MASTER_KEY: master, SCRAPE_KEY: _encoded(made.scrape_token().encode())}
    if held.items() >= data.items():
        return made
    meta = {"resourceVersion": found["metadata"]["resourceVersion"]}
    try:
        await api.request("PATCH", path, {"metadata": meta, "data": data}, content=MERGE_PATCH)
    except ApiError as error:
        if error.status != 409:
            raise
        return None
    _log.info("filled the Secret with the master key: %s", where)
    return made


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()

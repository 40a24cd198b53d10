"""Cursors of lists: the position and a hash of the filters, signed so that nobody can make one up."""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from api.problems import Problem

_TAG_BYTES = 16


class Cursors:
    """Signs and reads cursors. The first key signs, all of them verify."""

    def __init__(self, ring: Sequence[tuple[int, bytes]]) -> None:
        self._ring = tuple(key for _, key in ring)

    def write(self, filters: Mapping[str, Any], position: Sequence[str]) -> str:
        """The cursor that continues behind `position`."""
        body = json.dumps([_hash(filters), list(position)], separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(_tag(self._ring[0], body) + body).decode().rstrip("=")

    def read(self, text: str, filters: Mapping[str, Any], length: int = 2) -> tuple[str, ...]:
        """The position in a cursor.

        Raises:
            Problem: `cursor-invalid`, not ours, or given for other filters.
        """
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (binascii.Error, ValueError):
            raise _refused() from None
        tag, body = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not any(hmac.compare_digest(tag, _tag(key, body)) for key in self._ring):
            raise _refused()
        found, position = json.loads(body)
        if found != _hash(filters) or len(position) != length:
            raise _refused()
        return tuple(position)


def _refused() -> Problem:
    return Problem("cursor-invalid", "The cursor is not one of ours, or it was given for other filters.")


def _hash(filters: Mapping[str, Any]) -> str:
    content = json.dumps(filters, sort_keys=True, default=str).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _tag(key: bytes, body: bytes) -> bytes:
    return hmac.new(key, body, hashlib.sha256).digest()[:_TAG_BYTES]

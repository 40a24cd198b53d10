"""Identifiers: what they look like, and how they are made from order data.

An id is a prefix and 26 Crockford base32 characters: 48 bits of time, then 80 bits that are random
(`new_id`) or derived (`derived_id`). Derived ids depend on order data alone, so a retry, a reset or a
replay meets the same object again.
"""

import hashlib
import secrets
from typing import NewType

OrderId = NewType("OrderId", str)
Sku = NewType("Sku", str)
NodeId = NewType("NodeId", str)
TenderId = NewType("TenderId", str)
FulfillmentId = NewType("FulfillmentId", str)
ShipmentId = NewType("ShipmentId", str)
CommandId = NewType("CommandId", str)

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TIME_CHARS = 10
_BODY_CHARS = 26


def new_id(prefix: str, now_ms: int) -> str:
    """A fresh id that sorts by `now_ms` (Unix milliseconds). Not for workflow code: it is random."""
    return f"{prefix}_{_base32(now_ms, _TIME_CHARS)}{_base32(secrets.randbits(80), 16)}"


def derived_id(prefix: str, parent: str, *parts: str | int) -> str:
    """The id of the thing that `parts` name inside `parent`; the same input gives the same id for ever.

    It keeps the parent's time, so ids of one order sort together.
    """
    time_part = parent.split("_", 1)[-1][:_TIME_CHARS].rjust(_TIME_CHARS, "0")
    digest = hashlib.sha256("/".join([prefix, parent, *map(str, parts)]).encode()).digest()
    return f"{prefix}_{time_part}{_base32(int.from_bytes(digest[:10], 'big'), 16)}"


def is_id(text: str, prefix: str) -> bool:
    """Whether `text` has the shape of an id of this kind."""
    head, _, body = text.partition("_")
    return head == prefix and len(body) == _BODY_CHARS and all(c in _ALPHABET for c in body)


def _base32(number: int, length: int) -> str:
    chars = []
    for _ in range(length):
        chars.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(chars))

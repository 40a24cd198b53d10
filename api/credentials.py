"""API keys of programs: how one is made, taken apart and compared. Owner: security.

A key reads ``acc_<env>_<id>_<secret>``: the prefix is made for secret scanners, the id finds the row, the
secret is 256 random bits. Only a keyed digest is stored; full entropy makes a slow hash pointless.
"""

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_CHARS = 12
_SECRET_BYTES = 32
_SHAPE = re.compile(r"acc_([a-z]{2,12})_([0-9a-z]{12})_([0-9a-f]{64})")


class MintedKey(NamedTuple):
    """A new key. `text` is shown once and never stored."""

    key_id: str
    text: str


def mint(env: str) -> MintedKey:
    """A fresh key for this environment (``dev``, ``live``, ...: 2 to 12 small letters)."""
    key_id = "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS))
    text = f"acc_{env}_{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
    if key_id_of(text) is None:
        raise ValueError("the environment in a key is 2 to 12 small letters")
    return MintedKey(key_id, text)


def key_id_of(text: str) -> str | None:
    """The id inside a key; None when the text is not a key."""
    found = _SHAPE.fullmatch(text)
    return found.group(2) if found else None


def digest(text: str, pepper: bytes) -> bytes:
    """What is stored of a key: HMAC-SHA256 of the whole text under the pepper."""
    return hmac.new(pepper, text.encode(), hashlib.sha256).digest()


def matches(stored: bytes, text: str, pepper: bytes) -> bool:
    """Whether the key is the one whose digest was stored, in constant time."""
    return hmac.compare_digest(stored, digest(text, pepper))

"""The customer vault: name, address and e-mail of an order, sealed. Owner: security.

AES-256-GCM with one data key per order, wrapped by a key-encryption key that is never in the database.
Customer reference and order id are authenticated with both, so that a sealed row cannot be moved.
"""

import json
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

KeyRing = Sequence[tuple[int, bytes]]

_NONCE_BYTES = 12
_READ = text("""
SELECT order_id, customer_ref, key_version, wrapped_key, sealed FROM customer_vault WHERE order_id = :order_id
""")


class VaultLocked(Exception):
    """The sealed data cannot be opened: the key is missing, or the row is not what was sealed."""


class Sealed(NamedTuple):
    """Personal data at rest."""

    key_version: int
    wrapped_key: bytes
    sealed: bytes


def seal(ring: KeyRing, order_id: str, customer_ref: str, content: dict[str, Any]) -> Sealed:
    """Seal personal data under a fresh data key; the first key of the ring wraps it.

    Raises:
        VaultLocked: the ring is empty.
    """
    if not ring:
        raise VaultLocked("there is no key to seal personal data with: set the vault keys")
    version, wrapping_key = ring[0]
    bound = _bound(order_id, customer_ref)
    data_key = AESGCM.generate_key(bit_length=256)
    plain = json.dumps(content, ensure_ascii=False).encode()
    return Sealed(version, _encrypt(wrapping_key, data_key, bound), _encrypt(data_key, plain, bound))


def unseal(ring: KeyRing, order_id: str, customer_ref: str, row: Sealed) -> dict[str, Any]:
    """Open what `seal` made. Use it at the moment of use and keep nothing of it.

    Raises:
        VaultLocked: no key of that version, or the data was changed or moved.
    """
    wrapping_key = dict(ring).get(row.key_version)
    if wrapping_key is None:
        raise VaultLocked(f"key version {row.key_version} is not among the vault keys")
    bound = _bound(order_id, customer_ref)
    try:
        data_key = _decrypt(wrapping_key, row.wrapped_key, bound)
        content: dict[str, Any] = json.loads(_decrypt(data_key, row.sealed, bound))
    except InvalidTag as problem:
        raise VaultLocked(f"the vault row of {order_id} is not what was sealed") from problem
    return content


async def open_vault(connection: AsyncConnection, ring: KeyRing, order_id: str) -> dict[str, Any] | None:
    """Personal data of an order: ``{"customer": {...}, "ship_to": {...}}``; None when it was erased.

    Raises:
        VaultLocked: the row cannot be opened with these keys.
    """
    row = (await connection.execute(_READ, {"order_id": order_id})).mappings().one_or_none()
    if row is None:
        return None
    sealed = Sealed(row["key_version"], bytes(row["wrapped_key"]), bytes(row["sealed"]))
    return unseal(ring, order_id, row["customer_ref"], sealed)


async def seal_anew(
    connection: AsyncConnection, ring: KeyRing, order_id: str, ship_to: dict[str, Any]
) -> Sealed | None:
    """What the vault will hold of an order once it goes to another address; None when its data was erased.

    Raises:
        VaultLocked: the row cannot be opened with these keys.
    """
    content = await open_vault(connection, ring, order_id)
    if content is None:
        return None
    row = (await connection.execute(_READ, {"order_id": order_id})).mappings().one()
    return seal(ring, order_id, row["customer_ref"], {**content, "ship_to": ship_to})


def _bound(order_id: str, customer_ref: str) -> bytes:
    return f"{customer_ref}/{order_id}".encode()


def _encrypt(key: bytes, plain: bytes, bound: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def _decrypt(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)

"""Notes of people on orders: free text, sealed like the vault. Nothing of it is anywhere else. Owner: service.

A note is sealed under a data key of its own, bound to its order and its id: it cannot be moved to another one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.orders import Actor
from store.reads import OrderHead
from store.vault import KeyRing, Sealed, seal, unseal

_PUT = text("""
INSERT INTO notes (note_id, order_id, author, key_version, wrapped_key, sealed)
VALUES (:note_id, :order_id, CAST(:author AS jsonb), :key_version, :wrapped_key, :sealed)
""")
_COLUMNS = "SELECT note_id, order_id, author, key_version, wrapped_key, sealed, created_at FROM notes"
_LIST = text(f"{_COLUMNS} WHERE order_id = :order_id AND note_id > :after ORDER BY note_id LIMIT :limit")
_ONE = text(f"{_COLUMNS} WHERE order_id = :order_id AND note_id = :note_id")


@dataclass(frozen=True)
class StoredNote:
    """A note as stored; its text is sealed."""

    note_id: str
    order_id: str
    author: dict[str, Any]
    sealed: Sealed
    created_at: datetime


async def put_note(
    connection: AsyncConnection, ring: KeyRing, order_id: str, note_id: str, author: Actor, content: str
) -> None:
    """Store a note, sealed.

    Raises:
        VaultLocked: there is no key to seal with.
    """
    sealed = seal(ring, order_id, note_id, {"text": content})
    who = author.model_dump_json(exclude_none=True)
    values = {"note_id": note_id, "order_id": order_id, "author": who, **sealed._asdict()}
    await connection.execute(_PUT, values)


async def list_notes(connection: AsyncConnection, head: OrderHead, after: str, limit: int) -> list[StoredNote]:
    """Notes on an order the caller was shown to have access to, oldest first, behind the id `after`."""
    rows = await connection.execute(_LIST, {"order_id": head.order_id, "after": after, "limit": limit})
    return [_stored(row) for row in rows.mappings()]


async def find_note(connection: AsyncConnection, head: OrderHead, note_id: str) -> StoredNote | None:
    """One note on an order the caller was shown to have access to."""
    rows = await connection.execute(_ONE, {"order_id": head.order_id, "note_id": note_id})
    row = rows.mappings().one_or_none()
    return None if row is None else _stored(row)


def text_of(ring: KeyRing, note: StoredNote) -> str:
    """What the note says. Use it at the moment of use and keep nothing of it.

    Raises:
        VaultLocked: no key of that version, or the note was changed or moved.
    """
    return str(unseal(ring, note.order_id, note.note_id, note.sealed)["text"])


def _stored(row: Any) -> StoredNote:
    return StoredNote(
        note_id=row["note_id"],
        order_id=row["order_id"],
        author=row["author"],
        sealed=Sealed(row["key_version"], bytes(row["wrapped_key"]), bytes(row["sealed"])),
        created_at=row["created_at"],
    )

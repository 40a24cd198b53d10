"""Routes of notes on orders: free text of people, sealed at rest. Notes are no order state. Owner: service."""

import time
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import JSONResponse, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from api.case_models import NOTE, AddNote, Note, NoteList
from api.front import Call, CurrentCall
from api.masking import mask_text
from api.orders import PRIVATE, Limit, OrderId, page_of
from api.problems import Problem, not_found
from api.rendering import stamp
from api.routing import BODY_PROBLEMS, KEY_HEADER, Routes
from domain.ids import new_id
from domain.permissions import Personal, actor_of, personal_view
from store.intake import Asked
from store.notes import StoredNote, find_note, list_notes, put_note, text_of
from store.reads import OrderHead
from store.repeats import claim_key
from store.vault import open_vault

routes = Routes()

# What stands for the customer's personal data, where it is needed to mask it in a text.
_Known = dict[str, Any] | None


@routes.add(
    "POST",
    "/v1/orders/{order_id}/notes",
    "addNote",
    answers={201: (Note, "The note.")},
    problems=(*BODY_PROBLEMS, "not-found", "idempotency-mismatch"),
    body=(AddNote, NOTE),
    headers=KEY_HEADER,
)
async def add(call: CurrentCall, order_id: OrderId) -> Response:
    """Writes a note for colleagues. The order is not changed, and has no new version.

    The text is stored sealed, like the customer's data, and is in no event, log or history.
    """
    body, request_fingerprint = await call.body(AddNote, call.front.limits.command_bytes)
    head = await call.head(order_id)
    asked = call.asked(request_fingerprint)
    note, replayed = await call.front.write(lambda c: _written(c, call, head, asked, body.text))
    headers = {"Location": f"/v1/orders/{head.order_id}/notes", **PRIVATE}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(_rendered(call, note, await _known(call, head)), 201, headers)


async def _written(
    connection: AsyncConnection, call: Call, head: OrderHead, asked: Asked, content: str
) -> tuple[StoredNote, bool]:
    """The note, and whether the same request wrote it before."""
    fresh_id = new_id("nte", time.time_ns() // 1_000_000)
    claim = await claim_key(connection, asked, head.order_id, fresh_id)
    if claim.mismatch:
        raise Problem("idempotency-mismatch", "This Idempotency-Key was used with another request.")
    if claim.fresh:
        author = actor_of(call.principal, call.operation_id)
        await put_note(connection, call.front.vault, head.order_id, fresh_id, author, content)
    note = await find_note(connection, head, claim.thing_id)
    if note is None:
        raise not_found("note")
    return note, not claim.fresh


@routes.add(
    "GET",
    "/v1/orders/{order_id}/notes",
    "listNotes",
    answers={200: (NoteList, "A page of notes, oldest first.")},
    problems=("not-found", "cursor-invalid"),
)
async def list_(
    call: CurrentCall,
    order_id: OrderId,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=600, description="`next_cursor` of the page before.")] = None,
) -> Response:
    """The notes on an order. What is known of the customer, e-mail addresses and long numbers are masked.

    An auditor sees who wrote a note and when, and no text.
    """
    head = await call.head(order_id)
    filters = {"notes_of": head.order_id}
    after = call.front.cursors.read(cursor, filters, length=1)[0] if cursor else ""
    notes = await call.front.read(lambda c: list_notes(c, head, after, limit + 1))
    page = notes[:limit]
    following = call.front.cursors.write(filters, (page[-1].note_id,)) if len(notes) > limit else None
    known = await _known(call, head)
    return page_of(call, [_rendered(call, note, known) for note in page], following)


async def _known(call: Call, head: OrderHead) -> _Known:
    """What the vault knows of the customer, for a caller who gets it masked."""
    if personal_view(call.principal) is not Personal.MASKED:
        return None
    return await call.front.read(lambda c: open_vault(c, call.front.vault, head.order_id))


def _rendered(call: Call, note: StoredNote, known: _Known) -> dict[str, Any]:
    """A note as the caller may see it; it is opened only where some of it is shown."""
    view = personal_view(call.principal)
    shown = None if view is Personal.NONE else text_of(call.front.vault, note)
    return {
        "id": note.note_id,
        "order_id": note.order_id,
        "author": note.author,
        "created_at": stamp(note.created_at),
        "view": view,
        "text": mask_text(shown, known) if shown is not None and view is Personal.MASKED else shown,
    }

"""Notes on orders: written and read by those who may, sealed at rest, and nowhere else."""

import io
import json
import logging
from typing import Any

import pytest
import structlog

from api.case_models import NoteList
from store.notes import StoredNote, find_note, text_of
from store.reads import OrderHead
from store.vault import VaultLocked
from tests.support.front_desk import Caller, FrontDesk

WAIT = {"prefer": "wait=15"}
CANARY = "Zilpzalp"


async def write(caller: Caller, order_id: str, text: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Write a note; it must be taken."""
    answer = await caller.post(f"/v1/orders/{order_id}/notes", {"text": text}, headers)
    assert answer.status_code == 201, answer.text
    note: dict[str, Any] = answer.json()
    return note


async def read(caller: Caller, order_id: str) -> list[dict[str, Any]]:
    """The notes on an order."""
    answer = await caller.get(f"/v1/orders/{order_id}/notes")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def test_a_note_is_written_and_read_and_the_order_is_as_before(desk: FrontDesk) -> None:
    """201 with the note; oldest first; no event, no new version, and it works on a closed order too."""
    order = await desk.place(("LAMP", 1))
    service, ops = await desk.known("service"), await desk.known("ops")
    await service.post(f"/v1/orders/{order['id']}/cancellations", {"reason": "other"}, WAIT)
    closed = await desk.becomes(order["id"], status="cancelled")
    answer = await service.post(f"/v1/orders/{order['id']}/notes", {"text": "Called back.\nNobody there."})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/orders/{order['id']}/notes"
    assert answer.headers["cache-control"] == "no-store"
    first = answer.json()
    assert first["id"].startswith("nte_")
    assert (first["order_id"], first["text"], first["view"]) == (order["id"], "Called back.\nNobody there.", "masked")
    assert (first["author"]["kind"], first["author"]["role"]) == ("program", "service")
    second = await write(ops, f"number:{order['order_number']}", "Second try on Monday.")
    assert await read(service, order["id"]) == [first, second]
    NoteList.model_validate((await service.get(f"/v1/orders/{order['id']}/notes")).json())
    after = (await ops.get(f"/v1/orders/{order['id']}")).json()
    assert (after["version"], after["updated_at"]) == (closed["version"], closed["updated_at"])


async def test_an_order_that_nobody_has_answered_yet_can_have_notes(idle_desk: FrontDesk) -> None:
    """Taken in is enough."""
    storefront, service = await idle_desk.known("storefront"), await idle_desk.known("service")
    taken = await storefront.post("/v1/orders", idle_desk.order(("LAMP", 1)), {"prefer": "respond-async"})
    await write(service, taken.json()["id"], "Ask before it goes out.")
    assert [note["text"] for note in await read(service, taken.json()["id"])] == ["Ask before it goes out."]


async def test_what_is_known_of_the_customer_is_masked_in_notes(desk: FrontDesk) -> None:
    """Name, address, e-mail and telephone; dates, order numbers and what was agreed can still be read."""
    order = await desk.place(("LAMP", 1))
    service = await desk.known("service")
    text = (
        "Ms Example (jamie@example.com, other@mail.example, +1 (555) 010-0177) lives at 1 sample street, Cambridge"
        " 02139. Since 2026-11-24 order 10042 waits for EAST."
    )
    note = await write(service, order["id"], text)
    assert note["text"] == (
        "Ms E*** (j***@E***.com, o***@mail.E***, ***77) lives at 1***, C***"
        " 0***. Since 2026-11-24 order 10042 waits for EAST."
    )
    assert await read(await desk.known("ops"), order["id"]) == [note]


async def test_who_may_read_and_write_notes(desk: FrontDesk) -> None:
    """Service and ops; an auditor sees that there is one; nobody else, and nobody from another channel."""
    order = await desk.place(("LAMP", 1))
    note = await write(await desk.known("service"), order["id"], "The gate is closed before nine.")
    path = f"/v1/orders/{order['id']}/notes"
    assert await read(await desk.known("auditor"), order["id"]) == [{**note, "view": "none", "text": None}]
    for role in ("storefront", "warehouse", "finance", "commerce", "inventory"):
        caller = await desk.known(role)
        for answer in (await caller.get(path), await caller.post(path, {"text": "x"})):
            assert (answer.status_code, answer.json()["type"]) == (403, "/problems/forbidden"), role
    assert (await (await desk.known("auditor")).post(path, {"text": "x"})).status_code == 403
    stranger = await desk.caller("service", channels=["somebody-elses"])
    for answer in (await stranger.get(path), await stranger.post(path, {"text": "x"})):
        assert (answer.status_code, answer.json()["resource"]) == (404, "order")
    assert len(await read(await desk.known("ops"), order["id"])) == 1


async def test_the_same_key_writes_one_note(desk: FrontDesk) -> None:
    """The first note answers, marked as replayed; another text under the key is a mismatch."""
    order = await desk.place(("LAMP", 1))
    service = await desk.known("service")
    path, key = f"/v1/orders/{order['id']}/notes", {"idempotency-key": f"note-{order['id']}"}
    first, second = [await service.post(path, {"text": "Once."}, key) for _ in range(2)]
    other = await service.post(path, {"text": "Twice."}, key)
    assert (first.status_code, second.status_code, second.json()) == (201, 201, first.json())
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-mismatch")
    assert await read(service, order["id"]) == [first.json()]


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/text", "missing"),
        ({"text": ""}, "/text", "string_too_short"),
        ({"text": " \n\t "}, "/text", "blank"),
        ({"text": "x" * 4001}, "/text", "string_too_long"),
        ({"text": f"{CANARY}\x07"}, "/text", "forbidden_characters"),
        ({"text": f"{CANARY}\u202e"}, "/text", "forbidden_characters"),
        ({"text": f"{CANARY} 4111 1111 1111 1111"}, "/text", "card_number"),
        ({"text": f"{CANARY} 4111 1111\n1111 1111"}, "/text", "card_number"),
        ({"text": CANARY, "author": "boss"}, "/author", "unknown_field"),
    ],
)
async def test_a_note_that_must_not_enter_is_refused(desk: FrontDesk, body: Any, pointer: str, code: str) -> None:
    """422 by name, without saying again what was sent, and nothing is stored."""
    order = await desk.place(("LAMP", 1))
    service = await desk.known("service")
    answer = await service.post(f"/v1/orders/{order['id']}/notes", body)
    assert answer.status_code == 422
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [(pointer, code)]
    assert CANARY not in answer.text
    assert await read(service, order["id"]) == []


async def test_notes_come_in_pages(desk: FrontDesk) -> None:
    """Each once, oldest first; a cursor belongs to its order."""
    order, other = await desk.place(("LAMP", 1)), await desk.place(("LAMP", 1))
    service = await desk.known("service")
    written = [await write(service, order["id"], f"Number {n}") for n in range(5)]
    path, seen = f"/v1/orders/{order['id']}/notes?limit=2", []
    answer = await service.get(path)
    first = answer.json()["next_cursor"]
    while True:
        seen.append([note["text"] for note in answer.json()["data"]])
        if not answer.json()["has_more"]:
            break
        assert 'rel="next"' in answer.headers["link"]
        answer = await service.get(f"{path}&cursor={answer.json()['next_cursor']}")
    assert sorted(text for page in seen for text in page) == [note["text"] for note in written]
    assert [len(page) for page in seen] == [2, 2, 1]
    foreign = await service.get(f"/v1/orders/{other['id']}/notes?limit=2&cursor={first}")
    assert (foreign.status_code, foreign.json()["type"]) == (400, "/problems/cursor-invalid")


async def test_what_a_note_says_is_nowhere_but_in_its_sealed_column(desk: FrontDesk) -> None:
    """No table, no event, no history, no attribute, no log; and the sealed bytes do not hold it either."""
    logs = io.StringIO()
    handler = logging.StreamHandler(logs)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with structlog.testing.capture_logs() as events:
            order = await _with_notes(desk)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    dump = await _everything(desk)
    assert order["id"] in dump
    for form in (CANARY, CANARY.encode().hex(), CANARY[1:-1]):
        assert form not in dump
    assert CANARY not in logs.getvalue() + json.dumps(events, default=str)
    assert "request.done" in json.dumps(events, default=str)
    handle = desk.shop.client.get_workflow_handle(f"order-{order['id']}")
    history = b"".join(event.SerializeToString() for event in (await handle.fetch_history()).events)
    assert desk.shop.sku("LAMP").encode() in history
    assert CANARY.encode() not in history
    assert CANARY not in str((await handle.describe()).raw_description)


async def _with_notes(desk: FrontDesk) -> dict[str, Any]:
    """An order with a note, written twice under one key, read, and then cancelled; a bad note was refused."""
    order = await desk.place(("LAMP", 1))
    service = await desk.known("service")
    key = {"idempotency-key": f"canary-{order['id']}"}
    for _ in range(2):
        note = await write(service, order["id"], f"A bird sings: {CANARY}.", key)
    assert CANARY in note["text"]
    await service.post(f"/v1/orders/{order['id']}/notes", {"text": f"{CANARY}\x07"})
    assert [CANARY in note["text"] for note in await read(service, order["id"])] == [True]
    await service.post(f"/v1/orders/{order['id']}/cancellations", {"reason": "other"}, WAIT)
    await desk.becomes(order["id"], status="cancelled")
    return order


async def _everything(desk: FrontDesk) -> str:
    """Every row of every table as text; bytes as hexadecimal digits."""
    names = await desk.shop.sql("SELECT tablename AS t FROM pg_tables WHERE schemaname = 'public'")
    tables = [await desk.shop.sql(f'SELECT to_jsonb(x)::text AS row FROM "{row["t"]}" x') for row in names]  # noqa: S608
    return "".join(str(row["row"]) for rows in tables for row in rows)


async def test_a_note_cannot_be_changed_or_moved(desk: FrontDesk) -> None:
    """Rows are only added; sealed bytes under another order, another id or another key do not open."""
    order, other = await desk.place(("LAMP", 1)), await desk.place(("LAMP", 1))
    note = await write(await desk.known("service"), order["id"], "Only here.")
    head = OrderHead(order["id"], "confirmed", terminal=False, version=1)
    async with desk.shop.engine.connect() as connection:
        stored = await find_note(connection, head, note["id"])
    assert stored is not None
    ring = desk.app.state.front.vault
    assert text_of(ring, stored) == "Only here."
    moved = StoredNote(**{**vars(stored), "order_id": other["id"]})
    renamed = StoredNote(**{**vars(stored), "note_id": "nte_other"})
    for wrong in (moved, renamed):
        with pytest.raises(VaultLocked):
            text_of(ring, wrong)
    with pytest.raises(VaultLocked):
        text_of(((1, b"x" * 32),), stored)
    with pytest.raises(Exception, match="append-only"):
        await desk.shop.sql("UPDATE notes SET order_id = :o WHERE note_id = :n", o=other["id"], n=note["id"])

"""What a customer was told, over HTTP: listed, and sent again on demand."""

from typing import Any

from api.notices import NoticeList
from tests.support.eventually import eventually
from tests.support.front_desk import Caller, FrontDesk

WAIT = {"prefer": "wait=15"}


async def listed(caller: Caller, order_id: str) -> list[dict[str, Any]]:
    """The notices of an order."""
    answer = await caller.get(f"/v1/orders/{order_id}/notices")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def told(desk: FrontDesk, order_id: str, *states: str) -> list[dict[str, Any]]:
    """Empty the outbox until the notices of the order are in these states."""
    ops = await desk.known("ops")

    async def so() -> list[dict[str, Any]] | None:
        await desk.shop.outbox_runs()
        found = await listed(ops, order_id)
        return found if [notice["state"] for notice in found] == list(states) else None

    return await eventually(so)


async def test_what_a_customer_was_told_is_listed(desk: FrontDesk) -> None:
    """Kind, event, state, language; neither address nor text; the order is as before."""
    order = await desk.place(("LAMP", 1))
    before = (await (await desk.known("ops")).get(f"/v1/orders/{order['id']}")).json()["version"]
    (notice,) = await told(desk, order["id"], "sent")
    assert notice["id"].startswith("ntc_")
    assert (notice["kind"], notice["event_type"], notice["language"]) == ("order_confirmed", "order.confirmed", "en")
    assert (notice["attempts"], notice["required"], notice["fell_back"], notice["resends"]) == (1, False, False, None)
    assert notice["next_attempt_at"] is None
    service = await desk.known("service")
    answer = await service.get(f"/v1/orders/number:{order['order_number']}/notices")
    NoticeList.model_validate(answer.json())
    assert answer.headers["cache-control"] == "no-store"
    assert "jamie" not in answer.text.lower()
    after = await desk.shop.sql("SELECT version FROM orders WHERE order_id = :o", o=order["id"])
    assert after[0]["version"] >= before


async def test_pages_of_notices(desk: FrontDesk) -> None:
    """One at a time, oldest first, by cursor; a cursor of another order is refused."""
    order, other = await desk.place(("LAMP", 1)), await desk.place(("LAMP", 1))
    service = await desk.known("service")
    cancelled = await service.post(f"/v1/orders/{order['id']}/cancellations", {"reason": "other"}, WAIT)
    assert cancelled.status_code in (201, 202), cancelled.text
    await desk.becomes(order["id"], status="cancelled")
    first = (await service.get(f"/v1/orders/{order['id']}/notices?limit=1")).json()
    path = f"/v1/orders/{order['id']}/notices?limit=1&cursor={first['next_cursor']}"
    second = (await service.get(path)).json()
    kinds = [page["data"][0]["kind"] for page in (first, second)]
    assert kinds == ["order_confirmed", "order_cancelled"]
    assert (first["has_more"], second["has_more"]) == (True, False)
    stolen = await service.get(f"/v1/orders/{other['id']}/notices?limit=1&cursor={first['next_cursor']}")
    assert stolen.json()["type"] == "/problems/cursor-invalid"


async def test_a_notice_is_sent_again_and_the_first_one_stays(desk: FrontDesk) -> None:
    """202 with a new notice that names its original and who asked; the same key again makes no second one."""
    # given
    order = await desk.place(("LAMP", 1))
    (first,) = await told(desk, order["id"], "sent")
    service = await desk.known("service")
    path, body = f"/v1/orders/{order['id']}/resends", {"notice": first["id"]}
    # when
    answer = await service.post(path, body, {"idempotency-key": "again-1"})
    replay = await service.post(path, body, {"idempotency-key": "again-1"})
    # then
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/orders/{order['id']}/notices"
    new = answer.json()
    assert (new["state"], new["resends"], new["kind"]) == ("pending", first["id"], "order_confirmed")
    assert (new["asked_by"]["kind"], new["asked_by"]["role"]) == ("program", "service")
    assert (replay.status_code, replay.json()["id"]) == (202, new["id"])
    assert replay.headers["idempotency-replayed"] == "true"
    mismatch = await service.post(path, {"notice": new["id"]}, {"idempotency-key": "again-1"})
    assert mismatch.json()["type"] == "/problems/idempotency-mismatch"
    # and when
    found = await told(desk, order["id"], "sent", "sent")
    assert found[0] == first
    # then a third one, through the second: all name the first
    third = (await service.post(path, {"notice": new["id"]})).json()
    assert (third["resends"], third["id"] not in (first["id"], new["id"])) == (first["id"], True)
    await told(desk, order["id"], "sent", "sent", "sent")
    sent = [e for e in desk.shop.simulation.effects(order["id"]) if e.provider == "notifications"]
    assert [effect.subject for effect in sent] == ["order_confirmed"] * 3
    events = await desk.shop.sql("SELECT type FROM order_events WHERE order_id = :o", o=order["id"])
    assert not [row for row in events if "notice" in row["type"]]


async def test_what_is_refused_changes_nothing(desk: FrontDesk) -> None:
    """Still to be sent, sent again too often, not wanted by the customer: a problem each, and no row."""
    service = await desk.known("service")
    preferences = {"notices": False}
    waiting, silent = await desk.place(("LAMP", 1)), await desk.place(("LAMP", 1), preferences=preferences)
    for order, reason, state in ((waiting, "notice_not_over", "pending"), (silent, "opted_out", "suppressed")):
        (notice,) = await listed(service, order["id"])
        answer = await service.post(f"/v1/orders/{order['id']}/resends", {"notice": notice["id"]})
        assert (answer.status_code, answer.json()["type"]) == (409, "/problems/action-not-available")
        assert (answer.json()["reason"], answer.json()["state"]) == (reason, state)
        assert await listed(service, order["id"]) == [notice]
    (notice,) = await told(desk, waiting["id"], "sent")
    path = f"/v1/orders/{waiting['id']}/resends"
    for number in range(10):
        assert (await service.post(path, {"notice": notice["id"]})).status_code == 202, number
        await told(desk, waiting["id"], *["sent"] * (number + 2))
    assert (await service.post(path, {"notice": notice["id"]})).json()["reason"] == "too_many_resends"
    assert len(await listed(service, waiting["id"])) == 11


async def test_a_notice_of_another_order_is_not_found(desk: FrontDesk) -> None:
    """Nor one that does not exist; what is no id at all is refused by name."""
    service = await desk.known("service")
    one, other = await desk.place(("LAMP", 1)), await desk.place(("LAMP", 1))
    (notice,) = await listed(service, other["id"])
    for wanted in (notice["id"], "ntc_01M84BZNW00000000000000000"):
        answer = await service.post(f"/v1/orders/{one['id']}/resends", {"notice": wanted})
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
    refused = await service.post(f"/v1/orders/{one['id']}/resends", {"notice": "the first one"})
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/notice"]


async def test_a_failed_notice_is_sent_again_and_its_case_closes(desk: FrontDesk) -> None:
    """Refused by the provider, put right by a person, sent again: the case is gone although the order has ended."""
    order = await desk.place(("LAMP", 1))
    service = await desk.known("service")
    await service.post(f"/v1/orders/{order['id']}/cancellations", {"reason": "other"}, WAIT)
    await desk.becomes(order["id"], status="cancelled")
    desk.shop.simulation.set_control("notifications.decline", 1, order["id"])
    failed = await told(desk, order["id"], "failed", "failed")
    desk.shop.simulation.clear_control("notifications.decline", order["id"])
    queue = f"/v1/exceptions?order={order['id']}"
    (case,) = (await service.get(queue)).json()["data"]
    assert (case["code"], case["state"], case["choices"]) == ("notice_failing", "open", ["dismiss"])
    for number, notice in enumerate(failed, 3):
        answer = await service.post(f"/v1/orders/{order['id']}/resends", {"notice": notice["id"]})
        assert answer.status_code == 202, answer.text
        states = ["failed", "failed", *["sent"] * (number - 2)]
        ops = await desk.known("ops")

        async def arrived(wanted: list[str] = states, ops: Caller = ops) -> bool:
            await desk.shop.outbox_runs()
            return sorted(n["state"] for n in await listed(ops, order["id"])) == sorted(wanted)

        await eventually(arrived)
        (case,) = (await service.get(queue)).json()["data"]
        assert case["state"] == ("open" if number == 3 else "auto_closed")


async def test_the_language_comes_from_the_customer_s_locale(desk: FrontDesk) -> None:
    """de-AT is German; the locale itself stays in the vault."""
    customer = {"name": "Jamie Example", "email": "jamie@example.com", "locale": "de-AT"}
    order = await desk.place(("LAMP", 1), customer=customer)
    (notice,) = await told(desk, order["id"], "sent")
    assert (notice["language"], notice["template"]) == ("de", "email/default/de/order_confirmed.txt")

"""Who may do what: generated from the table of permissions, compared with what the API really answers.

Every role meets every operation on its own objects and on somebody else's; nobody, a stranger and an expired
key meet every operation too.
"""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from api.assembly import ALL_ROUTES, check_complete, operations_of
from api.credentials import digest, mint
from api.orders import routes as order_routes
from api.routing import OperationUnknown, Routes
from domain.orders import ActorKind
from domain.permissions import (
    OPERATIONS,
    Personal,
    Principal,
    Role,
    Rule,
    may,
    personal_view,
    scope_of,
    ship_to_view,
)
from store.keys import put_key, revoke_key
from tests.support.front_desk import AT, Caller, FrontDesk

# Shoppers come with tokens: tests/http/test_tokens.py.
PROGRAMS = [role for role in Role if role is not Role.SHOPPER]
GUARDED = [name for name, operation in OPERATIONS.items() if not operation.public]


ALLOWED = [(role, name) for name in GUARDED for role in PROGRAMS if role in OPERATIONS[name].allow]


@dataclass(frozen=True)
class Objects:
    """One order with its work, its decision and a case of fulfillment that is closed."""

    order_id: str
    fulfillment_id: str
    shipment_id: str
    decision_id: str
    exception_id: str = "exc_nothing"
    node_id: str = "EAST"


@pytest.fixture(scope="module")
async def objects(desk: FrontDesk) -> Objects:
    """An order at its node."""
    order = await desk.place(("LAMP", 1))
    part = await desk.packed(order["id"])
    rows = await desk.shop.sql("SELECT decision_id FROM decisions WHERE order_id = :o", o=order["id"])
    case = f"exc_{order['id'][4:]}"
    await desk.shop.sql(
        "INSERT INTO exceptions (exception_id, order_id, code, owner, detail, due_at, state, resolution)"
        " VALUES (:e, :o, 'node_silent', 'fulfillment', 'silent', now() - interval '1 year', 'resolved', 'dismiss')",
        e=case,
        o=order["id"],
    )
    return Objects(order["id"], part["id"], part["shipment_id"], rows[0]["decision_id"], case)


def request_of(operation_id: str, objects: Objects, desk: FrontDesk) -> tuple[str, str, Any]:
    """A request that passes every check but those of permission, without changing anything."""
    order = f"/v1/orders/{objects.order_id}"
    report = {"report_id": "matrix", "kind": "cancel_agreed", "occurred_at": AT}
    scan = {"event_id": "matrix", "type": "pre_transit", "occurred_at": AT}
    receipt = {"receipt_id": "matrix", "sku": "NOTHING", "quantity": 1}
    one_more = {"op": "set_quantity", "line": 1, "quantity": 2}
    requests: dict[str, tuple[str, str, Any]] = {
        "createOrder": ("POST", "/v1/orders", desk.order(("RARE", 99))),
        "listOrders": ("GET", "/v1/orders?limit=200", None),
        "getOrder": ("GET", order, None),
        "listOrderEvents": ("GET", f"{order}/events", None),
        "requestCancellation": ("POST", f"{order}/cancellations", {"reason": "other", "dry_run": True}),
        "listCancellations": ("GET", f"{order}/cancellations", None),
        "getCancellation": ("GET", f"{order}/cancellations/can_nothing", None),
        "amendOrder": ("POST", f"{order}/amendments", {"changes": [one_more], "dry_run": True}),
        "quoteReturn": ("POST", f"{order}/returns/quote", {}),
        "listAmendments": ("GET", f"{order}/amendments", None),
        "getAmendment": ("GET", f"{order}/amendments/amd_nothing", None),
        "placeHold": ("POST", f"{order}/holds", {"type": "manual", "blocks": ["schedule"]}),
        "listHolds": ("GET", f"{order}/holds", None),
        "getHold": ("GET", f"{order}/holds/hld_nothing", None),
        "releaseHold": ("POST", f"{order}/holds/hld_nothing/release", {}),
        "chooseRemedy": ("POST", f"{order}/remedies", {"remedy": "refund"}),
        "forceCloseOrder": ("POST", f"{order}/force-closures", {"reason": "Not a code"}),
        "addTender": ("POST", f"{order}/tenders", {"reference": "pm_ok"}),
        "listFulfillmentOrders": ("GET", "/v1/fulfillment-orders?limit=200", None),
        "getFulfillmentOrder": ("GET", f"/v1/fulfillment-orders/{objects.fulfillment_id}", None),
        "reportFulfillment": ("POST", f"/v1/fulfillment-orders/{objects.fulfillment_id}/reports", report),
        "recordShipmentEvent": ("POST", f"/v1/shipments/{objects.shipment_id}/events", scan),
        "listNodes": ("GET", "/v1/nodes", None),
        "freezeNode": ("POST", f"/v1/nodes/{objects.node_id}/freeze", {"begins_at": "2999-01-01T00:00:00Z"}),
        "unfreezeNode": ("POST", f"/v1/nodes/{objects.node_id}/unfreeze", {}),
        "getSilenceRules": ("GET", "/v1/rulesets/node-silence", None),
        "setSilenceRules": ("POST", "/v1/rulesets/node-silence/versions", {"channel": desk.shop.channel}),
        "getRiskRules": ("GET", "/v1/rulesets/risk", None),
        "setRiskRules": ("POST", "/v1/rulesets/risk/versions", {"channel": desk.shop.channel, "rules": []}),
        "testRiskRules": ("POST", "/v1/rulesets/risk:test", {"order_id": objects.order_id}),
        "listDecisions": ("GET", f"{order}/decisions", None),
        "getDecision": ("GET", f"/v1/decisions/{objects.decision_id}", None),
        "listExceptions": ("GET", "/v1/exceptions?limit=200", None),
        "getException": ("GET", f"/v1/exceptions/{objects.exception_id}", None),
        "assignException": ("PATCH", f"/v1/exceptions/{objects.exception_id}", {"assignee": "matrix"}),
        "resolveException": ("POST", f"/v1/exceptions/{objects.exception_id}/resolutions", {"choice": "dismiss"}),
        "addNote": ("POST", f"{order}/notes", {"text": "Matrix."}),
        "listNotes": ("GET", f"{order}/notes", None),
        "listNotices": ("GET", f"{order}/notices", None),
        "receiveStock": ("POST", "/v1/stock/receipts", {**receipt, "node": "EAST"}),
        "setBackorder": ("PUT", "/v1/items/NOTHING/backorder", {"allowed": True}),
        "resendNotification": ("POST", f"{order}/resends", {"notice": "ntc_01M84BZNW00000000000000000"}),
    }
    return requests[operation_id]


# What each operation answers to somebody who may and whose object it is.
WHEN_ALLOWED = {
    "createOrder": 409,  # out of stock: the request got as far as the order's own rules
    "getCancellation": 404,  # of this order there is none
    "getAmendment": 404,  # of this order there is none
    "quoteReturn": 409,  # nothing of it has left
    "placeHold": 409,  # it was scheduled long ago
    "getHold": 404,
    "releaseHold": 404,
    "chooseRemedy": 409,  # its parcel is in no trouble
    "forceCloseOrder": 422,  # its reason is no code: the order goes on
    "addTender": 400,  # without an Idempotency-Key
    "reportFulfillment": 409,  # nobody asked the node to stop
    "assignException": 409,  # it is closed
    "resolveException": 409,
    "addNote": 201,
    "receiveStock": 422,  # no such item
    "setBackorder": 404,  # no such item
    "resendNotification": 404,  # no such notice
}
LISTS = ("listOrders", "listFulfillmentOrders", "listExceptions", "listNodes")
OF_NODES = ("listNodes", "freezeNode", "unfreezeNode")  # a node has no channel: who is given some may not
TEAM_ONLY = ("assignException", "resolveException")  # of the cases that a role sees, only its own team's


async def caller_of(desk: FrontDesk, role: Role, *, own: bool, of_nodes: bool = False) -> Caller:
    """A caller with the role, whose channel is that of the objects, or another; or whose node is."""
    channels = [desk.shop.channel] if own else ["somebody-elses"]
    nodes = ["EAST"] if own else ["NOWHERE"]
    if of_nodes or role in (Role.WAREHOUSE, Role.INVENTORY):
        channels = []
    else:
        nodes = []
    minted = mint("test")
    async with desk.shop.engine.begin() as connection:
        stored = digest(minted.text, desk.pepper)
        await put_key(connection, minted.key_id, stored, role, [role], channels, nodes)
    return Caller(desk.http, minted.text)


async def sees(desk: FrontDesk, caller: Caller, operation_id: str, objects: Objects) -> tuple[int, Any]:
    """What the caller gets."""
    method, path, body = request_of(operation_id, objects, desk)
    answer = await caller.call(method, path, body)
    return answer.status_code, answer.json()


SETS = ("setRiskRules", "setSilenceRules")


@pytest.mark.parametrize("operation_id", GUARDED)
@pytest.mark.parametrize("role", PROGRAMS)
async def test_a_role_meets_its_own_objects(desk: FrontDesk, objects: Objects, role: Role, operation_id: str) -> None:
    """Allowed operations work on own objects; all others are 403 and name the roles that may."""
    caller = await caller_of(desk, role, own=True, of_nodes=operation_id in OF_NODES)
    status, body = await sees(desk, caller, operation_id, objects)
    if role not in OPERATIONS[operation_id].allow:
        assert status == 403
        assert body["needs_role"] == sorted(OPERATIONS[operation_id].allow)
        return
    if operation_id in TEAM_ONLY and role not in (Role.WAREHOUSE, Role.OPS):
        assert (status, body["needs_role"]) == (403, ["ops", "warehouse"])
        return
    if operation_id == "receiveStock" and role is Role.OPS:
        assert status == 404  # who is narrowed to a channel has no node
        return
    if operation_id in SETS:
        assert status in (200, 201)  # 200 where the rules are these already
        return
    assert status == WHEN_ALLOWED.get(operation_id, 200)
    if operation_id in LISTS:
        listed = {entry["id"] for entry in await caller.all_of(request_of(operation_id, objects, desk)[1])}
        assert {objects.order_id, objects.fulfillment_id, objects.exception_id, objects.node_id} & listed


@pytest.mark.parametrize(("role", "operation_id"), ALLOWED)
async def test_a_role_does_not_meet_what_is_not_its_own(
    desk: FrontDesk, objects: Objects, role: Role, operation_id: str
) -> None:
    """What belongs to others looks exactly like what does not exist."""
    stranger = await caller_of(desk, role, own=False, of_nodes=operation_id in OF_NODES)
    status, body = await sees(desk, stranger, operation_id, objects)
    if operation_id in LISTS:
        assert (status, body["data"]) == (200, [])
        return
    if operation_id in ("getRiskRules", "getSilenceRules"):
        assert {entry["channel"] for entry in body["data"]} <= {"*"}
        return
    if operation_id in ("createOrder", "setRiskRules", "setSilenceRules"):
        assert status == 422
        assert "unknown_channel" in {error["code"] for error in body["errors"]}
        return
    if operation_id == "addTender":
        headers = {"idempotency-key": "stranger"}
        answer = await stranger.post(f"/v1/orders/{objects.order_id}/tenders", {"reference": "pm_ok"}, headers)
        assert answer.status_code == 404
        return
    if operation_id == "forceCloseOrder":  # the table's request cannot be read, lest it end the order
        answer = await stranger.post(f"/v1/orders/{objects.order_id}/force-closures", {"reason": "node_gone"})
        assert answer.status_code == 404
        return
    assert status == 404
    missing = Objects(*(re.sub(r"_.*", "_NOTHING", name) for name in vars(objects).values()))
    unknown_status, unknown = await sees(desk, stranger, operation_id, missing)
    assert unknown_status == 404
    volatile = ("request_id", "instance")
    assert {k: v for k, v in body.items() if k not in volatile} == {
        k: v for k, v in unknown.items() if k not in volatile
    }


@pytest.mark.parametrize("operation_id", GUARDED)
async def test_nobody_and_bad_keys_are_told_the_same(desk: FrontDesk, objects: Objects, operation_id: str) -> None:
    """401 without a credential, with a made-up key, a wrong secret, an expired and a revoked key."""
    minted, expired, revoked = mint("test"), mint("test"), mint("test")
    async with desk.shop.engine.begin() as connection:
        for key in (minted, expired, revoked):
            await put_key(connection, key.key_id, digest(key.text, desk.pepper), "x", ["ops"])
        from sqlalchemy import text

        await connection.execute(
            text("UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE key_id = :k"), {"k": expired.key_id}
        )
        assert await revoke_key(connection, revoked.key_id)
    wrong = minted.text[:-1] + ("0" if minted.text[-1] != "0" else "1")
    bodies = []
    for credential in ("", "nonsense", mint("test").text, wrong, expired.text, revoked.text, "acc_dev_"):
        caller = Caller(desk.http, credential)
        status, body = await sees(desk, caller, operation_id, objects)
        assert status == 401, credential
        bodies.append({name: value for name, value in body.items() if name != "request_id"})
    assert all(body == bodies[0] for body in bodies)


async def test_a_key_in_the_address_is_not_a_credential(desk: FrontDesk) -> None:
    """Keys belong in the header: addresses end up in logs."""
    key = (await desk.known("ops")).credential
    answer = await desk.http.get(f"/v1/orders?api_key={key}&access_token={key}")
    assert answer.status_code == 401


async def test_the_stored_keys_are_of_no_use(desk: FrontDesk) -> None:
    """A dump of the table holds no key and no secret."""
    caller = await desk.known("ops")
    dump = str(await desk.shop.sql("SELECT key_id, encode(digest, 'hex') AS d, name FROM api_keys"))
    assert caller.credential.rpartition("_")[2] not in dump


@pytest.mark.parametrize("path", ["/healthz", "/version", "/problems", "/problems/validation"])
async def test_what_is_public_needs_nobody(desk: FrontDesk, path: str) -> None:
    """Public entries answer without credentials, and say nothing about the installation's insides."""
    answer = await desk.http.get(path)
    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_routes_and_table_are_one_to_one() -> None:
    """Every operation has one route, every route is an operation; either way round the start is refused."""
    assert sorted(operations_of(ALL_ROUTES)) == sorted(OPERATIONS)
    check_complete(ALL_ROUTES)
    with pytest.raises(OperationUnknown, match="getDecision"):
        check_complete(
            tuple(routes for routes in ALL_ROUTES if routes.router.routes[-1].name != "get" or routes is order_routes)
        )
    with pytest.raises(OperationUnknown, match="deleteEverything"):
        Routes().add("DELETE", "/v1/everything", "deleteEverything", answers={200: (None, "gone")})


def _principal(*roles: Role, channels: tuple[str, ...] = (), nodes: tuple[str, ...] = ()) -> Principal:
    return Principal(id="p", kind=ActorKind.PROGRAM, roles=roles, channels=channels, nodes=nodes, customer_ref="cus_1")


def test_no_channels_means_none_for_a_shop_and_all_for_operators() -> None:
    """An empty list opens nothing to a storefront, and everything to those who look after all of it."""
    assert scope_of(_principal(Role.STOREFRONT), "getOrder").empty
    assert scope_of(_principal(Role.WAREHOUSE), "listFulfillmentOrders").empty
    assert scope_of(_principal(Role.OPS), "getOrder").everything
    assert scope_of(_principal(Role.STOREFRONT, channels=("*",)), "getOrder").everything
    narrowed = scope_of(_principal(Role.OPS, channels=("web-us",)), "getOrder")
    assert (narrowed.everything, narrowed.channels) == (False, ("web-us",))
    assert scope_of(_principal(Role.COMMERCE), "getOrder").empty


def test_roles_add_up_and_a_shopper_has_own_orders_only() -> None:
    """Two roles give the union; the customer's reference comes in for shoppers alone."""
    both = _principal(Role.STOREFRONT, Role.WAREHOUSE, channels=("web-us",), nodes=("EAST",))
    assert may(both, "createOrder")
    assert may(both, "reportFulfillment")
    assert scope_of(both, "getOrder").customer_ref is None
    shopper = scope_of(_principal(Role.SHOPPER), "getOrder")
    assert (shopper.everything, shopper.channels, shopper.customer_ref) == (False, (), "cus_1")


def test_who_sees_personal_data() -> None:
    """The customer sees it in full, those who serve masked, everyone else not at all."""
    views = {role: personal_view(_principal(role)) for role in Role}
    assert views.pop(Role.SHOPPER) is Personal.FULL
    masked = {role for role, view in views.items() if view is Personal.MASKED}
    assert masked == {Role.STOREFRONT, Role.SERVICE, Role.OPS}


def test_who_sees_where_a_parcel_goes() -> None:
    """A node's program at its own nodes; roles that come along add no node, and no address elsewhere."""
    east = {"nodes": ("EAST",)}
    both = _principal(Role.WAREHOUSE, Role.OPS, **east)
    assert ship_to_view(_principal(Role.WAREHOUSE, **east), "EAST") is Personal.FULL
    assert ship_to_view(_principal(Role.WAREHOUSE, nodes=("*",)), "EAST") is Personal.FULL
    assert ship_to_view(_principal(Role.WAREHOUSE, **east), "WEST") is Personal.NONE
    assert (ship_to_view(both, "EAST"), ship_to_view(both, "WEST")) == (Personal.FULL, Personal.MASKED)
    assert ship_to_view(_principal(Role.OPS, **east), "EAST") is Personal.MASKED
    assert ship_to_view(_principal(Role.AUDITOR, Role.SHOPPER, **east), "EAST") is Personal.NONE


async def test_each_role_gets_the_fields_it_may_see(desk: FrontDesk, objects: Objects) -> None:
    """Auditor and finance get the opaque reference only; nobody here gets the street."""
    shown = {}
    for role in (Role.STOREFRONT, Role.SERVICE, Role.OPS, Role.FINANCE, Role.AUDITOR):
        caller = await caller_of(desk, role, own=True)
        answer = await caller.get(f"/v1/orders/{objects.order_id}")
        assert "Sample Street" not in answer.text
        assert "jamie@" not in answer.text
        body = answer.json()
        shown[role] = (sorted(body["customer"]), sorted(body["ship_to"]))
    masked = (["email", "name", "ref"], ["country", "postal_code", "region"])
    coarse = (["ref"], ["country", "region"])
    assert shown == {
        Role.STOREFRONT: masked,
        Role.SERVICE: masked,
        Role.OPS: masked,
        Role.FINANCE: coarse,
        Role.AUDITOR: coarse,
    }


async def test_only_what_the_role_may_do_is_offered(desk: FrontDesk, objects: Objects) -> None:
    """available_actions follows the table: an auditor is offered nothing."""
    offered = {}
    for role in (Role.STOREFRONT, Role.OPS, Role.AUDITOR):
        caller = await caller_of(desk, role, own=True)
        body = (await caller.get(f"/v1/orders/{objects.order_id}")).json()
        offered[role] = sorted({action["action"] for action in body["available_actions"]})
    assert offered == {
        Role.STOREFRONT: ["add_tender", "amend", "cancel"],
        Role.OPS: ["amend", "cancel", "place_hold"],
        Role.AUDITOR: [],
    }


def test_every_rule_of_the_table_is_used() -> None:
    """No rule is there for show."""
    used = {rule for operation in OPERATIONS.values() for rule in operation.allow.values()}
    assert used == set(Rule)

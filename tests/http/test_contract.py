"""The recorded contract is what the code offers, every answer is what it documents, every problem has a page."""

import json
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api import answers, examples, hold_models, service_answers, work_answers
from api.assembly import ALL_ROUTES, assemble, request_bodies
from api.commanding import MESSAGES
from api.gateway import OUTCOMES
from api.limits import Limits
from api.openapi import DOCS, document, permissions_page
from api.problems import PROBLEMS
from domain.permissions import OPERATIONS, Role
from tests.support.front_desk import AT, FrontDesk

WAIT = {"prefer": "wait=15"}


def _document() -> dict[str, Any]:
    return document(assemble(Limits()))


def _operations(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["operationId"]: one for path in found["paths"].values() for one in path.values()}


def test_the_recorded_contract_is_current() -> None:
    """`python -m api.openapi` has been run after the last change."""
    recorded = json.loads((DOCS / "openapi.json").read_text())
    assert recorded == json.loads(json.dumps(_document()))
    assert (DOCS / "permissions.md").read_text() == permissions_page()


def test_every_operation_is_documented_completely() -> None:
    """Id, short summary, tag, description, statuses with a text, a body with an example that fits."""
    found = _document()
    assert found["openapi"].startswith("3.1")
    operations = _operations(found)
    assert sorted(operations) == sorted(OPERATIONS)
    for name, operation in operations.items():
        assert 0 < len(operation["summary"]) <= 60, name
        assert operation["tags"], name
        assert operation["description"], name
        assert all(response["description"] for response in operation["responses"].values()), name
        assert {"500", "431"} <= set(operation["responses"]), name
        if not OPERATIONS[name].public:
            assert {"401", "403", "429", "503"} <= set(operation["responses"]), name
            assert operation["security"] == [{"bearer": []}], name
    for name, model in request_bodies().items():
        content = operations[name]["requestBody"]["content"]["application/json"]
        model.model_validate(content["examples"]["example"]["value"])
        assert content["schema"]["$ref"].rpartition("/")[2] in found["components"]["schemas"]


def test_no_reference_leads_nowhere() -> None:
    """Every $ref of the document is there."""
    found = _document()
    text = json.dumps(found)
    names = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names <= set(found["components"]["schemas"])


def test_no_undocumented_route() -> None:
    """Everything that is served is an operation of the document."""
    app = assemble(Limits())
    served = {
        route.operation_id for routes in ALL_ROUTES for route in routes.router.routes if isinstance(route, APIRoute)
    }
    assert served == set(_operations(document(app)))


def test_every_command_has_a_message_and_an_outcome() -> None:
    """What can be sent can be answered; the table names the same commands."""
    assert set(MESSAGES) == set(OUTCOMES)
    named = {operation.command for operation in OPERATIONS.values() if operation.command}
    by_choice = "write_off"  # only ever sent to resolve a case, by an operation that sends others too
    assert {*named, by_choice} == {*MESSAGES, "accept"}


@pytest.mark.parametrize("operation_id", [name for name, operation in OPERATIONS.items() if operation.command])
async def test_a_condition_that_nobody_evaluates_is_refused(desk: FrontDesk, operation_id: str) -> None:
    """If-Match on a command is 422 by name, before anything is looked up or stored: it must not look as if it held."""
    everybody = await desk.caller(*Role)
    (path,) = [
        route.path
        for routes in ALL_ROUTES
        for route in routes.router.routes
        if isinstance(route, APIRoute) and route.operation_id == operation_id
    ]
    answer = await everybody.post(path, {}, {"if-match": '"v1"', "idempotency-key": "condition"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/validation")
    found = [(error["pointer"], error["code"]) for error in answer.json()["errors"]]
    assert found == [("/header/if-match", "not_supported")]


async def test_every_problem_has_a_page(desk: FrontDesk) -> None:
    """As JSON for programs and as a page for people; an unknown one is 404."""
    listed = (await desk.http.get("/problems")).json()["data"]
    assert {entry["type"] for entry in listed} == {f"/problems/{slug}" for slug in PROBLEMS}
    for slug, problem in PROBLEMS.items():
        told = (await desk.http.get(f"/problems/{slug}")).json()
        assert (told["title"], told["status"]) == (problem.title, problem.status)
        page = await desk.http.get(f"/problems/{slug}", headers={"accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert problem.title.split("'")[0] in page.text
    assert (await desk.http.get("/problems/none-such")).status_code == 404


def _fits(model: type[BaseModel], body: Any) -> None:
    """The body has exactly the documented fields."""
    model.model_validate(body)


async def test_answers_are_what_they_document(desk: FrontDesk) -> None:
    """One order through its life: every body fits its model, which allows no other field."""
    storefront, warehouse, ops = [await desk.known(role) for role in ("storefront", "warehouse", "ops")]
    async_one = await storefront.post("/v1/orders", desk.order(("LAMP", 1)), {"prefer": "respond-async"})
    _fits(answers.ReceivedOrder, async_one.json())
    order = await desk.place(("LAMP", 2))
    _fits(answers.Order, order)
    part = await desk.packed(order["id"])
    _fits(work_answers.FulfillmentOrder, part)
    _fits(work_answers.FulfillmentOrderList, (await warehouse.get("/v1/fulfillment-orders")).json())
    path = f"/v1/fulfillment-orders/{part['id']}/reports"
    left = {"report_id": "c", "kind": "handed_over", "occurred_at": AT}
    _fits(work_answers.ReportResult, (await warehouse.post(path, left, WAIT)).json())
    scan = {"event_id": "c", "type": "in_transit", "occurred_at": AT}
    scanned = await warehouse.post(f"/v1/shipments/{part['shipment_id']}/events", scan, WAIT)
    _fits(work_answers.ScanResult, scanned.json())
    _fits(answers.Order, (await ops.get(f"/v1/orders/{order['id']}")).json())
    cancelled = await desk.place(("MUG", 1))
    cancellations = f"/v1/orders/{cancelled['id']}/cancellations"
    plan = await storefront.post(cancellations, {"reason": "other", "dry_run": True})
    _fits(answers.CancellationPlanOut, plan.json())
    _fits(answers.Cancellation, (await storefront.post(cancellations, {"reason": "other"}, WAIT)).json())
    _fits(answers.CancellationList, (await storefront.get(cancellations)).json())
    held = await desk.place(("MUG", 1), pay="pm_decline")
    holds = f"/v1/orders/{held['id']}/holds"
    placed = await ops.post(holds, {"type": "manual"}, WAIT)
    _fits(answers.Hold, placed.json())
    _fits(hold_models.HoldList, (await ops.get(holds)).json())
    _fits(answers.Order, (await ops.get(f"/v1/orders/{held['id']}")).json())
    _fits(answers.Hold, (await ops.post(f"{holds}/{placed.json()['id']}/release", {}, WAIT)).json())
    _fits(answers.OrderList, (await ops.get("/v1/orders")).json())
    _fits(answers.EventList, (await ops.get(f"/v1/orders/{order['id']}/events")).json())
    _fits(work_answers.DecisionList, (await ops.get(f"/v1/orders/{order['id']}/decisions")).json())
    _fits(service_answers.ProblemOut, (await ops.get("/v1/orders/none")).json())
    auditor = await desk.known("auditor")
    _fits(answers.Order, (await auditor.get(f"/v1/orders/{order['id']}")).json())


async def test_the_documented_example_is_accepted_as_a_shape(desk: FrontDesk) -> None:
    """Only references to things this shop does not have are wrong with it."""
    storefront = await desk.known("storefront")
    refused = await storefront.post("/v1/orders", examples.ORDER)
    assert {error["code"] for error in refused.json()["errors"]} <= {"unknown_channel", "unknown_sku"}

"""A small typed client of the HTTP API, as the `accord` command, the demos and other programs use it.

Every change carries an Idempotency-Key, so a repeat after a lost answer is safe: connection errors, 429, 503
and "still being answered" are tried again with the same key, with jitter, until `patience_s` is over.
"""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx2
from pydantic import BaseModel, ConfigDict

PATIENCE_S = 60.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_TIMEOUT_S = 40.0  # above the longest wait that the API allows
_PAGE_ROWS = 200
_PAGES_MAX = 1000
_AGAIN = frozenset({429, 502, 503, 504})

Json = dict[str, Any]
ModelT = TypeVar("ModelT", bound="View")


class View(BaseModel):
    """What a client reads of an answer. Answers may gain fields; they stay in `document`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def document(self) -> Json:
        """The whole answer."""
        return self.model_dump(mode="json")


class OrderView(View):
    """An order: the snapshot, an entry of a list, or one that is stored and not answered yet."""

    id: str
    order_number: str
    status: str
    version: int = 0
    channel: str = ""
    currency: str = ""
    external_ref: str | None = None
    payment_status: str = "pending"
    fulfillment_status: str = "unfulfilled"
    waiting_on: str | None = None
    fulfillment_orders: list[Json] = []
    shipments: list[Json] = []
    lines: list[Json] = []
    totals: Json = {}
    payment: Json = {}
    wait: Json | None = None

    @property
    def ended(self) -> bool:
        """Whether the order waits for nobody any more."""
        return self.status in ENDED

    @property
    def answered(self) -> bool:
        """Whether the order's workflow has said yes or no."""
        return self.status != "received"


ENDED = ("completed", "cancelled", "rejected")
OPEN = ("received", "confirmed", "in_fulfillment")


class EventView(View):
    """One entry of a timeline."""

    sequence: int
    type: str
    text: str
    occurred_at: datetime
    actor: Json = {}
    data: Json = {}


class CancellationView(View):
    """What became of a cancellation."""

    id: str
    state: str
    lines: list[Json] = []
    written_off: list[Json] = []
    recalled: list[Json] = []
    money: Json | None = None
    refusal: Json | None = None


class AmendmentView(View):
    """A change of an order and what became of it."""

    id: str
    state: str
    lines: list[Json] = []
    money: Json | None = None
    promise: Json | None = None
    backordered: list[Json] = []
    refusal: Json | None = None


class QuoteView(View):
    """What a return would give back."""

    order_id: str
    order_version: int
    currency: str
    lines: list[Json]
    money: Json


class ReceiptView(View):
    """Units that were booked in at a node."""

    receipt_id: str
    node: str
    sku: str
    quantity: int
    on_hand: int
    orders_told: int


class HoldView(View):
    """A hold and what became of it."""

    id: str
    type: str
    state: str
    blocks: list[str]
    line: int | None = None
    owner: str
    released_by: list[str] = []
    at_limit: str = ""
    expires_at: datetime | None = None
    cancellation_id: str | None = None
    refusal: Json | None = None


class WorkView(View):
    """A fulfillment order as its node sees it."""

    id: str
    order_id: str
    node: str
    state: str
    stage: str
    units: int
    lines: list[Json] = []
    shipment_id: str
    tracking_number: str | None = None
    tracking_state: str | None = None


class ScanView(View):
    """What a carrier's event did."""

    applied: bool
    duplicate: bool = False
    shipment: Json = {}
    why: str | None = None


class ForceClosingView(View):
    """What was undone at once when an order was closed by force."""

    state: str
    cancelled_units: int | None = None
    on_their_way: list[str] = []
    left_at_nodes: list[str] = []


class CaseView(View):
    """A problem for a person of the owner team."""

    id: str
    order_number: str
    code: str
    owner: str
    state: str
    detail: str
    due_at: str
    assignee: str | None = None
    choices: list[str] = []
    parked: Json | None = None
    resolution: Json | None = None


class NodeView(View):
    """A node, and whether it takes new work."""

    id: str
    name: str
    region: str = ""
    enabled: bool = True
    frozen: bool = False
    freeze: Json | None = None
    not_accepted: int = 0
    recalled: int | None = None


class SilenceView(View):
    """A version of the rules about silent nodes."""

    ruleset: str
    channel: str
    version: int
    owner: str
    action: str
    nodes: dict[str, dict[str, int | None]]


class RulesetView(View):
    """A version of the risk rules."""

    ruleset: str
    channel: str
    version: int
    owner: str
    rules: list[Json]


class RiskView(View):
    """What risk rules say of an order."""

    ruleset: str
    holds: bool
    reason: str | None = None
    matched: list[str] = []
    failed: list[Json] = []


class NoteView(View):
    """A note on an order, as its reader may see it."""

    id: str
    order_id: str
    text: str | None = None


class NoticeView(View):
    """A notice to the customer of an order."""

    id: str
    order_id: str
    kind: str
    event_type: str
    state: str
    why: str | None = None
    language: str
    attempts: int = 0
    resends: str | None = None
    created_at: datetime
    settled_at: datetime | None = None


class ApiProblem(Exception):
    """The API answered with a problem document."""

    def __init__(self, status: int, document: Json) -> None:
        self.status = status
        self.document = document
        self.slug = str(document.get("type", "")).rsplit("/", 1)[-1] or f"http-{status}"
        self.reason = str(document.get("reason") or document.get("decline_code") or self.slug)
        super().__init__(f"{document.get('title', 'The API refused')}: {document.get('detail', status)}")


class Unreachable(ConnectionError):
    """The API did not answer, however often it was asked."""


@dataclass(frozen=True)
class Target:
    """Where the API is and which keys may be used: role -> key; the role `*` serves everybody."""

    url: str
    keys: Mapping[str, str]

    def key_for(self, role: str) -> str:
        """The key of a role.

        Raises:
            LookupError: there is none.
        """
        key = self.keys.get(role) or self.keys.get("*")
        if key is None:
            raise LookupError(f"no API key for the role {role}: set ACCORD_API_KEY, or use the folder of `accord up`")
        return key


class AccordClient:
    """Speaks to one API with one key. Use as an async context manager."""

    def __init__(self, url: str, key: str, patience_s: float = PATIENCE_S, connections: int = 20) -> None:
        self._patience_s = patience_s
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx2.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT_S, limits=limits
        )
        self.repeats = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def create_order(self, body: Json, key: str | None = None, wait_s: int | None = None) -> OrderView:
        """Place an order. `received` means: stored, the answer follows.

        Raises:
            ApiProblem: the order is refused.
        """
        key = key or _fresh_key()
        return _read(OrderView, await self._send("POST", "/v1/orders", body=body, key=key, wait_s=wait_s))

    async def get_order(self, order: str) -> OrderView:
        """One order by id, `number:10042` or `external:channel:reference`."""
        return _read(OrderView, await self._send("GET", f"/v1/orders/{order}"))

    async def list_orders(self, limit: int = 50, **filters: str | Sequence[str] | None) -> list[OrderView]:
        """At most `limit` orders, newest first; filters as the API names them."""
        pages = self._pages("/v1/orders", limit, filters)
        return [_read(OrderView, row) async for row in pages]

    async def events(self, order: str, after: int = 0) -> list[EventView]:
        """The timeline behind the sequence number `after`."""
        found: list[EventView] = []
        for _ in range(_PAGES_MAX):
            answer = await self._send("GET", f"/v1/orders/{order}/events", query={"after": after, "limit": _PAGE_ROWS})
            found += [_read(EventView, row) for row in answer["data"]]
            after = answer["next_after"]
            if not answer["has_more"]:
                break
        return found

    async def cancel(
        self,
        order: str,
        reason: str,
        key: str | None = None,
        lines: Sequence[tuple[int, int]] = (),
        options: Json | None = None,
    ) -> CancellationView:
        """Cancel what has not left: all of it, or units of lines (line number, units); `options` as the API has them.

        Raises:
            ApiProblem: nothing can be cancelled.
        """
        path = f"/v1/orders/{order}/cancellations"
        body = {"reason": reason, "lines": _lines(lines), **(options or {})}
        return _read(CancellationView, await self._send("POST", path, body=body, key=key or _fresh_key()))

    async def cancellation(self, order: str, cancellation_id: str) -> CancellationView:
        """What became of a cancellation so far."""
        return _read(CancellationView, await self._send("GET", f"/v1/orders/{order}/cancellations/{cancellation_id}"))

    async def preview_cancel(
        self, order: str, reason: str, lines: Sequence[tuple[int, int]] = (), options: Json | None = None
    ) -> Json:
        """What cancelling would do now; changes nothing."""
        path = f"/v1/orders/{order}/cancellations"
        body = {"reason": reason, "lines": _lines(lines), **(options or {}), "dry_run": True}
        return await self._send("POST", path, body=body, key=_fresh_key())

    async def quote_return(self, order: str, lines: Sequence[tuple[int, int]] = ()) -> QuoteView:
        """What a return of units of lines (line number, units), or of all that can come back, would give back.

        Raises:
            ApiProblem: not all of that can come back.
        """
        body = {"lines": _lines(lines)}
        return _read(QuoteView, await self._send("POST", f"/v1/orders/{order}/returns/quote", body=body))

    async def amend(self, order: str, body: Json, key: str | None = None) -> AmendmentView:
        """Change an order: `changes`, and perhaps `reason` and `reference`.

        Raises:
            ApiProblem: the order's rules refuse it, or it was declined.
        """
        path = f"/v1/orders/{order}/amendments"
        return _read(AmendmentView, await self._send("POST", path, body=body, key=key or _fresh_key()))

    async def amendment(self, order: str, amendment_id: str) -> AmendmentView:
        """What became of a change so far."""
        return _read(AmendmentView, await self._send("GET", f"/v1/orders/{order}/amendments/{amendment_id}"))

    async def preview_amend(self, order: str, body: Json) -> Json:
        """What the change would do now; changes nothing."""
        path = f"/v1/orders/{order}/amendments"
        return await self._send("POST", path, body={**body, "dry_run": True}, key=_fresh_key())

    async def place_hold(self, order: str, body: Json, key: str | None = None) -> HoldView:
        """Stop steps of an order: `type`, and perhaps `line`, `blocks`, `lasts_s`, `reason`.

        Raises:
            ApiProblem: the order's rules refuse it.
        """
        path = f"/v1/orders/{order}/holds"
        return _read(HoldView, await self._send("POST", path, body=body, key=key or _fresh_key()))

    async def force_close(self, order: str, reason: str, key: str | None = None) -> ForceClosingView:
        """End an order that nothing else ends.

        Raises:
            ApiProblem: it is over, or the caller may not.
        """
        path = f"/v1/orders/{order}/force-closures"
        sent = await self._send("POST", path, body={"reason": reason}, key=key or _fresh_key())
        return _read(ForceClosingView, sent)

    async def receive_stock(self, body: Json) -> ReceiptView:
        """Book units that came in: `receipt_id`, `node`, `sku`, `quantity`.

        Raises:
            ApiProblem: no such node or item, or the receipt was booked with other units.
        """
        return _read(ReceiptView, await self._send("POST", "/v1/stock/receipts", body=body, key=_fresh_key()))

    async def set_backorder(self, sku: str, *, allowed: bool) -> View:
        """Say whether units of an item may be waited for.

        Raises:
            ApiProblem: there is no such item.
        """
        path = f"/v1/items/{sku}/backorder"
        return _read(View, await self._send("PUT", path, body={"allowed": allowed}, key=_fresh_key()))

    async def release_hold(self, order: str, hold_id: str, body: Json, key: str | None = None) -> HoldView:
        """End a hold by the `decision` to release or to reject.

        Raises:
            ApiProblem: it has ended, or another role may.
        """
        path = f"/v1/orders/{order}/holds/{hold_id}/release"
        return _read(HoldView, await self._send("POST", path, body=body, key=key or _fresh_key()))

    async def add_tender(self, order: str, reference: str, key: str | None = None) -> Json:
        """Give a declined payment another reference.

        Raises:
            ApiProblem: it is declined too, or nothing was declined.
        """
        path = f"/v1/orders/{order}/tenders"
        return await self._send("POST", path, body={"reference": reference}, key=key or _fresh_key())

    async def work(self, states: Sequence[str] = (), nodes: Sequence[str] = (), limit: int = 10_000) -> list[WorkView]:
        """Fulfillment orders of the caller's nodes in these states, oldest first."""
        pages = self._pages("/v1/fulfillment-orders", limit, {"state": list(states), "node": list(nodes)})
        return [_read(WorkView, row) async for row in pages]

    async def report(
        self,
        fulfillment_id: str,
        kind: str,
        report_id: str,
        short: Sequence[tuple[int, int]] = (),
        reason: str | None = None,
    ) -> Json:
        """Tell what a node did; `short` are line number and units. The same `report_id` again changes nothing."""
        body: Json = {"report_id": report_id, "kind": kind, "occurred_at": _now()}
        if short:
            body["lines"] = [{"line": line, "short": units} for line, units in short]
        if reason:
            body["reason"] = reason
        # No Idempotency-Key: the report's own id is the key, and a repeat has another time.
        return await self._send("POST", f"/v1/fulfillment-orders/{fulfillment_id}/reports", body=body)

    async def shipment_event(self, shipment_id: str, kind: str, event_id: str, at: datetime | None = None) -> ScanView:
        """Tell what a carrier saw. The same `event_id` again changes nothing."""
        body = {"event_id": event_id, "type": kind, "occurred_at": _now(at)}
        return _read(ScanView, await self._send("POST", f"/v1/shipments/{shipment_id}/events", body=body))

    async def list_nodes(self) -> list[NodeView]:
        """Every node that the caller may see."""
        return [_read(NodeView, row) for row in (await self._send("GET", "/v1/nodes"))["data"]]

    async def freeze_node(self, node: str, body: Json) -> NodeView:
        """Give a node no new work: perhaps `reason`, `begins_at`, `ends_at`.

        Raises:
            ApiProblem: no such node, or no such period.
        """
        return _read(NodeView, await self._send("POST", f"/v1/nodes/{node}/freeze", body=body))

    async def unfreeze_node(self, node: str, body: Json) -> NodeView:
        """Let a node take new work again: perhaps `reason`."""
        return _read(NodeView, await self._send("POST", f"/v1/nodes/{node}/unfreeze", body=body))

    async def silence_rules(self) -> list[SilenceView]:
        """What follows when a node is silent, per channel."""
        return [_read(SilenceView, row) for row in (await self._send("GET", "/v1/rulesets/node-silence"))["data"]]

    async def set_silence_rules(self, body: Json) -> SilenceView:
        """Say what follows: `action`, and limits of `nodes`, for a `channel`.

        Raises:
            ApiProblem: there is no such node or channel.
        """
        return _read(SilenceView, await self._send("POST", "/v1/rulesets/node-silence/versions", body=body))

    async def risk_rules(self) -> list[RulesetView]:
        """The risk rules in force, per channel."""
        return [_read(RulesetView, row) for row in (await self._send("GET", "/v1/rulesets/risk"))["data"]]

    async def set_risk_rules(self, body: Json) -> RulesetView:
        """Set all rules of a `channel`.

        Raises:
            ApiProblem: one of them cannot be used, or there is no such channel.
        """
        return _read(RulesetView, await self._send("POST", "/v1/rulesets/risk/versions", body=body))

    async def test_risk_rules(self, body: Json) -> RiskView:
        """What would be held: of an `order_id` or made-up `facts`, by these `rules` or those in force.

        Raises:
            ApiProblem: a rule cannot be used, or there is no such order.
        """
        return _read(RiskView, await self._send("POST", "/v1/rulesets/risk:test", body=body))

    async def list_cases(self, limit: int = 50, **filters: str | Sequence[str] | None) -> list[CaseView]:
        """At most `limit` exception cases, the most urgent first; filters as the API names them."""
        return [_read(CaseView, row) async for row in self._pages("/v1/exceptions", limit, filters)]

    async def get_case(self, case: str) -> CaseView:
        """One exception case."""
        return _read(CaseView, await self._send("GET", f"/v1/exceptions/{case}"))

    async def assign_case(self, case: str, assignee: str | None = None) -> CaseView:
        """Give a case to somebody, or take it."""
        body = {"assignee": assignee} if assignee else {}
        return _read(CaseView, await self._send("PATCH", f"/v1/exceptions/{case}", body=body))

    async def park_case(self, case: str, until: str, reason: str) -> CaseView:
        """Let a case wait until then for somebody outside; `reason` is a short code."""
        body = {"state": "waiting", "until": until, "reason": reason}
        return _read(CaseView, await self._send("PATCH", f"/v1/exceptions/{case}", body=body))

    async def resolve_case(self, case: str, choice: str, key: str | None = None, wait_s: int | None = None) -> CaseView:
        """Resolve a case by `retry`, `cancel`, `refund`, `reship`, `write_off` or `dismiss`.

        Raises:
            ApiProblem: the case or its order does not allow it.
        """
        path, body = f"/v1/exceptions/{case}/resolutions", {"choice": choice}
        return _read(CaseView, await self._send("POST", path, body=body, key=key or _fresh_key(), wait_s=wait_s))

    async def add_note(self, order: str, content: str, key: str | None = None) -> NoteView:
        """Write a note on an order."""
        path = f"/v1/orders/{order}/notes"
        return _read(NoteView, await self._send("POST", path, body={"text": content}, key=key or _fresh_key()))

    async def notices(self, order: str, limit: int = 1000) -> list[NoticeView]:
        """What the customer was told, or is going to be."""
        return [_read(NoticeView, row) async for row in self._pages(f"/v1/orders/{order}/notices", limit, {})]

    async def resend(self, order: str, notice: str, key: str | None = None) -> NoticeView:
        """Send a notice again; the answer is the new one.

        Raises:
            ApiProblem: it is still to be sent, was sent too often, or the customer wants none.
        """
        path = f"/v1/orders/{order}/resends"
        return _read(NoticeView, await self._send("POST", path, body={"notice": notice}, key=key or _fresh_key()))

    async def version(self) -> Json:
        """Which version answers."""
        return await self._send("GET", "/version")

    async def _pages(
        self, path: str, limit: int, filters: Mapping[str, str | Sequence[str] | None]
    ) -> AsyncIterator[Json]:
        query: Json = {name: value for name, value in filters.items() if value}
        given = 0
        for _ in range(_PAGES_MAX):
            answer = await self._send("GET", path, query={**query, "limit": min(limit - given, _PAGE_ROWS)})
            for row in answer["data"]:
                yield row
            given += len(answer["data"])
            if not answer["has_more"] or given >= limit:
                return
            query["cursor"] = answer["next_cursor"]

    async def _send(
        self,
        method: Literal["GET", "POST", "PUT", "PATCH"],
        path: str,
        *,
        body: Json | None = None,
        query: Json | None = None,
        key: str | None = None,
        wait_s: int | None = None,
    ) -> Json:
        headers = {"Idempotency-Key": key} if key else {}
        if wait_s is not None:
            headers["Prefer"] = f"wait={wait_s}"
        until = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            answer, why = await self._once(method, path, headers=headers, json=body, params=query)
            if answer is not None and not _is_temporary(answer):
                return _content(answer)
            asked_s = _retry_after_s(answer)
            wait = max(asked_s, pause_s) * random.uniform(0.5, 1.0) + asked_s / 2  # noqa: S311 - jitter
            if time.monotonic() + wait > until:
                raise Unreachable(f"{self._http.base_url} did not answer for {self._patience_s:.0f} s: {why}")
            self.repeats += 1
            await asyncio.sleep(wait)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def _once(self, method: str, path: str, **request: Any) -> tuple[httpx2.Response | None, str]:
        """One try: the answer, or None and why there is none."""
        try:
            answer = await self._http.request(method, path, **request)
        except httpx2.TransportError as problem:
            return None, f"{type(problem).__name__} {problem}".strip()
        return answer, f"status {answer.status_code}"


def _is_temporary(answer: httpx2.Response) -> bool:
    """Whether the same request may succeed in a moment."""
    if answer.status_code == httpx2.codes.CONFLICT:
        return str(_document(answer).get("type", "")).endswith("/idempotency-in-progress")
    return answer.status_code in _AGAIN


def _content(answer: httpx2.Response) -> Json:
    document = _document(answer)
    if answer.status_code >= httpx2.codes.BAD_REQUEST:
        raise ApiProblem(answer.status_code, document)
    return document


def _document(answer: httpx2.Response) -> Json:
    try:
        content = answer.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return {
            "title": "The answer is not JSON",
            "detail": f"status {answer.status_code}",
            "status": answer.status_code,
        }
    return content


def _retry_after_s(answer: httpx2.Response | None) -> float:
    text = answer.headers.get("retry-after", "0") if answer is not None else "0"
    return min(float(text), _LONGEST_PAUSE_S) if text.isdigit() else 0.0


def _read(model: type[ModelT], content: Mapping[str, Any]) -> ModelT:
    return model.model_validate(content)


def _fresh_key() -> str:
    return secrets.token_hex(16)


def _now(at: datetime | None = None) -> str:
    return (at or datetime.now(UTC)).isoformat()


def _lines(units: Sequence[tuple[int, int]]) -> list[Json]:
    return [{"line": line_no, "quantity": quantity} for line_no, quantity in units]

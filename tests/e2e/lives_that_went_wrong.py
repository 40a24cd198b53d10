"""Lives of orders in which something once went wrong, as they were said then."""

from typing import Any

from tests.support.fickle import Script, Step, Way

TWICE: tuple[Way, ...] = ("update", "update")
SIGNAL: tuple[Way, ...] = ("signal",)


def _amend(key: str, *changes: dict[str, Any], reference: str = "pm_ok") -> dict[str, Any]:
    return {"command_id": key, "changes": list(changes), "reference": reference}


def _cancel(key: str, *lines: list[int], **more: Any) -> dict[str, Any]:
    return {"command_id": key, "reason": "changed_mind", "lines": list(lines), **more}


def _new_method(key: str) -> dict[str, Any]:
    return {"command_id": key, "tender_id": "tender#0", "fact": "method_updated", "reference": "pm_ok"}


def _quantity(line: int, quantity: int) -> dict[str, Any]:
    return {"op": "set_quantity", "line": line, "quantity": quantity}


ASKED_BY_A_STALE_PLAN = Script(
    (("LAMP", 2), ("RUG", 2)),
    split="together",
    seed=28,
    steps=[
        Step(0.0, "amend", _amend("amend-0", _quantity(1, 3)), TWICE),
        Step(0.02, "payment_event", _new_method("pay-1"), SIGNAL),
        Step(0.04, "cancel", _cancel("cancel-2")),
    ],
)
"""A change asked nodes to stop by a plan from before its payment, and took units that were cancelled meanwhile."""

VOIDED_UNDER_A_PARCEL = Script(
    (("LAMP", 2), ("RUG", 1)),
    stop="answer_follows",
    seed=69,
    steps=[
        Step(
            0.0,
            "amend",
            _amend(
                "amend-0",
                {"op": "set_ship_to", "country": "US", "region": "MA", "zone_id": "US-MA"},
                reference="pm_timeout",
            ),
        ),
        Step(0.22, "retry_now", {"command_id": "retry-1"}),
        Step(0.22, "amend", _amend("amend-2", _quantity(1, 2))),
        Step(0.02, "cancel", _cancel("cancel-3")),
        Step(
            0.07,
            "node_report",
            {
                "command_id": "report-4",
                "fulfillment_id": "fulfillment#0",
                "kind": "short",
                "report_id": "report-4",
                "occurred_at": "2026-11-27T15:00:00Z",
                "lines": [[1, 1]],
                "cause": "not_found",
            },
            SIGNAL,
        ),
        Step(
            0.05,
            "amend",
            _amend("amend-5", {"op": "set_service_level", "service_level": "standard"}, reference="pm_declined"),
        ),
    ],
)
"""Who placed units took a wake-up for the end of the order, and the payment of parcels under way was voided."""

ENDED_WITHOUT_OUTCOME = Script(
    (("LAMP", 2), ("RUG", 2)),
    pay="pm_decline_once",
    stop="answer_follows",
    seed=1135,
    steps=[
        Step(0.0, "place_hold", {"command_id": "hold-0", "type": "payment"}),
        Step(0.02, "cancel", _cancel("cancel-1", [2, 2], [3, 3]), TWICE),
        Step(0.06, "place_hold", {"command_id": "hold-2", "type": "fraud", "lasts_s": 1}, SIGNAL),
        Step(0.02, "release_hold", {"command_id": "end-4", "hold_id": "hold#0", "decision": "release"}, TWICE),
    ],
)
"""The outcome of the command that ended a hold was told and not stored: the end of the order was quicker."""

LOST_CANCELLATION = Script(
    (("LAMP", 4), ("RUG", 3)),
    pay="pm_decline_once",
    stop="too_late",
    seed=1307,
    steps=[
        Step(0.0, "cancel", _cancel("cancel-0", [2, 2], [3, 1])),
        Step(0.06, "amend", _amend("amend-1", _quantity(2, 5), reference="pm_declined"), SIGNAL),
        Step(0.03, "cancel", _cancel("cancel-2")),
        Step(0.22, "retry_now", {"command_id": "retry-3"}, SIGNAL),
        Step(0.02, "cancel", _cancel("cancel-4", [1, 1]), SIGNAL),
        Step(0.06, "amend", _amend("amend-5", _quantity(2, 2))),
        Step(0.02, "retry_now", {"command_id": "retry-6"}),
    ],
)
"""A cancellation was lost with its workflow task, and what came later was planned without it."""

LOST_CHANGE = Script(
    (("LAMP", 4), ("RUG", 1)),
    pay="pm_slow",
    stop="answer_follows",
    seed=5238,
    steps=[
        Step(0.0, "payment_event", _new_method("pay-0"), TWICE),
        Step(
            0.03,
            "amend",
            _amend(
                "amend-1",
                {"op": "set_service_level", "service_level": "standard", "shipping_minor": 0},
                reference="pm_timeout",
            ),
            TWICE,
        ),
        Step(0.24, "cancel", _cancel("cancel-2", [2, 3], [3, 2], refund="none")),
        Step(0.22, "cancel", _cancel("cancel-3", [1, 2], restock=False), TWICE),
        Step(
            0.06,
            "amend",
            _amend(
                "amend-4",
                {"op": "substitute", "line": 2, "sku": "LAMP"},
                _quantity(3, 1),
                reference="pm_declined",
            ),
        ),
        Step(0.02, "cancel", _cancel("cancel-5")),
        Step(0.03, "retry_now", {"command_id": "retry-6"}, TWICE),
        Step(
            0.02,
            "amend",
            _amend("amend-7", {"op": "add_line", "sku": "RUG", "quantity": 3, "unit_price_minor": 777}),
            SIGNAL,
        ),
    ],
)
"""A change was lost with its workflow task, and the allocation committed units of the lines from before it."""

FOUND = (ASKED_BY_A_STALE_PLAN, VOIDED_UNDER_A_PARCEL, ENDED_WITHOUT_OUTCOME, LOST_CANCELLATION, LOST_CHANGE)

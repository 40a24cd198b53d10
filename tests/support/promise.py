"""Questions to the promise rule, in short."""

from datetime import date, datetime, time

from domain.ids import NodeId
from domain.promise import (
    CarrierCalendar,
    NodeCalendar,
    PromiseAsk,
)

WEEKDAYS = (0, 1, 2, 3, 4)
EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)
THANKSGIVING, FRIDAY = date(2026, 11, 26), date(2026, 11, 27)
CHRISTMAS, NEW_YEAR = date(2026, 12, 25), date(2027, 1, 1)


def asked(accepted: str, **changes: object) -> PromiseAsk:
    """A question about a New York node and a Chicago customer: cut-off 14:00, pickup 16:30, three days.

    `changes` may name any field of the node (`days`, `holidays`, `cut_off` ...), of the carrier
    (`carrier_days`, `carrier_holidays`) or of the question.
    """
    node = NodeCalendar.model_validate(
        {
            "node_id": NodeId("NYC-1"),
            "time_zone": changes.pop("time_zone", "America/New_York"),
            "working_days": changes.pop("days", WEEKDAYS),
            "holidays": changes.pop("holidays", ()),
            "cut_off": changes.pop("cut_off", time(14)),
            "dispatch": changes.pop("dispatch", time(16)),
            "pickup": changes.pop("pickup", time(16, 30)),
            "processing_days": changes.pop("processing_days", 0),
        }
    )
    carrier = CarrierCalendar.model_validate(
        {
            "working_days": changes.pop("carrier_days", WEEKDAYS),
            "holidays": changes.pop("carrier_holidays", ()),
        }
    )
    basics = {"accepted_at": datetime.fromisoformat(accepted), "node": node, "carrier": carrier}
    return PromiseAsk.model_validate(basics | {"transit_days": 3, "zone_name": "America/Chicago"} | changes)

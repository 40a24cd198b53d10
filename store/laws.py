"""The conservation laws as queries: each returns the keys that break it, no row means that it holds.

Read only, set-based, one statement per check. A query may use the temporary table `provider_objects`
(what the payment provider lists), which `store/checks.py` fills.
"""

from dataclasses import dataclass

from domain.notices import TOLD


@dataclass(frozen=True)
class Check:
    """One query of a law.

    Attributes:
        law: number in the table of laws, for example `I1`.
        owner: team that answers for a break.
        says: what is true when no key is found.
        query: SELECT with one text column `key`.
        needs_provider: whether it reads `provider_objects`.
    """

    law: str
    name: str
    owner: str
    says: str
    query: str
    needs_provider: bool = False


_STOCK = (
    Check(
        "I1",
        "stock_ledger_mismatch",
        "inventory",
        "units on hand are the sum of the movements",
        """
SELECT concat_ws(' at ', sku, node_id) AS key FROM stock_levels s FULL JOIN
  (SELECT sku, node_id, sum(on_hand_delta) AS moved FROM stock_movements GROUP BY 1, 2) m USING (sku, node_id)
 WHERE s.on_hand IS DISTINCT FROM m.moved AND NOT (s.on_hand = 0 AND m.moved IS NULL)
""",
    ),
    Check(
        "I1",
        "stock_bounds",
        "inventory",
        "reserved units are between zero and what is on hand and sellable",
        """
SELECT concat_ws(' at ', sku, node_id) AS key FROM stock_levels
 WHERE reserved < 0 OR unavailable < 0 OR reserved > on_hand - unavailable
""",
    ),
    Check(
        "I1",
        "shipped_units_mismatch",
        "inventory",
        "stock left once for every unit that was shipped or written off",
        """
SELECT concat_ws(' ', order_id, sku, 'at', node_id) AS key FROM
  (SELECT order_id, sku, node_id, sum(qty) AS consumed FROM reservations
     WHERE state IN ('consumed','written_off') GROUP BY 1, 2, 3) r
  FULL JOIN (SELECT order_id, sku, node_id, -sum(on_hand_delta) AS moved FROM stock_movements
              WHERE order_id IS NOT NULL AND reason <> 'returned_to_sender' GROUP BY 1, 2, 3) m
  USING (order_id, sku, node_id)
 WHERE coalesce(r.consumed, 0) <> coalesce(m.moved, 0)
""",
    ),
    Check(
        "I1",
        "returned_units_mismatch",
        "inventory",
        "the units of a parcel that came back are on hand again, once, at the node that they left",
        """
SELECT concat_ws(' ', shipment_id, sku, 'at', node_id) AS key FROM
  (SELECT s.shipment_id, l.sku, f.node_id, sum(l.quantity) AS units FROM shipments s
     JOIN fulfillment_orders f USING (fulfillment_id) JOIN fulfillment_lines l USING (fulfillment_id)
    WHERE s.returned_at IS NOT NULL GROUP BY 1, 2, 3) p
  FULL JOIN (SELECT split_part(business_key, ':', 1) AS shipment_id, sku, node_id, sum(on_hand_delta) AS moved
               FROM stock_movements WHERE reason = 'returned_to_sender' GROUP BY 1, 2, 3) m
  USING (shipment_id, sku, node_id)
 WHERE coalesce(p.units, 0) <> coalesce(m.moved, 0)
""",
    ),
    Check(
        "I2",
        "reserved_mismatch",
        "inventory",
        "the reserved count of a level is the sum of its live reservations",
        """
SELECT concat_ws(' at ', sku, node_id) AS key FROM stock_levels s FULL JOIN
  (SELECT sku, node_id, sum(qty) AS live FROM reservations WHERE state IN ('held','committed') GROUP BY 1, 2) r
  USING (sku, node_id) WHERE coalesce(s.reserved, 0) <> coalesce(r.live, 0)
""",
    ),
    Check(
        "I2",
        "orphan_reservation",
        "inventory",
        "no live reservation belongs to an order that has ended or does not exist",
        """
SELECT r.reservation_key AS key FROM reservations r LEFT JOIN orders o USING (order_id)
 WHERE r.state IN ('held','committed') AND (o.terminal OR o.order_id IS NULL)
""",
    ),
)

_QUANTITIES = (
    Check(
        "I3",
        "bucket_sum",
        "fulfillment",
        "the buckets of a line sum to what was ordered",
        """
SELECT concat_ws(' line ', order_id, line_no) AS key FROM order_lines
 WHERE ordered <> open + reserved + backordered + allocated + released + picked + packed + shipped + delivered
                  + return_pending + returned + written_off + cancelled
    OR least(open, reserved, backordered, allocated, released, picked, packed, shipped, delivered,
             return_pending, returned, written_off, cancelled) < 0
""",
    ),
    Check(
        "I3",
        "backorder_without_end",
        "inventory",
        "units wait for supply in open orders only, since and until a known time",
        """
SELECT concat_ws(' line ', order_id, line_no) AS key FROM order_lines l JOIN orders o USING (order_id)
 WHERE l.backordered > 0 AND (o.terminal OR (l.waits_since < l.waits_until) IS NOT TRUE)
""",
    ),
    Check(
        "I3",
        "bucket_reservation_mismatch",
        "fulfillment",
        "the reservations of a line match its buckets; every shipped unit consumed exactly one",
        """
SELECT concat_ws(' line ', order_id, line_no) AS key FROM order_lines l FULL JOIN
  (SELECT order_id, line_no, sum(qty) FILTER (WHERE state = 'held') AS held,
     sum(qty) FILTER (WHERE state = 'committed') AS committed, sum(qty) FILTER (WHERE state = 'consumed') AS consumed,
     sum(qty) FILTER (WHERE state = 'written_off') AS written_off
     FROM reservations GROUP BY 1, 2) r USING (order_id, line_no)
 WHERE coalesce(r.held, 0) <> coalesce(l.reserved, 0)
    OR coalesce(r.committed, 0) <> coalesce(l.allocated + l.released + l.picked + l.packed, 0)
    OR coalesce(r.consumed, 0)
       <> coalesce(l.shipped + l.delivered + l.return_pending + l.returned + l.written_off, 0)
    OR coalesce(r.written_off, 0) > coalesce(l.cancelled, 0)
""",
    ),
    Check(
        "I3",
        "bucket_fulfillment_mismatch",
        "fulfillment",
        "the units of the fulfillment orders stand in the buckets of their stages",
        """
SELECT concat_ws(' line ', order_id, line_no) AS key FROM order_lines l FULL JOIN
  (SELECT w.order_id, w.line_no,
     coalesce(sum(w.quantity) FILTER (WHERE f.stage = 'allocated'), 0) AS allocated,
     coalesce(sum(w.quantity) FILTER (WHERE f.stage = 'released'), 0) AS released,
     coalesce(sum(w.quantity) FILTER (WHERE f.stage = 'picked'), 0) AS picked,
     coalesce(sum(w.quantity) FILTER (WHERE f.stage = 'packed'), 0) AS packed,
     coalesce(sum(w.quantity) FILTER (WHERE f.stage IN ('shipped','delivered','return_pending','returned',
       'written_off')), 0) AS gone
     FROM fulfillment_lines w JOIN fulfillment_orders f USING (fulfillment_id) GROUP BY 1, 2) f
  USING (order_id, line_no)
 WHERE (coalesce(f.allocated, 0), coalesce(f.released, 0), coalesce(f.picked, 0), coalesce(f.packed, 0),
        coalesce(f.gone, 0))
    <> (coalesce(l.allocated, 0), coalesce(l.released, 0), coalesce(l.picked, 0), coalesce(l.packed, 0),
        coalesce(l.shipped + l.delivered + l.return_pending + l.returned + l.written_off, 0))
""",
    ),
    Check(
        "I3",
        "undelivered_units_mismatch",
        "fulfillment",
        "every unit that was lost, damaged or came back is credited or sent again, once",
        """
SELECT concat_ws(' line ', order_id, root) AS key FROM
  (SELECT order_id, CASE WHEN replaces_parcel IS NULL THEN line_no ELSE replaces_line END AS root,
          sum(written_off + returned) AS gone, sum(credited) AS credited,
          coalesce(sum(ordered - cancelled) FILTER (WHERE replaces_parcel IS NOT NULL), 0) AS again
     FROM order_lines GROUP BY 1, 2) l
 WHERE gone <> credited + again
""",
    ),
)

_MONEY = (
    Check(
        "I4",
        "customer_account_open",
        "finance",
        "an order that has ended leaves nothing owed either way",
        """
SELECT o.order_id AS key FROM orders o JOIN ledger_entries e USING (order_id)
 WHERE o.terminal AND e.account = 'customer' GROUP BY 1 HAVING sum(e.amount_minor) <> 0
""",
    ),
    Check(
        "I4",
        "kept_is_not_owed",
        "finance",
        "captured less refunded is what an ended order owes, and no authorization is left open",
        """
SELECT o.order_id AS key FROM orders o LEFT JOIN tenders t USING (order_id) WHERE o.terminal
 GROUP BY o.order_id, o.owed_minor
HAVING coalesce(sum(t.captured_minor - t.refunded_minor - t.charged_back_minor), 0) <> o.owed_minor
    OR bool_or(t.state IN ('pending','authorized','partially_captured')) OR sum(t.refund_pending_minor) <> 0
""",
    ),
    Check(
        "I4",
        "ledger_is_not_tenders",
        "finance",
        "what is booked with the providers is what the tenders count",
        """
SELECT order_id AS key FROM
  (SELECT order_id, sum(captured_minor - refunded_minor - charged_back_minor) AS kept FROM tenders GROUP BY 1) t
  FULL JOIN (SELECT order_id, sum(amount_minor) AS booked FROM ledger_entries
              WHERE account LIKE 'provider:%' OR account = 'gift_card_liability' GROUP BY 1) b USING (order_id)
 WHERE coalesce(t.kept, 0) <> coalesce(b.booked, 0)
""",
    ),
    Check(
        "I5",
        "intent_settled_twice",
        "finance",
        "at most one authorization and one void of a tender succeeded",
        """
SELECT concat_ws(' ', order_id, intent, min(seq)) AS key FROM payment_intents
 WHERE state = 'ok' AND intent IN ('authorize','void') GROUP BY order_id, tender_id, intent HAVING count(*) > 1
""",
    ),
    Check(
        "I5",
        "object_without_intent",
        "finance",
        "everything at the provider was wanted by us, once, and not counted as refused",
        """
SELECT concat_ws(' ', x.business_key, x.provider_ref) AS key FROM provider_objects x
  LEFT JOIN payment_intents p USING (business_key)
 WHERE x.listed_before AND (p.order_id IS NULL OR p.order_id <> x.order_id OR p.state = 'refused')
""",
        needs_provider=True,
    ),
    Check(
        "I5",
        "duplicate_object",
        "finance",
        "one object at the provider per intent",
        "SELECT business_key AS key FROM provider_objects GROUP BY 1 HAVING count(*) > 1",
        needs_provider=True,
    ),
    Check(
        "I5",
        "intent_without_object",
        "finance",
        "every intent that succeeded has its object at the provider, with the same amount and currency",
        """
SELECT p.business_key AS key FROM payment_intents p LEFT JOIN provider_objects x USING (business_key)
 WHERE p.state = 'ok' AND (x.provider_ref IS NULL OR x.provider_ref <> p.provider_ref
                           OR x.amount_minor <> p.amount_minor OR x.currency <> p.currency)
""",
        needs_provider=True,
    ),
    Check(
        "I5",
        "hold_left_open",
        "finance",
        "no money of an ended order is still held at the provider, but for what a person was asked to look at",
        """
SELECT concat_ws(' ', x.order_id, x.provider_ref) AS key FROM provider_objects x JOIN orders o USING (order_id)
 WHERE o.terminal AND x.kind = 'authorization' AND x.state IN ('open','partly_captured')
   AND NOT (EXISTS (SELECT 1 FROM tenders t WHERE t.order_id = o.order_id AND t.state = 'abandoned')
            AND EXISTS (SELECT 1 FROM exceptions e WHERE e.order_id = o.order_id AND e.code = 'closed_by_force'))
""",
        needs_provider=True,
    ),
    Check(
        "I6",
        "caps",
        "finance",
        "refunded and pending refunds <= captured <= authorized, per tender",
        """
SELECT tender_id AS key FROM tenders
 WHERE refunded_minor + refund_pending_minor > captured_minor OR captured_minor > authorized_minor
    OR least(authorized_minor, captured_minor, refunded_minor, refund_pending_minor) < 0
""",
    ),
    Check(
        "I6",
        "tender_counters",
        "finance",
        "the counters of a tender are the sums of its intents that succeeded",
        """
SELECT t.tender_id AS key FROM tenders t LEFT JOIN
  (SELECT tender_id, sum(amount_minor) FILTER (WHERE intent = 'authorize') AS authorized,
     sum(amount_minor) FILTER (WHERE intent = 'capture') AS captured,
     sum(amount_minor) FILTER (WHERE intent = 'refund') AS refunded
     FROM payment_intents WHERE state = 'ok' GROUP BY 1) i USING (tender_id)
 WHERE t.authorized_minor <> coalesce(i.authorized, 0) OR t.captured_minor <> coalesce(i.captured, 0)
    OR t.refunded_minor <> coalesce(i.refunded, 0)
""",
    ),
    Check(
        "I7",
        "order_total",
        "finance",
        "lines and charges sum to the total; what was cancelled or credited is not owed unless kept or unsettled",
        """
SELECT o.order_id AS key FROM orders o LEFT JOIN order_lines l USING (order_id) GROUP BY o.order_id
HAVING coalesce(sum(l.total_minor), 0) + o.charges_minor <> o.total_minor
    OR o.owed_minor <> CASE WHEN o.status = 'rejected' THEN 0
                            ELSE o.total_minor
                                 - coalesce(sum(l.cancelled_minor - l.kept_minor + l.credited_minor), 0)
                                 + o.unsettled_minor END
    OR bool_or(l.cancelled_minor + l.credited_minor NOT BETWEEN 0 AND l.total_minor
               OR l.kept_minor NOT BETWEEN 0 AND l.cancelled_minor)
""",
    ),
    Check(
        "I7",
        "kept_is_not_booked",
        "finance",
        "what is paid for cancelled units is booked, and nothing beyond it",
        """
SELECT order_id AS key FROM
  (SELECT order_id, sum(kept_minor) AS kept FROM order_lines GROUP BY 1) l
  FULL JOIN (SELECT e.order_id, sum(e.amount_minor) AS booked
               FROM ledger_entries e JOIN ledger_journals j USING (journal_id)
              WHERE j.kind = 'kept' AND e.account = 'customer' GROUP BY 1) b USING (order_id)
 WHERE coalesce(l.kept, 0) <> coalesce(b.booked, 0)
""",
    ),
    Check(
        "I7",
        "credit_is_not_booked",
        "finance",
        "what the lines count as credited is what the credit memos say",
        """
SELECT order_id AS key FROM
  (SELECT order_id, sum(credited_minor) AS credited FROM order_lines GROUP BY 1) l
  FULL JOIN (SELECT j.order_id, -sum(e.amount_minor) AS booked FROM ledger_journals j JOIN ledger_entries e
               USING (journal_id) WHERE j.kind = 'credit_memo' AND e.account = 'customer' GROUP BY 1) b USING (order_id)
 WHERE coalesce(l.credited, 0) <> coalesce(b.booked, 0)
""",
    ),
    Check(
        "I7",
        "unsettled_is_not_booked",
        "finance",
        "what an order leaves to be settled outside is booked, has or had a case, and nothing beyond it is",
        """
SELECT order_id AS key FROM orders o FULL JOIN
  (SELECT j.order_id, sum(e.amount_minor) AS booked FROM ledger_journals j JOIN ledger_entries e USING (journal_id)
    WHERE j.kind = 'unsettled' AND e.account = 'customer' GROUP BY 1) b USING (order_id)
 WHERE coalesce(o.unsettled_minor, 0) <> coalesce(b.booked, 0)
    OR o.unsettled_minor <> 0 AND NOT EXISTS (SELECT 1 FROM exceptions e WHERE e.order_id = o.order_id
         AND e.code IN ('closed_by_force', 'payment_kept_missing'))
""",
    ),
    Check(
        "I7",
        "one_currency",
        "finance",
        "all money of an order is in its currency",
        """
SELECT p.business_key AS key FROM payment_intents p LEFT JOIN orders o USING (order_id)
 WHERE o.currency IS DISTINCT FROM p.currency
""",
    ),
    Check(
        "I8",
        "journal_unbalanced",
        "finance",
        "every journal sums to zero per currency and belongs to one order",
        """
SELECT concat_ws(' ', j.order_id, 'journal', e.journal_id, e.currency) AS key
  FROM ledger_entries e LEFT JOIN ledger_journals j USING (journal_id)
 GROUP BY e.journal_id, e.currency, j.order_id
HAVING sum(e.amount_minor) <> 0 OR bool_or(e.order_id IS DISTINCT FROM j.order_id)
""",
    ),
    Check(
        "I8",
        "ledger_unbalanced",
        "finance",
        "all entries of a currency sum to zero",
        "SELECT currency::text AS key FROM ledger_entries GROUP BY 1 HAVING sum(amount_minor) <> 0",
    ),
)

_CONTROL = (
    Check(
        "I9",
        "stuck_order",
        "commerce",
        "an open order names who is waited for; past the deadline a case is open, or was dismissed",
        """
SELECT o.order_id AS key FROM orders o WHERE NOT o.terminal
   AND (o.waiting_on IS NULL OR o.wait_owner IS NULL OR o.wait_deadline IS NULL
        OR o.wait_deadline < now() - interval '2 minutes' AND NOT EXISTS
           (SELECT 1 FROM exceptions e WHERE e.order_id = o.order_id AND e.owner IS NOT NULL
               AND (e.open OR e.resolution = 'dismiss' AND e.closed_at > o.wait_deadline)))
""",
    ),
    Check(
        "I9",
        "hold_outlives_order",
        "service",
        "a hold ends with its order at the latest",
        "SELECT hold_id AS key FROM holds h JOIN orders o USING (order_id) WHERE o.terminal AND h.live",
    ),
    Check(
        "I10",
        "command_without_outcome",
        "ops",
        "every command has its outcome within five minutes, and none has one too early",
        """
SELECT concat_ws(' ', order_id, command_id) AS key FROM commands
 WHERE state = 'received' AND received_at < now() - interval '5 minutes'
    OR (state = 'received') <> (outcome IS NULL)
""",
    ),
    Check(
        "I10",
        "address_left_over",
        "ops",
        "an address that waits for a change of its order goes with the outcome of the change",
        """
SELECT concat_ws(' ', order_id, command_id) AS key FROM vault_changes v
 WHERE v.created_at < now() - interval '5 minutes' AND NOT EXISTS (
   SELECT 1 FROM commands c WHERE c.order_id = v.order_id AND c.command_id = v.command_id AND c.state = 'received')
""",
    ),
    Check(
        "I11",
        "order_missing",
        "ops",
        "every order that was taken in is recorded within two minutes",
        """
SELECT i.order_id AS key FROM intake i LEFT JOIN orders o USING (order_id) WHERE o.order_id IS NULL
   AND (i.state <> 'received' OR i.created_at < now() - interval '2 minutes')
""",
    ),
    Check(
        "I11",
        "intake_missing",
        "ops",
        "an order that came through the front end has its intake row, and both agree",
        """
SELECT o.order_id AS key FROM orders o LEFT JOIN intake i USING (order_id)
 WHERE i.order_id IS NULL AND EXISTS (SELECT 1 FROM customer_vault v WHERE v.order_id = o.order_id)
    OR i.state <> CASE WHEN o.status = 'rejected' THEN 'rejected' ELSE 'accepted' END
""",
    ),
    Check(
        "I13",
        "history_gap",
        "ops",
        "every change of an order is one event with an actor; the sequence has no gaps and ends at its version",
        """
SELECT order_id AS key FROM orders o FULL JOIN
  (SELECT order_id, min(sequence) AS first, max(sequence) AS last, count(*) AS events,
     bool_and(actor IS NOT NULL AND actor ? 'kind') AS signed FROM order_events GROUP BY 1) e USING (order_id)
 WHERE o.version IS DISTINCT FROM coalesce(e.last, 0) OR e.first <> 1 OR e.last <> e.events OR NOT e.signed
""",
    ),
)


def _told() -> str:
    """The condition that an event `e` is one that the customer is told of, from the table that decides it."""
    conditions = []
    for event_type, telling in TOLD.items():
        kinds = "" if telling.by_type is None else " AND e.data ->> 'type' IN ('" + "', '".join(telling.by_type) + "')"
        conditions.append(f"e.type = '{event_type}'{kinds}")
    return " OR ".join(conditions)


_NOTICES = (
    Check(
        "I12",
        "event_untold",
        "service",
        "every event that the customer must hear of has exactly one notice, even if a suppressed one",
        f"""
SELECT e.event_id AS key FROM order_events e LEFT JOIN notices n ON n.event_id = e.event_id AND n.resends IS NULL
 WHERE {_told()} GROUP BY e.event_id HAVING count(n.notice_id) <> 1
""",  # noqa: S608 - constants only
    ),
    Check(
        "I12",
        "notice_of_nothing",
        "service",
        "every notice tells of an event of its own order; one that was sent again says who asked for it",
        """
SELECT n.notice_id AS key FROM notices n LEFT JOIN order_events e USING (event_id)
 WHERE n.order_id IS DISTINCT FROM e.order_id OR (n.resends IS NULL) <> (n.asked_by IS NULL)
""",
    ),
    Check(
        "I12",
        "notice_stuck",
        "ops",
        "every notice is over, or its next attempt is due or not long overdue",
        """
SELECT notice_id AS key FROM notices
 WHERE state IN ('pending','sending') AND next_attempt_at < now() - interval '5 minutes'
""",
    ),
    Check(
        "I12",
        "notice_failed_unseen",
        "service",
        "a notice that failed has or had a case for a person",
        """
SELECT notice_id AS key FROM notices n WHERE n.state = 'failed' AND NOT EXISTS (
  SELECT 1 FROM exceptions e WHERE e.order_id = n.order_id AND e.code = 'notice_failing')
""",
    ),
    Check(
        "I14",
        "promise_changed_untold",
        "fulfillment",
        "every change of a promise has its notice",
        """
SELECT concat_ws(' ', p.order_id, p.promise_no, p.version) AS key FROM promises p
 WHERE p.version > 0 AND NOT EXISTS (
   SELECT 1 FROM notices n WHERE n.event_id = p.notice_event AND n.order_id = p.order_id AND n.resends IS NULL)
""",
    ),
)

CHECKS: tuple[Check, ...] = (*_STOCK, *_QUANTITIES, *_MONEY, *_CONTROL, *_NOTICES)

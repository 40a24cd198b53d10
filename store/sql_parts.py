"""The two large selections behind the API's answers: an order with everything, and a node's work."""

from domain.quantities import Bucket

_BUCKETS = ", ".join(f"'{bucket}', nullif(l.{bucket}, 0)" for bucket in Bucket)

# Column names are the fields of the answer; what needs a rule (masking, actions) is done by the API. Who asks is bound
# as for the order itself: what follows it may be somebody else's.
SNAPSHOT = f"""
SELECT o.order_id, o.order_number, o.channel, o.external_ref, o.customer_ref, o.currency, o.country, o.region,
  o.service_level, o.split, o.backorder, o.total_minor, o.owed_minor, o.status, o.payment_status, o.fulfillment_status,
  o.terminal, o.rejection, o.waiting_on, o.wait_owner, o.wait_cause, o.wait_since, o.wait_next_event,
  o.wait_deadline, o.promise_state, o.promised_by, o.reserved_until, o.version, o.created_at, o.updated_at,
  (SELECT coalesce(json_agg(json_build_object('line', l.line_no, 'sku', l.sku, 'ordered', l.ordered,
       'unit_price_minor', l.unit_price_minor, 'items_minor', l.items_minor, 'discount_minor', l.discount_minor,
       'tax_minor', l.tax_minor, 'shipping_minor', l.shipping_minor, 'shipping_tax_minor', l.shipping_tax_minor,
       'total_minor', l.total_minor, 'cancelled_minor', l.cancelled_minor, 'kept_minor', l.kept_minor,
       'credited_minor', l.credited_minor, 'replaces_line', l.replaces_line, 'replaces_parcel', l.replaces_parcel,
       'quantities', json_strip_nulls(json_build_object({_BUCKETS})),
       'backorder', CASE WHEN l.backordered > 0 THEN json_build_object('units', l.backordered,
          'since', l.waits_since, 'until', l.waits_until) END) ORDER BY l.line_no), '[]')
     FROM order_lines l WHERE l.order_id = o.order_id) AS lines,
  (SELECT coalesce(json_agg(json_build_object('id', t.tender_id, 'provider', t.provider, 'sequence', t.sequence,
       'state', t.state, 'amount_minor', t.amount_minor, 'authorized_minor', t.authorized_minor,
       'captured_minor', t.captured_minor, 'refunded_minor', t.refunded_minor, 'decline_code', t.decline_code,
       'capture_before', t.capture_before) ORDER BY t.sequence), '[]')
     FROM tenders t WHERE t.order_id = o.order_id) AS tenders,
  (SELECT coalesce(json_agg(json_build_object('id', f.fulfillment_id, 'node', f.node_id, 'state', f.state,
       'stage', f.stage, 'remedy', f.remedy, 'shipment_id', f.shipment_id, 'ship_by', f.ship_by,
       'value_minor', f.value_minor,
       'lines', (SELECT json_agg(json_build_object('line', fl.line_no, 'quantity', fl.quantity) ORDER BY fl.line_no)
                   FROM fulfillment_lines fl WHERE fl.fulfillment_id = f.fulfillment_id))
       ORDER BY f.fulfillment_id), '[]')
     FROM fulfillment_orders f WHERE f.order_id = o.order_id) AS fulfillment_orders,
  (SELECT coalesce(json_agg(json_build_object('id', s.shipment_id, 'fulfillment_id', s.fulfillment_id,
       'carrier', s.carrier, 'tracking_number', s.tracking_number, 'state', s.tracking,
       'handed_over_at', s.handed_over_at, 'delivered_at', s.delivered_at,
       'returned_at', s.returned_at, 'recall', s.recall, 'recall_until', s.recall_until) ORDER BY s.shipment_id), '[]')
     FROM shipments s WHERE s.order_id = o.order_id AND s.tracking IS NOT NULL) AS shipments,
  (SELECT coalesce(json_agg(row_to_json(h) ORDER BY h.placed_at, h.hold_id), '[]')
     FROM holds h WHERE h.order_id = o.order_id AND h.live) AS holds,
  (SELECT coalesce(json_agg(json_build_object('promised_by', p.promised_by, 'cause', p.cause,
       'at', p.created_at, 'ruleset', p.ruleset) ORDER BY p.promise_no, p.version), '[]')
     FROM promises p WHERE p.order_id = o.order_id) AS promises,
  o.rules, EXISTS (SELECT 1 FROM amendments a WHERE a.order_id = o.order_id AND a.live) AS amending,
  o.replaces_order,
  (SELECT coalesce(json_agg(json_build_object('id', n.order_id, 'order_number', n.order_number, 'status', n.status)
       ORDER BY n.created_at, n.order_id), '[]')
     FROM orders n WHERE n.replaces_order = o.order_id AND n.rejection IS NULL
      AND (:everything OR n.channel = ANY(:channels) OR n.customer_ref = :own_customer)) AS replaced_by,
  v.key_version, v.wrapped_key, v.sealed
  FROM orders o LEFT JOIN customer_vault v ON v.order_id = o.order_id
"""  # noqa: S608 - constants only

LATELY = "o.updated_at > now() - interval '3 seconds' AS changed_lately"

FULFILLMENTS = f"""
SELECT f.fulfillment_id, f.order_id, o.order_number, o.status AS order_status, o.terminal, o.version, o.country,
  o.region, f.node_id, f.state, f.stage, f.units, f.ship_by, f.created_at, f.updated_at, f.shipment_id, s.carrier,
  s.tracking_number, s.tracking, {LATELY},
  (SELECT json_agg(json_build_object('line', l.line_no, 'sku', l.sku, 'quantity', l.quantity) ORDER BY l.line_no)
     FROM fulfillment_lines l WHERE l.fulfillment_id = f.fulfillment_id) AS lines
  FROM fulfillment_orders f JOIN orders o ON o.order_id = f.order_id
  LEFT JOIN shipments s ON s.fulfillment_id = f.fulfillment_id
"""  # noqa: S608 - constants only

"""Example bodies of the documentation; a test sends each of them."""

ORDER = {
    "channel": "web-us",
    "external_ref": "W-88121",
    "order_number": "10042",
    "currency": "USD",
    "customer": {
        "external_ref": "C-3391",
        "name": "Jamie Example",
        "email": "jamie@example.com",
        "locale": "en-US",
    },
    "ship_to": {
        "name": "Jamie Example",
        "lines": ["1 Sample Street"],
        "city": "Cambridge",
        "region": "MA",
        "postal_code": "02139",
        "country": "US",
    },
    "lines": [
        {"sku": "LAMP-OAK", "quantity": 2, "unit_price_minor": 4500, "discount_minor": 900, "tax_minor": 648},
        {"sku": "MUG-BLUE", "quantity": 4, "unit_price_minor": 1200, "discount_minor": 0, "tax_minor": 384},
        {"sku": "RUG-SAND", "quantity": 1, "unit_price_minor": 8000, "discount_minor": 0, "tax_minor": 640},
    ],
    "shipping": {"method": "ship", "service_level": "standard", "price_minor": 900, "tax_minor": 72},
    "preferences": {"split": "asap", "backorder": "accept", "substitution": "ask"},
    "tenders": [{"provider": "simulated", "reference": "pm_ok", "state": "to_authorize", "amount_minor": 23544}],
    "total_minor": 23544,
}
CANCELLATION = {"lines": [{"line": 2, "quantity": 1}], "reason": "changed_mind", "dry_run": False}
TENDER = {"reference": "pm_ok"}
REPORT = {"report_id": "WMS-77120", "kind": "packed", "occurred_at": "2026-11-23T16:40:10Z"}
SHIPMENT_EVENT = {"event_id": "SIM-EV-5512", "type": "in_transit", "occurred_at": "2026-11-23T19:10:00Z"}

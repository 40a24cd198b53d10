"""The tables of the simulated providers' state file. They belong to the providers, not to our schema."""

from typing import Final

SCHEMA_VERSION: Final = 1

SCHEMA: Final = (
    # Every key that was ever sent or asked about, and the answer once there is one. The fingerprint is
    # that of the request that was answered: a request lost on its way binds nobody.
    """CREATE TABLE requests (
        provider TEXT NOT NULL, key TEXT NOT NULL, order_id TEXT NOT NULL, operation TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, questions INTEGER NOT NULL DEFAULT 0,
        fingerprint TEXT, answer TEXT,
        PRIMARY KEY (provider, key), CHECK ((fingerprint IS NULL) = (answer IS NULL))
    ) WITHOUT ROWID""",
    "CREATE INDEX requests_of_order ON requests (order_id, provider, operation)",
    # One row per physical effect; a key can never have a second one.
    """CREATE TABLE effects (
        effect_id INTEGER PRIMARY KEY AUTOINCREMENT,
        provider TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, order_id TEXT NOT NULL,
        provider_ref TEXT NOT NULL UNIQUE, subject TEXT NOT NULL,
        amount_minor INTEGER NOT NULL, currency TEXT NOT NULL, detail TEXT NOT NULL, made_at TEXT NOT NULL,
        UNIQUE (provider, key)
    )""",
    "CREATE INDEX effects_of_order ON effects (order_id)",
    "CREATE INDEX effects_on_subject ON effects (provider, subject)",
    # The provider's own law of money: nothing captured beyond the hold, nothing refunded beyond the capture.
    """CREATE TABLE authorizations (
        authorization_ref TEXT PRIMARY KEY, order_id TEXT NOT NULL, currency TEXT NOT NULL,
        authorized_minor INTEGER NOT NULL, captured_minor INTEGER NOT NULL DEFAULT 0,
        voided_minor INTEGER NOT NULL DEFAULT 0, refunded_minor INTEGER NOT NULL DEFAULT 0,
        capture_before TEXT NOT NULL,
        CHECK (captured_minor >= 0 AND voided_minor >= 0 AND captured_minor + voided_minor <= authorized_minor),
        CHECK (refunded_minor BETWEEN 0 AND captured_minor)
    ) WITHOUT ROWID""",
    # What the nodes have to do, in the order in which it was released.
    """CREATE TABLE work (
        position INTEGER PRIMARY KEY AUTOINCREMENT, release_key TEXT NOT NULL UNIQUE,
        order_id TEXT NOT NULL, fulfillment_id TEXT NOT NULL, node_id TEXT NOT NULL, lines TEXT NOT NULL,
        step TEXT NOT NULL DEFAULT 'released', stop_asked INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE INDEX work_of_fulfillment ON work (fulfillment_id)",
    # Fulfillments that a node was told to stop before it had heard of them: a late release is turned away.
    "CREATE TABLE stopped_ahead (fulfillment_id TEXT PRIMARY KEY) WITHOUT ROWID",
    """CREATE TABLE controls (
        order_id TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (order_id, name)
    ) WITHOUT ROWID""",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

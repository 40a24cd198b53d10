"""Who may do what, on which objects: the one table that the API, OpenAPI, the orders and the tests read.

Owned by security together with every team. An operation that is missing here cannot be served: the API
refuses to start. The cut-offs ("until when") are rules of the business and are not decided here.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from domain.lifecycle import Team
from domain.orders import Actor, ActorKind, Frozen

EVERY = "*"


class Role(StrEnum):
    """What somebody is allowed to be."""

    SHOPPER = "shopper"  # the customer, signed in
    STOREFRONT = "storefront"  # a shop's program
    SERVICE = "service"  # customer service
    WAREHOUSE = "warehouse"  # a node's program, and the carrier adapter beside it
    INVENTORY = "inventory"
    FINANCE = "finance"
    COMMERCE = "commerce"
    OPS = "ops"
    AUDITOR = "auditor"


# The role of each team that can own an exception case; what a team decides about it: `domain/case_work.py`.
TEAMS: Mapping[str, Role] = MappingProxyType(
    {
        Team.COMMERCE: Role.COMMERCE,
        Team.INVENTORY: Role.INVENTORY,
        Team.FULFILLMENT: Role.WAREHOUSE,
        Team.FINANCE: Role.FINANCE,
        Team.SERVICE: Role.SERVICE,
    }
)


class Rule(StrEnum):
    """On which objects a role may use an operation."""

    OWN_ORDER = "own_order"  # orders of the caller's own customer reference
    OWN_CHANNEL = "own_channel"  # orders of the sales channels given to the caller
    OWN_NODE = "own_node"  # fulfillment orders of the nodes given to the caller
    ANYTHING = "anything"  # every object; channels or nodes given to the caller narrow it


class Personal(StrEnum):
    """How much of the customer's name and address a role gets to see."""

    FULL = "full"
    MASKED = "masked"
    SHIP_TO = "ship_to"  # the whole address of a parcel, at the nodes given to the caller; no e-mail
    NONE = "none"


_NOBODY: Mapping[Role, Rule] = MappingProxyType({})


class Operation(NamedTuple):
    """One operation of the API. `public` needs no credentials, and then nobody is listed."""

    id: str
    summary: str
    tag: str
    allow: Mapping[Role, Rule] = _NOBODY
    public: bool = False
    command: str | None = None  # the update of the workflow behind it


class Principal(Frozen):
    """Who is asking: proven by an API key or a token. `*` among channels or nodes means all."""

    id: str
    kind: ActorKind
    roles: tuple[Role, ...]
    channels: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    customer_ref: str | None = None


class Scope(NamedTuple):
    """The rows that a caller may touch with an operation, ready to be bound into SQL."""

    everything: bool
    channels: tuple[str, ...]
    nodes: tuple[str, ...]
    customer_ref: str | None

    @property
    def empty(self) -> bool:
        """Whether no row at all can match."""
        return not (self.everything or self.channels or self.nodes or self.customer_ref)

    def covers_channel(self, channel: str) -> bool:
        """Whether the caller may act for this sales channel."""
        return self.everything or channel in self.channels


_READERS = {
    Role.SHOPPER: Rule.OWN_ORDER,
    Role.STOREFRONT: Rule.OWN_CHANNEL,
    Role.SERVICE: Rule.OWN_CHANNEL,
    Role.FINANCE: Rule.ANYTHING,
    Role.OPS: Rule.ANYTHING,
    Role.AUDITOR: Rule.ANYTHING,
}
_BUYERS = {
    Role.SHOPPER: Rule.OWN_ORDER,
    Role.STOREFRONT: Rule.OWN_CHANNEL,
    Role.SERVICE: Rule.OWN_CHANNEL,
}
_HOLDERS = {Role.SERVICE: Rule.OWN_CHANNEL, Role.OPS: Rule.ANYTHING}
_FLOOR = {Role.WAREHOUSE: Rule.OWN_NODE, Role.OPS: Rule.ANYTHING}
_FLOOR_READERS = {**_FLOOR, Role.AUDITOR: Rule.ANYTHING}
_NODE_KEEPERS = {Role.WAREHOUSE: Rule.OWN_NODE, Role.INVENTORY: Rule.OWN_NODE, Role.OPS: Rule.ANYTHING}
_NODE_READERS = {**_NODE_KEEPERS, Role.AUDITOR: Rule.ANYTHING}
_OPERATORS = {Role.OPS: Rule.ANYTHING, Role.AUDITOR: Rule.ANYTHING}
# The owner team of the ruleset sets it.
_RISK_TESTERS = {Role.FINANCE: Rule.ANYTHING, Role.OPS: Rule.ANYTHING}
_RISK_READERS = {**_RISK_TESTERS, Role.AUDITOR: Rule.ANYTHING}
_EXPLAINERS = {
    Role.SERVICE: Rule.OWN_CHANNEL,
    Role.COMMERCE: Rule.ANYTHING,
    Role.OPS: Rule.ANYTHING,
    Role.AUDITOR: Rule.ANYTHING,
}

# Every team works on its own cases; which of the cases it sees are its own is a rule of `domain/case_work.py`.
_CASE_WORKERS = {
    Role.SERVICE: Rule.OWN_CHANNEL,
    Role.WAREHOUSE: Rule.OWN_NODE,
    Role.INVENTORY: Rule.OWN_NODE,
    Role.FINANCE: Rule.ANYTHING,
    Role.COMMERCE: Rule.ANYTHING,
    Role.OPS: Rule.ANYTHING,
}
_CASE_READERS = {**_CASE_WORKERS, Role.AUDITOR: Rule.ANYTHING}
_RECEIVERS = {Role.WAREHOUSE: Rule.OWN_NODE, Role.INVENTORY: Rule.OWN_NODE, Role.OPS: Rule.ANYTHING}
_STOCK_OWNERS = {Role.INVENTORY: Rule.ANYTHING, Role.COMMERCE: Rule.ANYTHING, Role.OPS: Rule.ANYTHING}
_NOTE_WRITERS = {Role.SERVICE: Rule.OWN_CHANNEL, Role.OPS: Rule.ANYTHING}


def _one(
    operation_id: str, summary: str, tag: str, allow: Mapping[Role, Rule], command: str | None = None
) -> Operation:
    return Operation(id=operation_id, summary=summary, tag=tag, allow=allow, command=command)


def _public(operation_id: str, summary: str) -> Operation:
    return Operation(id=operation_id, summary=summary, tag="Service", public=True)


OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        operation.id: operation
        for operation in (
            _one("createOrder", "Place an order", "Orders", {Role.STOREFRONT: Rule.OWN_CHANNEL}, "accept"),
            _one("listOrders", "List orders, newest first", "Orders", _READERS),
            _one("getOrder", "Read one order", "Orders", _READERS),
            _one("listOrderEvents", "Read or follow an order's timeline", "Orders", _READERS),
            _one(
                "requestCancellation",
                "Cancel what has not left yet",
                "Orders",
                {**_BUYERS, Role.OPS: Rule.ANYTHING},
                "cancel",
            ),
            _one("listCancellations", "List an order's cancellations", "Orders", _READERS),
            _one("getCancellation", "Read one cancellation", "Orders", _READERS),
            _one("amendOrder", "Change an order in flight", "Orders", {**_BUYERS, Role.OPS: Rule.ANYTHING}, "amend"),
            _one(
                "quoteReturn",
                "What a return would give back",
                "Orders",
                {**_BUYERS, Role.OPS: Rule.ANYTHING},
            ),
            _one("listAmendments", "List an order's changes", "Orders", _READERS),
            _one("getAmendment", "Read one change", "Orders", _READERS),
            _one("placeHold", "Stop an order for a while", "Orders", _HOLDERS, "place_hold"),
            _one("listHolds", "List an order's holds", "Orders", {**_READERS, Role.COMMERCE: Rule.ANYTHING}),
            _one("getHold", "Read one hold", "Orders", {**_READERS, Role.COMMERCE: Rule.ANYTHING}),
            _one(
                "releaseHold",
                "End a hold: go on, or cancel",
                "Orders",
                # each type of hold has its own roles among these: domain/holds.py, asked by the order itself
                {**_HOLDERS, Role.FINANCE: Rule.ANYTHING, Role.COMMERCE: Rule.ANYTHING},
                "release_hold",
            ),
            _one("chooseRemedy", "Refund a parcel or send it again", "Orders", _HOLDERS, "choose_remedy"),
            _one("forceCloseOrder", "Close an order by force", "Orders", {Role.OPS: Rule.ANYTHING}, "force_close"),
            _one("addTender", "Replace a declined payment", "Orders", _BUYERS, "payment_event"),
            _one("listFulfillmentOrders", "A node's work list", "Fulfillment", _FLOOR_READERS),
            _one("getFulfillmentOrder", "Read one fulfillment order", "Fulfillment", _FLOOR_READERS),
            _one("reportFulfillment", "Report what a node did", "Fulfillment", _FLOOR, "node_report"),
            _one("recordShipmentEvent", "Record a carrier's event", "Fulfillment", _FLOOR, "carrier_event"),
            _one("listNodes", "List nodes, and which are frozen", "Nodes", _NODE_READERS),
            _one("freezeNode", "Give a node no new work", "Nodes", _NODE_KEEPERS),
            _one("unfreezeNode", "Let a node take new work again", "Nodes", _NODE_KEEPERS),
            _one("getSilenceRules", "Read what follows when a node is silent", "Rulesets", _OPERATORS),
            _one("setSilenceRules", "Say what follows when a node is silent", "Rulesets", {Role.OPS: Rule.ANYTHING}),
            _one("getRiskRules", "Read the risk rules in force", "Rulesets", _RISK_READERS),
            _one("setRiskRules", "Set the risk rules of a channel", "Rulesets", {Role.FINANCE: Rule.ANYTHING}),
            _one("testRiskRules", "Try risk rules on an order", "Rulesets", _RISK_TESTERS),
            _one("listDecisions", "List the decisions made for an order", "Decisions", _EXPLAINERS),
            _one("getDecision", "Read why something was decided", "Decisions", _EXPLAINERS),
            _one("listExceptions", "The queue of exception cases", "Exceptions", _CASE_READERS),
            _one("getException", "Read one exception case", "Exceptions", _CASE_READERS),
            _one("assignException", "Give a case to somebody", "Exceptions", _CASE_WORKERS),
            _one(
                "resolveException",
                "Resolve a case: retry, cancel, refund, reship or dismiss",
                "Exceptions",
                _CASE_WORKERS,
                "retry_now",
            ),
            _one("addNote", "Write a note on an order", "Notes", _NOTE_WRITERS),
            _one("listNotes", "Read the notes on an order", "Notes", {**_NOTE_WRITERS, Role.AUDITOR: Rule.ANYTHING}),
            _one("listNotices", "List what the customer was told", "Notices", _READERS),
            _one("resendNotification", "Send a notice again", "Notices", _NOTE_WRITERS),
            _one("receiveStock", "Book goods that came in", "Stock", _RECEIVERS, "supply_arrived"),
            _one("setBackorder", "Say whether an item may be waited for", "Stock", _STOCK_OWNERS),
            _public("health", "Whether the process lives"),
            _public("readiness", "Whether everything behind the API is there"),
            _public("version", "Which version this is"),
            _public("listProblems", "All problems that the API can answer with"),
            _public("getProblem", "What one problem means"),
        )
    }
)

SEES: Mapping[Role, Personal] = MappingProxyType(
    {
        Role.SHOPPER: Personal.FULL,
        Role.STOREFRONT: Personal.MASKED,
        Role.SERVICE: Personal.MASKED,
        Role.OPS: Personal.MASKED,
        Role.WAREHOUSE: Personal.SHIP_TO,
    }
)


def may(principal: Principal, operation_id: str) -> bool:
    """Whether one of the caller's roles may use the operation at all."""
    operation = OPERATIONS[operation_id]
    return operation.public or any(role in operation.allow for role in principal.roles)


def needed_roles(operation_id: str) -> tuple[Role, ...]:
    """The roles that may use the operation, for the answer to those who may not."""
    return tuple(sorted(OPERATIONS[operation_id].allow))


def scope_of(principal: Principal, operation_id: str) -> Scope:
    """The rows that the caller may touch: the union over the caller's roles. Nothing unless a role allows it."""
    allow = OPERATIONS[operation_id].allow
    everything = False
    channels: set[str] = set()
    nodes: set[str] = set()
    customer_ref = None
    for rule in {allow[role] for role in principal.roles if role in allow}:
        match rule:
            case Rule.OWN_ORDER:
                customer_ref = principal.customer_ref
            case Rule.OWN_CHANNEL:
                channels.update(principal.channels)
            case Rule.OWN_NODE:
                nodes.update(principal.nodes)
            case Rule.ANYTHING:
                channels.update(principal.channels)
                nodes.update(principal.nodes)
                everything = everything or not (principal.channels or principal.nodes)
    everything = everything or EVERY in channels or EVERY in nodes
    return Scope(everything, tuple(sorted(channels)), tuple(sorted(nodes)), customer_ref)


def personal_view(principal: Principal) -> Personal:
    """How much of the customer's personal data the caller gets: the most that one of the roles gives."""
    views = {SEES.get(role, Personal.NONE) for role in principal.roles}
    return next((view for view in (Personal.FULL, Personal.MASKED) if view in views), Personal.NONE)


def ship_to_view(principal: Principal, node_id: str) -> Personal:
    """How much of a parcel's address the caller gets: all of it at the caller's own node, else as it is masked."""
    views = {SEES.get(role, Personal.NONE) for role in principal.roles}
    if Personal.SHIP_TO in views and (node_id in principal.nodes or EVERY in principal.nodes):
        return Personal.FULL
    return Personal.MASKED if Personal.MASKED in views else Personal.NONE


def role_of(actor: Actor | None) -> str | None:
    """The role in which somebody acts within an order; None for who has none.

    An operator at the engine's own console acts for operations. So does whoever is not named yet: a message without
    an actor did not come through the API; the row of its command has the last word. Nobody else gets a role that is
    not recorded.
    """
    if actor is None or actor.kind is ActorKind.OPERATOR:
        return Role.OPS
    return actor.role


def acting_role(principal: Principal, operation_id: str) -> Role | None:
    """The role that lets the caller do this, as recorded with the command."""
    allow = OPERATIONS[operation_id].allow
    return next((role for role in principal.roles if role in allow), None)


def actor_of(principal: Principal, operation_id: str) -> Actor:
    """The caller as it is recorded with a command."""
    role = acting_role(principal, operation_id)
    kind = principal.kind
    if role is Role.SHOPPER:
        kind = ActorKind.CUSTOMER
    elif role is Role.WAREHOUSE:
        kind = ActorKind.CARRIER if operation_id == "recordShipmentEvent" else ActorKind.NODE
    return Actor(kind=kind, id=principal.id[:80], role=role)

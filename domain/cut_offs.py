"""Who may change what until when. Owner: service; the table is the ruleset `cut_off`, pinned at acceptance.

Validator, preview, execution and `available_actions` all ask here, so that they never differ.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from domain.orders import Actor, ActorKind, ChangeKind, CutOffs, OrderRules
from domain.permissions import EVERY, Role, role_of
from domain.quantities import Bucket
from domain.refusals import OrderRuleError

STAGES = (
    Bucket.OPEN,
    Bucket.BACKORDERED,
    Bucket.RESERVED,
    Bucket.ALLOCATED,
    Bucket.RELEASED,
    Bucket.PICKED,
    Bucket.PACKED,
    Bucket.SHIPPED,
)
"""How far units can be, from the first stage to the last at which anything can be changed."""


class CutOffPassed(OrderRuleError):
    """The units are too far for this change in this role."""

    code = "cut_off_passed"


class NotInTheRules(OrderRuleError):
    """The cut-off rules do not list this change for this role."""

    code = "not_in_cut_off_rules"


class Limit(NamedTuple):
    """Until which stage of the units a role may make a change; None: not at all."""

    version: str
    until: Bucket | None


def limit_of(rules: OrderRules, change: ChangeKind, role: str) -> Limit:
    """The row of the table for this change and role."""
    if rules.cut_offs is None:
        return Limit("cut_off@none", Bucket.PACKED if change is ChangeKind.CANCEL else None)
    row = rules.cut_offs.until.get(change, {})
    return Limit(rules.cut_offs.version, row.get(role, row.get(EVERY)))


def is_within(stage: Bucket, until: Bucket) -> bool:
    """Whether units at `stage` have not passed `until`."""
    return stage in STAGES and STAGES.index(stage) <= STAGES.index(until)


def check_cut_off(rules: OrderRules, change: ChangeKind, actor: Actor | None, stage: Bucket) -> None:
    """Whether the actor may change units that have reached `stage`. The system's own changes are rules already.

    Raises:
        NotInTheRules: the table does not list the change for this role.
        CutOffPassed: it was allowed until an earlier stage; the text names the rule and the stage.
    """
    if actor is not None and actor.kind is ActorKind.SYSTEM:
        return
    role = role_of(actor)
    if role is None:
        raise NotInTheRules(f"{change} is not for somebody without a role")
    version, until = limit_of(rules, change, role)
    if until is None:
        raise NotInTheRules(f"{version}: {change} is not for the role {role}")
    if not is_within(stage, until):
        alternative = "cancel" if change is not ChangeKind.CANCEL and stage is not Bucket.SHIPPED else "return"
        raise CutOffPassed(
            f"{version}: {change} is possible for the role {role} until the units are {until}; they are {stage}",
            alternative,
        )


def furthest(stages: tuple[Bucket, ...]) -> Bucket:
    """The stage of the units that are furthest; open where there are none."""
    return max(stages, key=STAGES.index, default=Bucket.OPEN)


def pinned(version: str, body: Mapping[str, Any]) -> CutOffs:
    """The table of a ruleset, as an order pins it; an empty document is the standard one.

    Raises:
        ValidationError: a change or a stage that there is not.
    """
    return CutOffs.model_validate({**(body or standard().model_dump()), "version": version})


def standard() -> CutOffs:
    """The table that an installation starts with."""
    shop, desk = (Role.SHOPPER, Role.STOREFRONT), (Role.SERVICE, Role.OPS)
    soon, late = dict.fromkeys(shop, Bucket.ALLOCATED), dict.fromkeys(desk, Bucket.PACKED)
    more = dict.fromkeys(desk, Bucket.SHIPPED)
    return CutOffs(
        until={
            ChangeKind.CANCEL: {EVERY: Bucket.PACKED},
            ChangeKind.RECALL: {EVERY: Bucket.SHIPPED},
            ChangeKind.CANCEL_UNREFUNDED: late,
            ChangeKind.WRITE_OFF: late,
            ChangeKind.DECREASE: soon | late,
            ChangeKind.INCREASE: soon | more,
            ChangeKind.ADD_LINE: {Role.STOREFRONT: Bucket.ALLOCATED} | more,
            ChangeKind.SUBSTITUTE: {Role.STOREFRONT: Bucket.ALLOCATED} | late,
            ChangeKind.SHIP_TO: soon | late,
            ChangeKind.SERVICE_LEVEL: soon | late,
            ChangeKind.REQUESTED_BY: soon | late,
        }
    )

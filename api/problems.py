"""Every problem the API can answer with: one table for handlers, OpenAPI and the pages under /problems.

Bodies follow RFC 9457. A 5xx never carries the text of an exception; `request_id` leads to the log.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class ProblemType(NamedTuple):
    """One kind of problem. `help_text` is the page; `members` are the extra fields of the body."""

    slug: str
    status: int
    title: str
    help_text: str
    members: tuple[str, ...] = ()


_TABLE = (
    ProblemType(
        "malformed-request",
        400,
        "The request cannot be read",
        "The body is not JSON in UTF-8, or a header has a value that cannot be used. "
        "Nothing was stored: correct the request and send it again.",
    ),
    ProblemType(
        "idempotency-key-missing",
        400,
        "An Idempotency-Key is needed",
        "This operation must be safe to repeat. Send the header Idempotency-Key with 1 to 255 printable "
        "characters of your own choice; createOrder accepts `channel` and `external_ref` instead.",
    ),
    ProblemType(
        "cursor-invalid",
        400,
        "The cursor does not fit",
        "A cursor belongs to the filters and the sorting it was given for, and cannot be edited. "
        "Start again without a cursor.",
    ),
    ProblemType(
        "unauthenticated",
        401,
        "Who is asking?",
        "Send `Authorization: Bearer <API key or access token>`. The key or token is missing, wrong, "
        "revoked or expired. Keys are never accepted in a URL.",
    ),
    ProblemType(
        "payment-declined",
        402,
        "The payment was declined",
        "The provider declined the new payment reference. The order is unchanged and still waits for a "
        "payment until its payment window ends; try another reference with a new Idempotency-Key.",
        ("decline_code", "tender_id"),
    ),
    ProblemType(
        "forbidden",
        403,
        "Your role may not do this",
        "The credentials are good, but none of their roles may use this operation, or not for this channel. "
        "`needs_role` lists the roles that may.",
        ("needs_role",),
    ),
    ProblemType(
        "not-found",
        404,
        "There is no such thing here",
        "It does not exist, or it is not yours to see: both look the same on purpose.",
        ("resource",),
    ),
    ProblemType(
        "method-not-allowed",
        405,
        "This method is not offered here",
        "The path exists, the method does not. `allow` lists what is offered.",
        ("allow",),
    ),
    ProblemType(
        "not-acceptable",
        406,
        "That form is not offered",
        "The header Accept names no media type that this operation can answer with. Use application/json, "
        "or text/event-stream for the timeline of an order.",
        ("allow",),
    ),
    ProblemType(
        "order-exists",
        409,
        "The channel's reference is taken",
        "An order with this `channel` and `external_ref` exists and has other content. The same content would "
        "have been answered with that order. A reference becomes free when its order is rejected.",
    ),
    ProblemType(
        "idempotency-in-progress",
        409,
        "The first request is still being answered",
        "A request with this Idempotency-Key is being answered right now. Repeat after the given time.",
        ("retry_after_s",),
    ),
    ProblemType(
        "action-not-available",
        409,
        "The order does not allow this now",
        "The rules of the order refuse the command, and nothing was changed. `reason` is a stable code, "
        "`alternative` names what is possible instead. To ask again later, use a new Idempotency-Key.",
        ("action", "reason", "alternative", "state", "lines"),
    ),
    ProblemType(
        "out-of-stock",
        409,
        "Not enough stock to promise",
        "Nothing was reserved and nothing will be charged. `lines` says what was asked for and what there is; "
        "the channel's reference is free again.",
        ("lines",),
    ),
    ProblemType(
        "promise-not-possible",
        409,
        "No delivery date can be promised",
        "The units are in stock, but not at nodes that can reach the destination with this service level, so there "
        "is no day to promise. `lines` says what was asked for and what can be delivered there. Nothing was "
        "reserved and nothing will be charged; the channel's reference is free again.",
        ("lines",),
    ),
    ProblemType(
        "payload-too-large",
        413,
        "The body is too large",
        "An order has at most 256 KiB, a command at most 64 KiB.",
        ("limit_bytes",),
    ),
    ProblemType(
        "unsupported-media-type",
        415,
        "Only JSON is accepted",
        "Send the body as application/json in UTF-8, without compression.",
    ),
    ProblemType(
        "validation",
        422,
        "The content does not fit",
        "`errors` says what is wrong: a JSON pointer to the place (in the body, or under /query, /path or /header), "
        "a stable code and a sentence. Nothing was stored.",
        ("errors",),
    ),
    ProblemType(
        "idempotency-mismatch",
        422,
        "The key belongs to another request",
        "This Idempotency-Key (or the id of this report) was used before with other content. "
        "Use a new one for a new request.",
    ),
    ProblemType(
        "rate-limited",
        429,
        "Too many requests",
        "Each caller has 50 requests per second with a burst of 100. Wait for the given time.",
        ("retry_after_s",),
    ),
    ProblemType(
        "too-many-commands",
        429,
        "Too many commands wait at this order",
        "At most 10 commands of one order may be under way. Wait until some have an outcome.",
        ("retry_after_s",),
    ),
    ProblemType(
        "headers-too-large",
        431,
        "The headers are too large",
        "All headers together have at most 16 KiB.",
    ),
    ProblemType(
        "internal",
        500,
        "Something broke on our side",
        "A defect. Give us `request_id`: it leads to the log. Repeating with the same Idempotency-Key is safe.",
    ),
    ProblemType(
        "database-unavailable",
        503,
        "The database cannot be reached",
        "Nothing was accepted. Repeat after the given time with the same Idempotency-Key.",
        ("retry_after_s",),
    ),
    ProblemType(
        "engine-unavailable",
        503,
        "The order itself cannot be asked",
        "A preview is computed by the order's workflow, which did not answer. Nothing was changed. "
        "Commands are accepted all the same; only previews need the answer at once.",
        ("retry_after_s",),
    ),
)

PROBLEMS: Mapping[str, ProblemType] = MappingProxyType({problem.slug: problem for problem in _TABLE})
MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """Ends a request with a problem from the table."""

    def __init__(self, slug: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.type = PROBLEMS[slug]
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members
        if "retry_after_s" in members:
            self.headers.setdefault("Retry-After", str(members["retry_after_s"]))

    def body(self, instance: str, request_id: str) -> dict[str, Any]:
        """The body of the answer."""
        return {
            "type": f"/problems/{self.type.slug}",
            "title": self.type.title,
            "status": self.type.status,
            "detail": self.detail,
            "instance": instance,
            "request_id": request_id,
            **self.members,
        }


class Finding(NamedTuple):
    """One thing that is wrong with a body: where (JSON pointer), a stable code, a sentence."""

    pointer: str
    code: str
    message: str


def invalid(findings: list[Finding]) -> Problem:
    """The one answer that lists everything that is wrong. Long lists are cut after 100 entries."""
    count = len(findings)
    detail = "1 thing is wrong." if count == 1 else f"{count} things are wrong."
    return Problem("validation", detail, errors=[finding._asdict() for finding in findings[:100]])


def not_found(resource: str) -> Problem:
    """The answer for what does not exist and for what is not the caller's to see."""
    return Problem("not-found", f"There is no such {resource}, or it is not yours.", resource=resource)

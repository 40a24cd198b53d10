"""How a route is declared: by its operation in the table of permissions, with every status it can answer."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from api.problems import MEDIA_TYPE, PROBLEMS
from domain.permissions import OPERATIONS, Operation

# What every operation with credentials can answer, and what every operation can.
_GUARDED = ("unauthenticated", "forbidden", "rate-limited", "database-unavailable")
_ALWAYS = ("headers-too-large", "internal")
BODY_PROBLEMS = ("malformed-request", "payload-too-large", "unsupported-media-type", "validation")
COMMAND_PROBLEMS = (
    *BODY_PROBLEMS,
    "not-found",
    "action-not-available",
    "idempotency-in-progress",
    "idempotency-mismatch",
    "too-many-commands",
)


class OperationUnknown(Exception):
    """A route is not in the table of permissions, or an operation of the table has no route."""


class Routes:
    """Collects routes; each is an entry of the table of permissions."""

    def __init__(self) -> None:
        self.router = APIRouter()
        self.bodies: dict[str, type[BaseModel]] = {}

    def add(
        self,
        method: str,
        path: str,
        operation_id: str,
        answers: Mapping[int, tuple[type[BaseModel] | None, str]],
        problems: tuple[str, ...] = (),
        body: tuple[type[BaseModel], Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare a route.

        Args:
            method: HTTP method.
            path: path with parameters named after their resource.
            operation_id: entry of the table of permissions.
            answers: model and description per status.
            problems: slugs this route can answer with, beside those of every route.
            body: model of the request's body and an example.
            headers: request headers that this route honors, with their meaning.

        Raises:
            OperationUnknown: the operation is not in the table: nobody would be allowed to use it.
        """
        operation = OPERATIONS.get(operation_id)
        if operation is None:
            raise OperationUnknown(f"{operation_id} ({method} {path}) is not in the table of permissions")
        if body:
            self.bodies[operation_id] = body[0]

        def register(handler: Callable[..., Any]) -> Callable[..., Any]:
            self.router.add_api_route(
                path,
                handler,
                methods=[method],
                operation_id=operation_id,
                summary=operation.summary,
                tags=[operation.tag],
                status_code=min(answers),
                response_model=None,
                responses=_responses(operation, answers, problems),
                openapi_extra=_extra(operation, body, headers),
            )
            return handler

        return register


def _responses(
    operation: Operation,
    answers: Mapping[int, tuple[type[BaseModel] | None, str]],
    problems: tuple[str, ...],
) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {}
    for status, (model, description) in answers.items():
        found[status] = {"description": description, **({"model": model} if model else {})}
    every = (*problems, *(() if operation.public else _GUARDED), *_ALWAYS)
    for slug in dict.fromkeys(every):
        problem = PROBLEMS[slug]
        entry = found.setdefault(
            problem.status,
            {
                "description": "",
                "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}},
            },
        )
        entry["description"] = ", ".join(filter(None, (entry["description"], slug)))
    return found


def _extra(
    operation: Operation, body: tuple[type[BaseModel], Any] | None, headers: Mapping[str, str] | None
) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if not operation.public:
        extra["security"] = [{"bearer": []}]
        extra["x-roles"] = {role.value: rule.value for role, rule in sorted(operation.allow.items())}
    if body:
        schema = {"$ref": f"#/components/schemas/{body[0].__name__}"}
        content = {"schema": schema, "examples": {"example": {"value": body[1]}}}
        extra["requestBody"] = {"required": True, "content": {"application/json": content}}
    if headers:
        extra["parameters"] = [
            {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        ]
    return extra


KEY_HEADER = {
    "Idempotency-Key": "Makes repeating safe: 1 to 255 printable characters of your choice, kept for 7 days.",
}
WAIT_HEADER = {
    "Prefer": "`wait=N` waits N seconds for the outcome (at most 20), `respond-async` not at all.",
}

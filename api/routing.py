"""How a route is declared: by its operation in the table of permissions, with every status it can answer."""

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.bodies import pointer_part
from api.problems import MEDIA_TYPE, PROBLEMS, Finding, invalid
from domain.permissions import OPERATIONS, Operation

# What every operation with credentials can answer, and what every operation can.
_GUARDED = ("unauthenticated", "forbidden", "rate-limited", "database-unavailable")
_ALWAYS = ("validation", "headers-too-large", "internal")
BODY_PROBLEMS = ("malformed-request", "payload-too-large", "unsupported-media-type")
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
                dependencies=[Depends(refuse_unknown_query)] if operation.public else None,
            )
            return handler

        return register


def refuse_unknown_query(request: Request) -> None:
    """A filter that is misspelled, or that we do not have, must not answer with everything.

    Where credentials are needed this is asked after them, else before anything.

    Raises:
        Problem: `validation` with a finding for each parameter that the route does not have.
    """
    unknown = sorted(set(request.query_params) - query_names(request.scope["route"]))
    if unknown:
        text = "this operation has no such query parameter"
        raise invalid([Finding(f"/query/{pointer_part(name)}", "unknown_parameter", text) for name in unknown])


def query_names(route: APIRoute) -> set[str]:
    """The query parameters of a route: those of the handler, and the fields of its model of filters."""
    names: set[str] = set()
    for field in route.dependant.query_params:
        kind = field.field_info.annotation
        fields = kind.model_fields if isinstance(kind, type) and issubclass(kind, BaseModel) else (field.alias,)
        names.update(fields)
    return names


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

"""The contract as a document: `python -m api.openapi` records docs/openapi.json and docs/permissions.md."""

import json
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.assembly import assemble, request_bodies
from api.limits import Limits
from api.service_answers import ProblemOut
from domain.case_work import Choice, deciders
from domain.permissions import OPERATIONS, SEES, TEAMS, Personal, Role

DOCS = Path(__file__).parent.parent / "docs"
_REF = "#/components/schemas/{model}"
_ABOUT = (
    "An order orchestrator. A change of an order waits for its outcome and answers 201, or 202 with a place to look. "
    "Repeating a request with the same Idempotency-Key is always safe. Problems are RFC 9457; their types open pages."
)
_SEEN = {
    Personal.FULL: "name, e-mail and address in full",
    Personal.MASKED: "name, e-mail and postal code, masked",
    Personal.SHIP_TO: "`ship_to` in full in `getFulfillmentOrder`, at its own nodes and never in a list; no e-mail",
    Personal.NONE: "the opaque reference, country and region",
}
_GENERATED = ("HTTPValidationError", "ValidationError")


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the application."""
    found = get_openapi(title="Accord", version="1", description=_ABOUT, routes=app.routes, openapi_version="3.1.0")
    models: set[type[BaseModel]] = {*request_bodies().values(), ProblemOut}
    _, extra = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda model: model.__name__)], ref_template=_REF
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(extra.get("$defs", {}))
    for name in _GENERATED:
        schemas.pop(name, None)
    found["components"]["schemas"] = dict(sorted(schemas.items()))
    found["components"]["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`acc_...`) or an access token of the company's identity provider.",
        }
    }
    return found


def permissions_page() -> str:
    """The table of permissions as a page."""
    roles = [role for role in Role if any(role in operation.allow for operation in OPERATIONS.values())]
    lines = [
        "# Who may do what",
        "",
        "Rendered from `domain/permissions.py` by `python -m api.openapi`; a test compares. An operation that is not",
        "in the table cannot be served. The cell is the rule that decides which objects the role may touch:",
        "`own_order` the orders of the caller's own customer reference, `own_channel` and `own_node` those of the",
        "channels and nodes given to the caller (none given: none; `*`: all), `anything` every object, narrowed by",
        "channels and nodes where the caller was given any. What is not the caller's looks as if it did not exist.",
        "",
        f"| Operation | What | {' | '.join(role.value for role in roles)} |",
        f"|---|---|{'---|' * len(roles)}",
    ]
    for operation in OPERATIONS.values():
        cells = ["public"] * len(roles) if operation.public else [_cell(operation.allow.get(role)) for role in roles]
        lines.append(f"| `{operation.id}` | {operation.summary} | {' | '.join(cells)} |")
    idle = ", ".join(f"`{role.value}`" for role in Role if role not in roles)
    lines += ["", f"Roles without any operation yet: {idle}."] if idle else []
    lines += ["", "## What a role sees of the customer", "", "| Role | Sees |", "|---|---|"]
    lines += [f"| {role.value} | {_SEEN[SEES.get(role, Personal.NONE)]} |" for role in roles]
    return "\n".join([*lines, *_teams(), ""])


def _teams() -> list[str]:
    """Who may work on whose exception cases."""
    lines = ["", "## Who works on an exception case", ""]
    lines += ["Everybody above sees the cases of the orders that are theirs. Assigning and resolving is for:", ""]
    lines += [f"| The case belongs to | {' | '.join(('assign', *Choice))} |", f"|---|{'---|' * (len(Choice) + 1)}"]
    for team in TEAMS:
        cells = [", ".join(deciders(team, choice)) for choice in (None, *Choice)]
        lines.append(f"| {team} | {' | '.join(cells)} |")
    return lines


def _cell(rule: Any) -> str:
    return rule.value if rule else ""


def record() -> None:
    """Write both documents."""
    DOCS.mkdir(exist_ok=True)
    text = json.dumps(document(assemble(Limits())), indent=1, sort_keys=False)
    (DOCS / "openapi.json").write_text(text + "\n")
    (DOCS / "permissions.md").write_text(permissions_page())
    sys.stdout.write("recorded docs/openapi.json and docs/permissions.md\n")


if __name__ == "__main__":
    record()

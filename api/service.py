"""Public routes: health, readiness, version, and the pages that explain problems. Owner: ops."""

import asyncio
import html
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Path, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from sqlalchemy.exc import ProgrammingError
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.service import RPCError

from api.front import Front
from api.problems import PROBLEMS, Problem, ProblemType, not_found
from api.routing import Routes
from api.service_answers import Check, Health, ProblemList, ProblemPage, Readiness, Version
from store.reads import database_revision, expected_revision
from workflows.visibility import SEARCH_ATTRIBUTES

routes = Routes()

_PROBE = timedelta(seconds=1.5)
_PAGE_POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
}
_STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}code{background:#eee}"


@routes.add("GET", "/healthz", "health", answers={200: (Health, "The process lives.")})
async def health() -> Response:
    """The process answers. Nothing behind it is asked: use this to decide whether to restart it."""
    return JSONResponse({"status": "ok"})


@routes.add(
    "GET",
    "/readyz",
    "readiness",
    answers={200: (Readiness, "Everything is there."), 503: (Readiness, "Something is missing; see `checks`.")},
)
async def readiness(request: Request) -> Response:
    """Database with the right tables, order engine, search attributes, and a worker that polls."""
    front: Front = request.app.state.front
    database, engine = await asyncio.gather(_database(front), _engine(front))
    checks = {"database": database, **engine}
    ready = all(check.ok for check in checks.values())
    body = Readiness(ready=ready, checks=checks)
    return JSONResponse(body.model_dump(), 200 if ready else 503, {"Cache-Control": "no-store"})


async def _database(front: Front) -> Check:
    wanted = expected_revision()
    try:
        found = await front.read(database_revision)
    except Problem:
        return Check(ok=False, detail="cannot be reached")
    except ProgrammingError:
        return Check(ok=False, detail=f"tables are missing, needed is {wanted}: run `accord db upgrade`")
    if found != wanted:
        return Check(ok=False, detail=f"tables are at {found}, needed is {wanted}: run `accord db upgrade`")
    return Check(ok=True, detail=f"tables at {found}")


async def _engine(front: Front) -> dict[str, Check]:
    client = front.client
    try:
        attributes, queue = await asyncio.gather(
            client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=client.namespace), timeout=_PROBE
            ),
            client.workflow_service.describe_task_queue(
                DescribeTaskQueueRequest(
                    namespace=client.namespace,
                    task_queue=TaskQueue(name=front.task_queue),
                    task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
                ),
                timeout=_PROBE,
            ),
        )
    except (RPCError, RuntimeError):
        away = Check(ok=False, detail="cannot be reached; orders are stored and started later")
        return {"engine": away}
    missing = [key.name for key in SEARCH_ATTRIBUTES if key.name not in attributes.custom_attributes]
    count = len(queue.pollers)
    return {
        "engine": Check(ok=True, detail=f"namespace {client.namespace}"),
        "search_attributes": Check(
            ok=not missing, detail=f"missing: {', '.join(missing)}" if missing else "all present"
        ),
        "worker": Check(ok=count > 0, detail=f"{count} pollers on `{front.task_queue}`"),
    }


@routes.add("GET", "/version", "version", answers={200: (Version, "The version.")})
async def version(request: Request) -> Response:
    """Version of the program, and of this contract."""
    return JSONResponse({"version": request.app.state.version, "api": "v1"})


@routes.add("GET", "/problems", "listProblems", answers={200: (ProblemList, "All kinds of problems.")})
async def problems() -> Response:
    """Every kind of problem that this API can answer with."""
    return JSONResponse({"data": [_page(problem).model_dump() for problem in PROBLEMS.values()]})


@routes.add(
    "GET",
    "/problems/{slug}",
    "getProblem",
    answers={200: (ProblemPage, "The explanation, as JSON or as a page for people.")},
    problems=("not-found",),
)
async def problem(request: Request, slug: Annotated[str, Path(max_length=64)]) -> Response:
    """What a kind of problem means and what to do. Browsers get a page, programs get JSON."""
    found = PROBLEMS.get(slug)
    if found is None:
        raise not_found("problem")
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(_html(found), headers=_PAGE_POLICY)
    return JSONResponse(_page(found).model_dump())


def _page(found: ProblemType) -> ProblemPage:
    return ProblemPage(
        type=f"/problems/{found.slug}",
        title=found.title,
        status=found.status,
        explanation=found.help_text,
        members=list(found.members),
    )


def _html(found: ProblemType) -> str:
    members = ", ".join(f"<code>{html.escape(name)}</code>" for name in found.members)
    extra: Any = f"<p>Further members: {members}</p>" if members else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(found.title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(found.title)}</h1>"
        f"<p><code>{found.slug}</code>, status {found.status}</p><p>{html.escape(found.help_text)}</p>{extra}"
        "</body></html>"
    )

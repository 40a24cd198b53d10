"""Around every request: its id, the size of its headers, its log line, and the answer to what nobody expected."""

import secrets
import time
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import MEDIA_TYPE, Finding, Problem, invalid, not_found

log = structlog.get_logger("api")

_QUIET = ("/healthz", "/readyz")


class Envelope:
    """Pure ASGI middleware: nothing is buffered, so streams stay streams."""

    def __init__(self, app: ASGIApp, header_bytes: int) -> None:
        self._app = app
        self._header_bytes = header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(8)}"
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_added(message, request_id)]
            await send(message)

        try:
            if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
                await _respond(Problem("malformed-request", "NUL is not a character."), scope, receive, sending)
            elif sum(len(name) + len(value) for name, value in scope["headers"]) > self._header_bytes:
                problem = Problem("headers-too-large", f"Headers have at most {self._header_bytes} bytes.")
                await _respond(problem, scope, receive, sending)
            else:
                await self._app(scope, receive, sending)
        except Exception as error:  # the last resort: whatever it is, the caller gets no text of it
            log.exception("request.failed", request_id=request_id, error=type(error).__name__)
            if status == 0:
                await _respond(Problem("internal", "Something broke on our side."), scope, receive, sending)
        if scope["path"] not in _QUIET:
            _log(scope, request_id, status, began)


def _added(message: Message, request_id: str) -> list[tuple[bytes, bytes]]:
    added = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
    if not any(name == b"cache-control" for name, _ in message.get("headers", ())):
        added.append((b"cache-control", b"no-store"))
    return added


def _log(scope: Scope, request_id: str, status: int, began: float) -> None:
    state = scope["state"]
    log.info(
        "request.done",
        request_id=request_id,
        method=scope["method"],
        operation=state.get("operation_id"),
        principal=state.get("principal_id"),
        status=status,
        ms=round((time.perf_counter() - began) * 1000, 1),
    )


async def _respond(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    await answer(Request(scope, receive), problem)(scope, receive, send)


def answer(request: Request, problem: Problem) -> JSONResponse:
    """A problem as a response."""
    request_id = request.scope["state"].get("request_id", "")
    body = problem.body(request.scope["path"][:200], request_id)
    return JSONResponse(body, problem.type.status, problem.headers, media_type=MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Every way a request can end badly becomes a problem of the table."""

    async def on_problem(request: Request, problem: Exception) -> JSONResponse:
        assert isinstance(problem, Problem)  # noqa: S101 - registered for this type
        return answer(request, problem)

    async def on_parameters(request: Request, problem: Exception) -> JSONResponse:
        assert isinstance(problem, RequestValidationError)  # noqa: S101 - registered for this type
        return answer(request, invalid([_finding(error) for error in problem.errors()]))

    async def on_http(request: Request, problem: Exception) -> JSONResponse:
        assert isinstance(problem, HTTPException)  # noqa: S101 - registered for this type
        if problem.status_code == 405:
            allow = (problem.headers or {}).get("Allow", "")
            refused = Problem(
                "method-not-allowed", "This path has no such method.", {"Allow": allow}, allow=allow.split(", ")
            )
            return answer(request, refused)
        if problem.status_code == 404:
            return answer(request, not_found("path"))
        return answer(request, Problem("malformed-request", "The request cannot be read."))

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(RequestValidationError, on_parameters)
    app.add_exception_handler(HTTPException, on_http)


def _finding(error: Any) -> Finding:
    pointer = "".join(f"/{part}" for part in error["loc"])
    return Finding(pointer, str(error["type"]), str(error["msg"]))

"""Reading a request's body: size before parsing, depth before models, every finding at once."""

import codecs
import hashlib
import json
import re
from typing import Any, NoReturn, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.problems import Finding, Problem, invalid

Model = TypeVar("Model", bound=BaseModel)

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(rb"[\[\]{}]")
_LONG_NUMBER = 20

_CODES = {
    "extra_forbidden": "unknown_field",
    "missing": "missing",
    "enum": "unknown_value",
    "literal_error": "unknown_value",
}


async def read_json(request: Request, limit_bytes: int, nesting: int) -> Any:
    """The parsed body.

    Raises:
        Problem: too large, another media type, not JSON, or nested too deeply.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in ("application/json", ""):
        raise Problem("unsupported-media-type", "Send the body as application/json.")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem("unsupported-media-type", "Send the body without compression.")
    raw = await _read(request, limit_bytes)
    if _too_deep(raw, nesting):
        raise invalid([Finding("", "too_deep", f"the body is nested more than {nesting} levels deep")])
    try:
        return json.loads(
            codecs.decode(raw, "utf-8"),
            parse_constant=_refuse_constant,
            parse_int=_parse_int,
            object_pairs_hook=_object,
        )
    except (ValueError, RecursionError):
        raise Problem("malformed-request", "The body is not JSON in UTF-8.") from None


async def _read(request: Request, limit_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    too_large = Problem("payload-too-large", f"At most {limit_bytes} bytes.", limit_bytes=limit_bytes)
    if declared.isdigit() and int(declared) > limit_bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_bytes:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


def _too_deep(raw: bytes, nesting: int) -> bool:
    """Whether brackets outside of strings are nested too deeply; counts without parsing."""
    depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", raw)):
        depth += 1 if bracket in b"[{" else -1
        if depth > nesting:
            return True
    return False


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _parse_int(text: str) -> int:
    if len(text) > _LONG_NUMBER:
        raise ValueError("a number has too many digits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is given twice")
    return found


def validated(model: type[Model], content: Any) -> Model:
    """The body as a model.

    Raises:
        Problem: `validation` with a finding for each thing that is wrong.
    """
    try:
        return model.model_validate(content)
    except ValidationError as problem:
        raise invalid(findings_of(problem)) from None


def findings_of(problem: ValidationError) -> list[Finding]:
    """The findings of a model, as JSON pointers with codes; values are never repeated."""
    return [
        Finding(
            pointer="".join(f"/{pointer_part(part)}" for part in error["loc"] if part not in ("tagged-union",)),
            code=_code(error["type"], error.get("ctx", {})),
            message=error["msg"].removeprefix("Value error, "),
        )
        for error in problem.errors(include_url=False, include_input=False)
    ]


def _code(error_type: str, context: dict[str, Any]) -> str:
    own = getattr(context.get("error"), "code", None)
    return str(own or _CODES.get(error_type, error_type))


def pointer_part(part: str | int) -> str:
    """A name in a JSON pointer. Unknown names come from the sender: bounded, and always encodable."""
    text = str(part)[:80].encode("utf-8", "replace").decode()
    return text.replace("~", "~0").replace("/", "~1")


def fingerprint(method: str, route: str, path: dict[str, str], content: Any) -> bytes:
    """What makes two requests the same: method, route, path parameters and the canonical body."""
    canonical = json.dumps([method, route, path, content], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).digest()

"""Hostile and broken requests: measured before parsed, named, never a 500."""

import json
from typing import Any

import pytest

from api.limits import RateLimiter
from api.text_rules import looks_like_card_number
from tests.support.front_desk import FrontDesk

DEEP = b"[" * 50_000 + b"]" * 50_000
JUST_TOO_DEEP = b'{"a":' * 17 + b"1" + b"}" * 17


@pytest.mark.parametrize(
    ("content", "status", "slug"),
    [
        (b"", 400, "malformed-request"),
        (b"{", 400, "malformed-request"),
        (b"\xff\xfe{}", 400, "malformed-request"),
        (b'{"total_minor": NaN}', 400, "malformed-request"),
        (b'{"total_minor": Infinity}', 400, "malformed-request"),
        (b'{"total_minor": ' + b"9" * 5000 + b"}", 400, "malformed-request"),
        (b'{"channel": "a", "channel": "b"}', 400, "malformed-request"),
        (DEEP, 422, "validation"),
        (JUST_TOO_DEEP, 422, "validation"),
        (b"x" * (256 * 1024 + 1), 413, "payload-too-large"),
        (b'{"\\ud800": "\\udfff", "\\u0000": 1}', 422, "validation"),
        (b"[]", 422, "validation"),
        (b"null", 422, "validation"),
        (b'"' + b"[" * 100 + b'"', 422, "validation"),
        (json.dumps({f"k{n}": n for n in range(20_000)}).encode(), 413, "payload-too-large"),
        (json.dumps({f"k{n}": n for n in range(5_000)}).encode(), 422, "validation"),
    ],
)
async def test_a_broken_body_is_named(desk: FrontDesk, content: bytes, status: int, slug: str) -> None:
    """Every kind of broken body has its problem, and the answer stays small."""
    storefront = await desk.known("storefront")
    answer = await storefront.post("/v1/orders", content=content)
    assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}")
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 20_000


async def test_a_body_that_is_nested_too_deeply_says_so(desk: FrontDesk) -> None:
    """17 levels are one too many, on commands too; 16 are only not what the body should be."""
    storefront = await desk.known("storefront")
    for path in ("/v1/orders", "/v1/orders/ord_x/cancellations"):
        refused = await storefront.post(path, content=JUST_TOO_DEEP)
        assert [(error["pointer"], error["code"]) for error in refused.json()["errors"]] == [("", "too_deep")]
    allowed = await storefront.post("/v1/orders", content=b'{"a":' * 16 + b"1" + b"}" * 16)
    assert "too_deep" not in {error["code"] for error in allowed.json()["errors"]}


async def test_a_body_without_a_length_is_cut_off(desk: FrontDesk) -> None:
    """A stream that does not say how long it is ends at the limit."""
    storefront = await desk.known("storefront")
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        for _ in range(100):
            sent += 64 * 1024
            yield b" " * 64 * 1024

    answer = await storefront.post("/v1/orders", content=endless())
    assert answer.status_code == 413
    assert answer.json()["limit_bytes"] == 256 * 1024


async def test_a_command_is_at_most_64_kib(desk: FrontDesk) -> None:
    """Commands have a smaller limit than orders."""
    storefront = await desk.known("storefront")
    answer = await storefront.post("/v1/orders/ord_x/cancellations", content=b" " * (64 * 1024 + 1))
    assert (answer.status_code, answer.json()["limit_bytes"]) == (413, 64 * 1024)


@pytest.mark.parametrize(
    "headers", [{"content-type": "text/xml"}, {"content-type": "application/json", "content-encoding": "gzip"}]
)
async def test_only_plain_json_is_read(desk: FrontDesk, headers: dict[str, str]) -> None:
    """415 for other media types and for compressed bodies."""
    storefront = await desk.known("storefront")
    answer = await storefront.post("/v1/orders", headers=headers, content=b"{}")
    assert (answer.status_code, answer.json()["type"]) == (415, "/problems/unsupported-media-type")


async def test_too_many_headers_are_431(desk: FrontDesk) -> None:
    """More than 16 KiB of headers."""
    storefront = await desk.known("storefront")
    answer = await storefront.get("/v1/orders", {"x-long": "y" * 17_000})
    assert (answer.status_code, answer.json()["type"]) == (431, "/problems/headers-too-large")


async def test_unknown_paths_and_methods_are_problems_too(desk: FrontDesk) -> None:
    """404 and 405 have the same shape as every other problem, with a request id."""
    storefront = await desk.known("storefront")
    lost = await storefront.get("/v1/nothing")
    wrong = await storefront.call("DELETE", "/v1/orders")
    assert (lost.status_code, lost.json()["type"]) == (404, "/problems/not-found")
    assert (wrong.status_code, wrong.json()["type"]) == (405, "/problems/method-not-allowed")
    for answer in (lost, wrong):
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_hostile_names_of_orders_find_nothing(desk: FrontDesk) -> None:
    """What looks like SQL or a path is just a name that does not exist."""
    ops = await desk.known("ops")
    for name in (
        "' OR 1=1 --",
        "number:'; DROP TABLE orders; --",
        "%00",
        "..%2f..%2fetc",
        "external:%:%",
        "ord_\u202e",
    ):
        answer = await ops.get(f"/v1/orders/{name}")
        assert answer.status_code in (400, 404, 422), (name, answer.text)
    assert (await ops.get("/v1/orders?external_ref=%00")).status_code == 400
    assert (await ops.get("/v1/orders?limit=1")).status_code == 200


def test_the_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    """100 at once, then 50 in each second; callers do not take from each other."""
    limiter = RateLimiter(50, 100)
    assert [limiter.wait_s("a", 0.0) for _ in range(101)] == [0] * 100 + [1]
    assert [limiter.wait_s("a", 0.1) for _ in range(6)] == [0] * 5 + [1]
    assert limiter.wait_s("b", 0.1) == 0
    assert RateLimiter(0, 1).wait_s("a", 0.0) == 0


@pytest.mark.parametrize(
    ("text", "card"),
    [
        ("4111 1111 1111 1111", True),
        ("my card 5500-0055-5555-5559 please", True),
        ("378282246310005", True),
        ("4111 1111 1111 1112", False),
        ("order 2026112400000", False),
        ("article 5901234123457", False),
        ("reference 1234567890123452", False),
        ("24 digits 411111111111111111111111", False),
        ("12 Main Street", False),
    ],
)
def test_card_numbers_are_recognized_by_their_check_digit(text: str, card: bool) -> None:
    """A card scheme's first digits and length, and the check digit; article numbers are not cards."""
    assert looks_like_card_number(text) is card

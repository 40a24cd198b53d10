"""The client repeats what may be repeated, with the same key, and gives up in time. Its peer is a hostile server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from cli.client import AccordClient, ApiProblem, Unreachable

ORDER = {"id": "ord_1", "order_number": "1", "status": "confirmed", "new_field": 7}
PROGRESS = {"type": "/problems/idempotency-in-progress", "status": 409}
CLOSED = {"type": "/problems/action-not-available", "status": 409, "title": "No", "detail": "gone", "reason": "closed"}

Reply = tuple[int, Any] | None


@dataclass
class Hostile:
    """A real server that answers from a script; None breaks the connection after reading the request."""

    script: list[Reply]
    url: str = ""
    keys: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, request by request."""
        while line := await reader.readline():
            headers = {}
            while (header := (await reader.readline()).decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            await reader.readexactly(int(headers.get("content-length", 0)))
            self.keys.append(headers.get("idempotency-key", ""))
            self.paths.append(line.decode().split()[1])
            reply = self.script.pop(0)
            if reply is None:
                break
            writer.write(_http(*reply))
            await writer.drain()
        writer.close()


@asynccontextmanager
async def hostile(*script: Reply) -> AsyncIterator[Hostile]:
    """Run a hostile server on a free port."""
    peer = Hostile(list(script))
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield peer
    finally:
        server.close()


async def test_a_create_is_repeated_with_the_same_key_until_it_is_answered() -> None:
    """Broken connection, 503, 429, still being answered: one order, under one key."""
    script = (None, (503, {}), (429, {}), (409, PROGRESS), (201, ORDER))
    async with hostile(*script) as peer, AccordClient(peer.url, "key") as client:
        order = await client.create_order({})
        assert (order.id, client.repeats) == ("ord_1", 4)
    assert len(peer.keys) == 5
    assert len(set(peer.keys)) == 1
    assert len(peer.keys[0]) == 32


async def test_two_creates_have_two_keys() -> None:
    """Unless the caller names the key."""
    async with hostile((201, ORDER), (201, ORDER), (201, ORDER)) as peer, AccordClient(peer.url, "key") as client:
        await client.create_order({})
        await client.create_order({})
        await client.create_order({}, "mine")
    assert len(set(peer.keys)) == 3
    assert peer.keys[2] == "mine"


async def test_a_refusal_is_final() -> None:
    """A 409 of the order's rules is raised at once, with its reason."""
    async with hostile((409, CLOSED)) as peer, AccordClient(peer.url, "key") as client:
        with pytest.raises(ApiProblem, match="gone") as refused:
            await client.cancel("ord_1", "other")
        assert (refused.value.status, refused.value.slug, refused.value.reason) == (
            409,
            "action-not-available",
            "closed",
        )
        assert client.repeats == 0


async def test_patience_ends() -> None:
    """A server that is always busy, or that is not there, is given up in time."""
    async with hostile(*[(503, {})] * 50) as peer, AccordClient(peer.url, "key", patience_s=1.0) as client:
        began = time.monotonic()
        with pytest.raises(Unreachable, match="status 503"):
            await client.get_order("ord_1")
        assert time.monotonic() - began < 1.5
    async with AccordClient("http://127.0.0.1:9", "key", patience_s=0.5) as client:
        with pytest.raises(Unreachable, match="ConnectError"):
            await client.version()


async def test_what_is_not_json_is_a_problem() -> None:
    """A page of some proxy between us and the API is no answer, and no crash."""
    async with hostile((500, "<html>"), (404, [])) as peer, AccordClient(peer.url, "key") as client:
        for status in (500, 404):
            with pytest.raises(ApiProblem) as refused:
                await client.get_order("ord_1")
            assert refused.value.status == status


async def test_lists_follow_the_cursor_up_to_the_limit() -> None:
    """Pages are read until there are enough, with the same filters."""

    def page(*ids: str, more: bool = True) -> Reply:
        rows = [{**ORDER, "id": one} for one in ids]
        return 200, {"data": rows, "next_cursor": "next" if more else None, "has_more": more}

    script = (page("a", "b"), page("c", more=False), page("a", "b"))
    async with hostile(*script) as peer, AccordClient(peer.url, "key") as client:
        assert [order.id for order in await client.list_orders(10, status=["open"])] == ["a", "b", "c"]
        assert [order.id for order in await client.list_orders(2)] == ["a", "b"]
    assert peer.paths == [
        "/v1/orders?status=open&limit=10",
        "/v1/orders?status=open&cursor=next&limit=8",
        "/v1/orders?limit=2",
    ]


async def test_fields_that_we_do_not_know_are_kept() -> None:
    """Answers may gain fields; the document shows them."""
    async with hostile((200, ORDER)) as peer, AccordClient(peer.url, "key") as client:
        assert (await client.get_order("ord_1")).document["new_field"] == 7


def _http(status: int, content: Any) -> bytes:
    body = (content if isinstance(content, str) else json.dumps(content)).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body

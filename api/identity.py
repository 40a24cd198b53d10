"""Who is asking: from the Authorization header to a principal, and nothing else gives one. Owner: security."""

import time
from collections import OrderedDict
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from api.credentials import digest, key_id_of, matches
from api.problems import Problem
from api.tokens import TokenRefused, Tokens
from domain.orders import ActorKind
from domain.permissions import Principal, Role
from store.keys import KeyRecord, find_key

_MAX_CACHED = 1000
# The name of an API key is chosen by people; the id is what records carry.
_PROGRAM = "key"


class _Known(NamedTuple):
    principal: Principal
    until: float


class Identity:
    """Authenticates callers. A key that was found good is trusted for at most `cache_s`."""

    def __init__(self, engine: AsyncEngine, pepper: bytes, tokens: Tokens | None, cache_s: float) -> None:
        self._engine = engine
        self._pepper = pepper
        self._tokens = tokens
        self._cache_s = cache_s
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    def trust(self, tokens: Tokens | None) -> None:
        """Accept access tokens of this issuer from now on; None: of no issuer."""
        self._tokens = tokens

    def remembered(self, authorization: str | None) -> Principal | None:
        """The caller, when the key was found good a moment ago."""
        credential = (authorization or "").partition(" ")[2]
        if not key_id_of(credential):
            return None
        known = self._known.get(digest(credential, self._pepper))
        return known.principal if known and known.until > time.monotonic() else None

    async def principal_of(self, authorization: str | None) -> Principal:
        """Who sent the request.

        Raises:
            Problem: `unauthenticated`. The answer is the same whatever was wrong.
        """
        scheme, _, credential = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not credential:
            raise unauthenticated()
        if key_id_of(credential):
            return await self._by_key(credential)
        if self._tokens is None:
            raise unauthenticated()
        try:
            return await self._tokens.principal_of(credential)
        except TokenRefused:
            raise unauthenticated() from None

    async def _by_key(self, credential: str) -> Principal:
        fingerprint = digest(credential, self._pepper)
        self._known.pop(fingerprint, None)
        async with self._engine.connect() as connection:
            record = await find_key(connection, key_id_of(credential) or "")
        if record is None or not matches(record.digest, credential, self._pepper) or not record.valid:
            raise unauthenticated()
        principal = _program(record)
        lasts = min(self._cache_s, self._cache_s if record.remaining_s is None else record.remaining_s)
        self._known[fingerprint] = _Known(principal, time.monotonic() + lasts)
        if len(self._known) > _MAX_CACHED:
            self._known.popitem(last=False)
        return principal


def _program(record: KeyRecord) -> Principal:
    return Principal(
        id=f"{_PROGRAM}:{record.key_id}",
        kind=ActorKind.PROGRAM,
        roles=tuple(Role(role) for role in record.roles if role in tuple(Role)),
        channels=record.channels,
        nodes=record.nodes,
    )


def unauthenticated() -> Problem:
    """The answer to missing, wrong, revoked and expired credentials alike."""
    return Problem(
        "unauthenticated",
        "Send an API key or an access token as `Authorization: Bearer ...`.",
        headers={"WWW-Authenticate": 'Bearer realm="accord"'},
    )

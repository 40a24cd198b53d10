"""Access tokens of an identity provider: verified by its published keys, strictly. Owner: security.

Keys come from the configured address only; what a token's header says about where to find keys is ignored.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import jwt

from domain.orders import ActorKind
from domain.permissions import Principal, Role

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
MAX_TOKEN_BYTES = 8 * 1024
LEEWAY_S = 30
FETCH_AT_MOST_EVERY_S = 30
KEEP_LAST_GOOD_S = 3600
MAX_KEY_SET_BYTES = 256 * 1024
_TYPES = ("jwt", "at+jwt", "application/at+jwt")

FetchKeys = Callable[[], Awaitable[dict[str, Any]]]


class TokenRefused(Exception):
    """The token does not prove who is asking. The reason is for the log, never for the answer."""


def fetch_from(url: str) -> FetchKeys:
    """Reads a key set over HTTP, without redirects, within 5 s and 256 KiB."""

    async def fetch() -> dict[str, Any]:
        async with httpx2.AsyncClient(timeout=5, follow_redirects=False, trust_env=False) as client:
            answer = await client.get(url)
            answer.raise_for_status()
            if len(answer.content) > MAX_KEY_SET_BYTES:
                raise ValueError("key set too large")
            found: dict[str, Any] = answer.json()
            return found

    return fetch


class KeySet:
    """The issuer's public keys, fetched when an unknown key id appears, at most once in 30 s."""

    def __init__(self, fetch: FetchKeys, clock: Callable[[], float] = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._good_at = -float("inf")
        self._tried_at = -float("inf")
        self._lock = asyncio.Lock()

    async def find(self, key_id: str) -> jwt.PyJWK:
        """The key with this id.

        Raises:
            TokenRefused: unknown to the issuer, or the issuer has been silent for an hour.
        """
        if key_id not in self._keys or self._clock() - self._good_at > KEEP_LAST_GOOD_S:
            await self._refresh(key_id)
        key = self._keys.get(key_id)
        if key is None or self._clock() - self._good_at > KEEP_LAST_GOOD_S:
            raise TokenRefused("unknown key id")
        return key

    async def _refresh(self, key_id: str) -> None:
        async with self._lock:
            fresh = self._clock() - self._good_at <= KEEP_LAST_GOOD_S
            if (fresh and key_id in self._keys) or self._clock() - self._tried_at < FETCH_AT_MOST_EVERY_S:
                return
            self._tried_at = self._clock()
            try:
                found = jwt.PyJWKSet.from_dict(await self._fetch())
            except (httpx2.HTTPError, ValueError, jwt.PyJWTError, AttributeError, TypeError):
                return  # the last good set stays in use until it is too old
            self._keys = {key.key_id: key for key in found.keys if key.key_id}
            self._good_at = self._clock()


class Tokens:
    """Turns an access token into a principal."""

    def __init__(self, issuer: str, audience: str, keys: KeySet) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys

    async def principal_of(self, token: str) -> Principal:
        """Who the token speaks for.

        Raises:
            TokenRefused: it does not prove anything.
        """
        header = _header(token)
        key = await self._keys.find(header["kid"])
        if key.algorithm_name != header["alg"]:
            raise TokenRefused("algorithm does not fit the key")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["iss", "aud", "exp", "sub"]},
            )
        except jwt.PyJWTError as problem:
            raise TokenRefused(type(problem).__name__) from problem
        return _principal(claims)


def _header(token: str) -> dict[str, str]:
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenRefused("too long")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as problem:
        raise TokenRefused(type(problem).__name__) from problem
    if header.get("alg") not in ALGORITHMS or not isinstance(header.get("kid"), str):
        raise TokenRefused("algorithm or key id")
    if "crit" in header:
        raise TokenRefused("critical extension")
    if str(header.get("typ", "JWT")).lower() not in _TYPES:
        raise TokenRefused("type")
    return {"alg": header["alg"], "kid": header["kid"]}


def _principal(claims: dict[str, Any]) -> Principal:
    subject = str(claims["sub"])
    roles = tuple(Role(name) for name in _texts(claims, "roles") if name in tuple(Role))
    customer_ref = claims.get("customer_ref", subject)
    return Principal(
        id=_opaque(subject),
        kind=ActorKind.PERSON,
        roles=roles,
        channels=_texts(claims, "channels"),
        nodes=_texts(claims, "nodes"),
        customer_ref=customer_ref if isinstance(customer_ref, str) else None,
    )


def _texts(claims: dict[str, Any], name: str) -> tuple[str, ...]:
    found = claims.get(name, ())
    texts = found.split() if isinstance(found, str) else found
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise TokenRefused(f"claim {name}")
    return tuple(texts)


def _opaque(subject: str) -> str:
    """An id for records: an issuer that uses e-mail addresses as subjects must not put them there."""
    if "@" in subject or len(subject) > 70:
        return f"usr_{hashlib.sha256(subject.encode()).hexdigest()[:24]}"
    return subject

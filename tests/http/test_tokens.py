"""Access tokens: what proves who is asking, what does not, and the shopper's view of the table."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from api.tokens import FETCH_AT_MOST_EVERY_S, KEEP_LAST_GOOD_S, KeySet, TokenRefused, Tokens
from domain.permissions import OPERATIONS, Role
from tests.http.test_who_may import GUARDED, LISTS, WHEN_ALLOWED, Objects, request_of
from tests.support.front_desk import Caller, FrontDesk

ISSUER, AUDIENCE = "https://id.example.com", "accord"


class Issuer:
    """An identity provider with keys; counts how often its keys are fetched."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.fetched = 0
        self.down = False
        self.now = 1000.0
        self.add("k1")

    def add(self, key_id: str) -> None:
        """A new key goes live."""
        self.keys[key_id] = ec.generate_private_key(ec.SECP256R1())

    async def fetch(self) -> dict[str, Any]:
        """The published key set."""
        self.fetched += 1
        if self.down:
            raise httpx2.ConnectError("down")
        published = []
        for key_id, key in self.keys.items():
            public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
            published.append({**public, "kid": key_id, "alg": "ES256", "use": "sig"})
        return {"keys": published}

    def token(self, key_id: str = "k1", headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """A signed token; a claim changed to None is left out."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "cus_me", "exp": now + 300, "roles": ["shopper"], **changes}
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, self.keys[key_id], algorithm="ES256", headers={"kid": key_id, **(headers or {})})

    def tokens(self) -> Tokens:
        """The product's verifier for this issuer."""
        return Tokens(ISSUER, AUDIENCE, KeySet(self.fetch, lambda: self.now))


@pytest.fixture
def issuer() -> Issuer:
    """A fresh issuer."""
    return Issuer()


async def test_a_good_token_names_the_caller(issuer: Issuer) -> None:
    """Roles, channels, nodes and the customer reference come from the claims; unknown roles are ignored."""
    token = issuer.token(
        sub="maria@example.com", roles=["service", "emperor"], channels=["web-us"], customer_ref="cus_9"
    )
    principal = await issuer.tokens().principal_of(token)
    assert principal.roles == (Role.SERVICE,)
    assert principal.channels == ("web-us",)
    assert principal.customer_ref == "cus_9"
    assert "maria" not in principal.id


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example.com"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"nbf": 4_000_000_000},
        {"roles": [1, 2]},
        {"channels": {"web-us": True}},
    ],
)
async def test_a_wrong_claim_proves_nothing(issuer: Issuer, changes: dict[str, Any]) -> None:
    """Issuer, audience, expiry, subject, not-before, and claims of the wrong type."""
    with pytest.raises(TokenRefused):
        await issuer.tokens().principal_of(issuer.token(**changes))


@pytest.mark.parametrize("headers", [{"crit": ["exp"]}, {"typ": "secret+jwt"}, {"kid": "k9"}, {"kid": ""}])
async def test_a_wrong_header_proves_nothing(issuer: Issuer, headers: dict[str, Any]) -> None:
    """Critical extensions, other types, unknown keys."""
    with pytest.raises(TokenRefused):
        await issuer.tokens().principal_of(issuer.token(headers=headers))


async def test_forged_signatures_prove_nothing(issuer: Issuer) -> None:
    """`none`, the public key as a shared secret, another key, a changed body, an endless token."""
    public = issuer.keys["k1"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "x", "exp": int(time.time()) + 300, "roles": ["ops"]}
    good = issuer.token()
    head, body, signature = good.split(".")
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = [
        jwt.encode(claims, None, algorithm="none", headers={"kid": "k1"}),
        _hmac_with_public_key(claims, pem),
        jwt.encode(claims, stranger, algorithm="RS256", headers={"kid": "k1"}),
        jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": "k1"}),
        f"{head}.{body[:-2]}AA.{signature}",
        f"{head}.{body}.",
        good + "A" * 9000,
        "a.b.c",
        "..",
    ]
    for token in forged:
        with pytest.raises(TokenRefused):
            await issuer.tokens().principal_of(token)


def _hmac_with_public_key(claims: dict[str, Any], pem: bytes) -> str:
    """The classic confusion: the public key used as the secret of an HMAC."""
    import base64
    import hashlib
    import hmac

    def part(content: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'k1'})}.{part(claims)}"
    mac = base64.urlsafe_b64encode(hmac.new(pem, signed.encode(), hashlib.sha256).digest()).decode()
    return f"{signed}.{mac.rstrip('=')}"


async def test_made_up_key_ids_do_not_cause_fetches(issuer: Issuer) -> None:
    """At most one fetch in 30 s; a key that is really new is found after that."""
    tokens = issuer.tokens()
    await tokens.principal_of(issuer.token())
    for number in range(50):
        with pytest.raises(TokenRefused):
            await tokens.principal_of(issuer.token(headers={"kid": f"made-up-{number}"}))
    assert issuer.fetched == 1
    issuer.add("k2")
    issuer.now += FETCH_AT_MOST_EVERY_S + 1
    assert (await tokens.principal_of(issuer.token("k2"))).roles == (Role.SHOPPER,)
    assert (await tokens.principal_of(issuer.token("k1"))).roles == (Role.SHOPPER,)
    assert issuer.fetched == 2


async def test_the_last_good_keys_live_an_hour_without_the_issuer(issuer: Issuer) -> None:
    """An outage of the issuer does not lock anybody out at once, and does not last for ever."""
    tokens = issuer.tokens()
    await tokens.principal_of(issuer.token())
    issuer.down = True
    issuer.now += KEEP_LAST_GOOD_S - 1
    assert (await tokens.principal_of(issuer.token())).id == "cus_me"
    issuer.now += 2
    with pytest.raises(TokenRefused):
        await tokens.principal_of(issuer.token())


# --- shoppers at the door -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def with_tokens(desk: FrontDesk) -> AsyncIterator[tuple[FrontDesk, Issuer]]:
    """The same API, told to trust an issuer."""
    issuer = Issuer()
    identity = desk.app.state.front.identity
    identity.trust(issuer.tokens())
    yield desk, issuer
    identity.trust(None)


@pytest.fixture(scope="module")
async def objects(desk: FrontDesk) -> tuple[Objects, str]:
    """An order with its work, and the reference of its customer."""
    order = await desk.place(("LAMP", 1))
    part = await desk.packed(order["id"])
    rows = await desk.shop.sql("SELECT decision_id FROM decisions WHERE order_id = :o", o=order["id"])
    found = Objects(order["id"], part["id"], part["shipment_id"], rows[0]["decision_id"])
    return found, order["customer"]["ref"]


@pytest.mark.parametrize("operation_id", GUARDED)
async def test_a_shopper_meets_own_orders_only(
    with_tokens: tuple[FrontDesk, Issuer], objects: tuple[Objects, str], operation_id: str
) -> None:
    """Own orders as the table says; those of another customer do not exist."""
    desk, issuer = with_tokens
    found, customer_ref = objects
    method, path, body = request_of(operation_id, found, desk)
    owner = Caller(desk.http, issuer.token(sub=customer_ref))
    other = Caller(desk.http, issuer.token(sub="cus_other"))
    mine, theirs = await owner.call(method, path, body), await other.call(method, path, body)
    if Role.SHOPPER not in OPERATIONS[operation_id].allow:
        assert (mine.status_code, theirs.status_code) == (403, 403)
        return
    assert mine.status_code == WHEN_ALLOWED.get(operation_id, 200)
    if operation_id in LISTS:
        assert [order["id"] for order in mine.json()["data"]] == [found.order_id]
        assert theirs.json()["data"] == []
    elif operation_id != "addTender":  # asks for its Idempotency-Key first
        assert theirs.status_code == 404


async def test_a_shopper_sees_own_data_in_full(
    with_tokens: tuple[FrontDesk, Issuer], objects: tuple[Objects, str]
) -> None:
    """The customer's own name and address are not masked."""
    desk, issuer = with_tokens
    found, customer_ref = objects
    owner = Caller(desk.http, issuer.token(sub="someone", customer_ref=customer_ref))
    order = (await owner.get(f"/v1/orders/{found.order_id}")).json()
    assert order["customer"]["name"] == "Jamie Example"
    assert order["ship_to"]["lines"] == ["1 Sample Street"]


async def test_an_expired_token_is_401(with_tokens: tuple[FrontDesk, Issuer]) -> None:
    """The same answer as without any."""
    desk, issuer = with_tokens
    answer = await Caller(desk.http, issuer.token(exp=1)).get("/v1/orders")
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/unauthenticated")

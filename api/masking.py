"""Personal data as each role may see it: in full, masked, or not at all. Owner: security."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from domain.permissions import Personal

_EMAIL = re.compile(r"[\w.+%'-]{1,64}@[\w.-]{1,250}\.\w{2,24}")
# What could be a telephone number; a day written as 2026-11-24 is none.
_NUMBER = re.compile(r"(?<!\w)(?<!\d-)(?!\d{4}-\d\d-\d\d)\+?\(?\d(?:[ ()./-]{0,2}\d){6,}(?!\w)")
_SHORTEST = 2


def shown_customer(ref: str, content: Mapping[str, Any] | None, view: Personal) -> dict[str, Any]:
    """The customer: the opaque reference always, name and e-mail as the caller may see them."""
    customer = (content or {}).get("customer")
    if view is Personal.NONE or customer is None:
        return {"ref": ref}
    name, email = customer["name"], customer.get("email")
    if view is Personal.MASKED:
        name, email = mask_words(name), mask_email(email)
    return {"ref": ref, "name": name, "email": email}


def shown_address(country: str, region: str, content: Mapping[str, Any] | None, view: Personal) -> dict[str, Any]:
    """The destination: country and region always, more of it as the caller may see it."""
    coarse = {"region": region, "country": country}
    address = (content or {}).get("ship_to")
    if view is Personal.NONE or address is None:
        return coarse
    if view is Personal.MASKED:
        return {"postal_code": mask_tail(address["postal_code"]), **coarse}
    return {key: address[key] for key in ("name", "lines", "city", "postal_code")} | coarse


def mask_words(text: str) -> str:
    """`Jamie Example` becomes `J*** E***`: neither letters nor lengths are left."""
    return " ".join(f"{word[0]}***" for word in text.split())


def mask_email(email: str | None) -> str | None:
    """`jamie@example.com` becomes `j***@example.com`."""
    if email is None:
        return None
    name, _, host = email.partition("@")
    return f"{name[:1]}***@{host}"


def mask_tail(code: str) -> str:
    """The first three characters of a postal code: `021**`."""
    return code[:3] + "*" * max(0, len(code) - 3) if len(code) > 3 else "***"


def mask_text(text: str, content: Mapping[str, Any] | None) -> str:
    """Free text without what is known of the customer, without e-mail addresses and long numbers."""
    masked = _EMAIL.sub(lambda found: mask_email(found[0]) or "", text)
    for known in sorted(_known(content or {}), key=len, reverse=True):
        masked = re.sub(rf"(?<!\w){re.escape(known)}(?!\w)", f"{known[0]}***", masked, flags=re.IGNORECASE)
    return _NUMBER.sub(lambda found: f"***{found[0][-2:]}", masked)


def _known(content: Mapping[str, Any]) -> Iterator[str]:
    """Names, address and references of the customer, in the pieces in which people write them."""
    customer, address = content.get("customer") or {}, content.get("ship_to") or {}
    names = f"{customer.get('name') or ''} {address.get('name') or ''}"
    whole = [
        customer.get("external_ref"),
        *(address.get("lines") or ()),
        address.get("city"),
        address.get("postal_code"),
    ]
    for known in (*names.split(), *whole):
        if known and len(known) >= _SHORTEST:
            yield str(known)

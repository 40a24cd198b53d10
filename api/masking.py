"""Personal data as each role may see it: in full, masked, or not at all. Owner: security."""

from collections.abc import Mapping
from typing import Any

from domain.permissions import Personal


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

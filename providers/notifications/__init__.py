"""Notification providers: one message to one customer. Service owns this room.

The key is the id of the notice. After a lost reply we would rather send a second message than none.
"""

from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from providers.outcomes import Absent, Found, Message, Ok, Outcome


class NoticeRequest(Message):
    """One notice, ready to be read. Address, subject, text and HTML are personal; `data` names nobody."""

    key: str = Field(min_length=1, max_length=200)
    order_id: str = ""
    channel: Literal["email", "sms", "push"]
    address: str = Field(min_length=1, repr=False)
    kind: str = Field(min_length=1)
    subject: str = Field(min_length=1, repr=False)
    text: str = Field(min_length=1, repr=False)
    html: str | None = Field(default=None, repr=False)
    data: tuple[tuple[str, str], ...] = ()


NoticeLookUp: TypeAlias = Found[Ok] | Absent


class NotificationProvider(Protocol):
    """What Accord asks of a notification provider."""

    async def send(self, request: NoticeRequest) -> Outcome:
        """Send one notice. Raises `NotSent` when the request never reached the provider."""
        ...

    async def look_up(self, key: str) -> NoticeLookUp:
        """How the request with this key was answered. Raises `ProviderUnavailable`.

        A provider that keeps no record (a mail server) answers `Absent` to everything.
        """
        ...

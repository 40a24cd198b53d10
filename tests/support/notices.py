"""A notification provider that keeps what it was told to send, and the customers of stories about notices."""

from typing import Any

from providers.notifications import NoticeLookUp, NoticeRequest, NotificationProvider
from providers.outcomes import Outcome

EMAIL = "jamie@example.com"


def customer(name: str = "Jamie Example", email: str | None = EMAIL) -> dict[str, Any]:
    """What the vault knows of a customer."""
    return {"customer": {"name": name, "email": email}, "ship_to": {}}


class RecordingNotifications:
    """Passes everything on, and keeps it."""

    def __init__(self, inner: NotificationProvider) -> None:
        self._inner = inner
        self.requests: list[NoticeRequest] = []

    async def send(self, request: NoticeRequest) -> Outcome:
        """Keep the request."""
        self.requests.append(request)
        return await self._inner.send(request)

    async def look_up(self, key: str) -> NoticeLookUp:
        """Pass it on."""
        return await self._inner.look_up(key)

    def of(self, order_id: str) -> list[NoticeRequest]:
        """What was to be sent for an order, in the order in which it was tried."""
        return [request for request in self.requests if request.order_id == order_id]

"""The simulated notification provider: writes down that a notice went out, never to whom."""

from pydantic import TypeAdapter

from providers.faults import ProviderKind, SimulationFaults
from providers.notifications import NoticeLookUp, NoticeRequest
from providers.outcomes import Absent, Found, Ok, Outcome, Refused
from providers.simulated_peer import DEFAULT_TIME_LIMIT_S, Call, SimulatedPeer, Visit, fingerprint
from providers.simulation import Simulation

NoticeAnswer = Ok | Refused
_ANSWERS: TypeAdapter[NoticeAnswer] = TypeAdapter(NoticeAnswer)


class SimulatedNotifications:
    """A `NotificationProvider` on the simulation's file."""

    def __init__(
        self,
        simulation: Simulation,
        faults: SimulationFaults | None = None,
        time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    ) -> None:
        self._peer = SimulatedPeer(simulation, ProviderKind.NOTIFICATIONS, faults, time_limit_s)

    async def send(self, request: NoticeRequest) -> Outcome:
        """See `NotificationProvider.send`."""
        call = Call("send", request.key, request.order_id, fingerprint("send", request))
        return await self._peer.send(call, _ANSWERS, lambda visit: _send(visit, request))

    async def look_up(self, key: str) -> NoticeLookUp:
        """See `NotificationProvider.look_up`."""
        answer = await self._peer.look_up(key, ("send",), _ANSWERS)
        return Absent() if answer is None else Found[Ok](outcome=answer)


def _send(visit: Visit, request: NoticeRequest) -> NoticeAnswer:
    if visit.declined:
        return Refused(code="address_rejected", detail="the address takes no messages")
    ref = visit.reference("notice")
    visit.record("notice", ref, request.kind, detail=(("channel", request.channel), *request.data))
    return Ok(provider_ref=ref)

"""The simulated carrier: sells labels for parcels that travel as far as a demo drives them, and may bring them back."""

import hashlib
from typing import Final

from pydantic import TypeAdapter

from providers.carriers import (
    BookRequest,
    FoundRecall,
    LabelLookUp,
    LabelOk,
    LabelOutcome,
    RecallAgreed,
    RecallAnswer,
    RecallFollows,
    RecallLookUp,
    RecallOutcome,
    RecallRequest,
    RecallTooLate,
    RecallUnsupported,
    VoidLabelRequest,
)
from providers.faults import ProviderKind, SimulationFaults
from providers.outcomes import Absent, Found, Refused
from providers.simulated_peer import DEFAULT_TIME_LIMIT_S, Call, SimulatedPeer, Visit, fingerprint
from providers.simulation import Simulation

CARRIER: Final = "simulated"

LabelAnswer = LabelOk | Refused
_ANSWERS: TypeAdapter[LabelAnswer] = TypeAdapter(LabelAnswer)
_RECALLS: TypeAdapter[RecallAnswer] = TypeAdapter(RecallAnswer)


class RecallKeyReusedError(Exception):
    """A recall's key was sent again for another parcel: a fault in the caller, not an outcome."""


class SimulatedCarriers:
    """A `CarrierProvider` on the simulation's file."""

    def __init__(
        self,
        simulation: Simulation,
        faults: SimulationFaults | None = None,
        time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    ) -> None:
        self._peer = SimulatedPeer(simulation, ProviderKind.CARRIERS, faults, time_limit_s)

    async def book(self, request: BookRequest) -> LabelOutcome:
        """See `CarrierProvider.book`."""
        call = Call("book", request.key, request.order_id, fingerprint("book", request))
        return await self._peer.send(call, _ANSWERS, lambda visit: _book(visit, request))

    async def void_label(self, request: VoidLabelRequest) -> LabelOutcome:
        """See `CarrierProvider.void_label`."""
        call = Call(
            "void_label",
            request.key,
            "",
            fingerprint("void_label", request),
            subject=request.tracking_number,
        )
        return await self._peer.send(call, _ANSWERS, lambda visit: _void(visit, request))

    async def recall(self, request: RecallRequest) -> RecallOutcome:
        """See `CarrierProvider.recall`. Raises `RecallKeyReusedError` for a key of another parcel."""
        number = request.tracking_number
        call = Call("recall", request.key, "", fingerprint("recall", request), subject=number)
        answer = await self._peer.send(call, _RECALLS, lambda visit: _recall(visit, request))
        if isinstance(answer, Refused):
            raise RecallKeyReusedError(answer.detail)
        return answer

    async def look_up_recall(self, key: str) -> RecallLookUp:
        """See `CarrierProvider.look_up_recall`."""
        answer = await self._peer.look_up(key, ("recall",), _RECALLS)
        return Absent() if answer is None else FoundRecall(outcome=answer)

    async def look_up(self, key: str) -> LabelLookUp:
        """See `CarrierProvider.look_up`."""
        answer = await self._peer.look_up(key, ("book", "void_label"), _ANSWERS)
        return Absent() if answer is None else Found[LabelOk](outcome=answer)


def _book(visit: Visit, request: BookRequest) -> LabelAnswer:
    if visit.declined:
        return Refused(code="no_service", detail="no service on this lane")
    ref = visit.reference("label")
    number = f"SIM{int(hashlib.sha256(ref.encode()).hexdigest(), 16) % 10**15:015d}"
    visit.record(
        "label",
        ref,
        number,
        detail=(
            ("carrier", CARRIER),
            ("fulfillment_id", request.fulfillment_id),
            ("node_id", request.node_id),
            ("zone_id", request.zone_id),
            ("service_level", request.service_level),
            ("units", str(request.units)),
        ),
    )
    return _label(ref, number)


def _void(visit: Visit, request: VoidLabelRequest) -> LabelAnswer:
    kinds = _done_to(visit, request.tracking_number)
    if "label" not in kinds:
        return Refused(code="unknown_label", detail="no label has this tracking number")
    if "label_void" in kinds:
        return Refused(code="already_voided", detail="this label was taken back before")
    ref = visit.reference("label_void")
    visit.record("label_void", ref, request.tracking_number, detail=(("carrier", CARRIER),))
    return _label(ref, request.tracking_number)


def _recall(visit: Visit, request: RecallRequest) -> RecallAnswer:
    """What the carrier says; the control `carriers.recall` chooses, for a parcel that travels under its label."""
    wish = visit.controls.get("carriers.recall", "agreed")
    if wish == "unsupported":
        return RecallUnsupported()
    kinds = _done_to(visit, request.tracking_number)
    if "recall" in kinds:
        return RecallAgreed()
    if wish == "too_late" or "label" not in kinds or "label_void" in kinds:
        return RecallTooLate()
    if wish == "answer_follows":
        return RecallFollows()
    visit.record("recall", visit.reference("recall"), request.tracking_number, detail=(("carrier", CARRIER),))
    return RecallAgreed()


def _done_to(visit: Visit, tracking_number: str) -> set[str]:
    """The kinds of effects that a parcel has seen."""
    rows = visit.db.execute(
        "SELECT kind FROM effects WHERE provider = ? AND subject = ?", (visit.provider, tracking_number)
    )
    return {row[0] for row in rows}


def _label(ref: str, tracking_number: str) -> LabelOk:
    return LabelOk(
        provider_ref=ref,
        carrier=CARRIER,
        tracking_number=tracking_number,
        label_url=f"https://carrier.example/labels/{tracking_number}.pdf",
    )

"""What can be asked about exception cases and notes, and what is answered. Owner: service."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, model_validator

from api.answers import Answer
from api.limits import PAGE_ROWS
from api.schemas import Body
from api.text_rules import Reference, TextRefused, clean_text, looks_like_card_number
from domain.case_work import CaseState, Choice
from domain.lifecycle import Team
from domain.orders import HoldReason

_REPEAT = "Repeat it for: any of these."
_Several = Annotated[tuple[str, ...], Field(max_length=20, description=_REPEAT)]

ASSIGNMENT = {"assignee": "maria"}
RESOLUTION = {"choice": "retry"}
NOTE = {"text": "Called the customer: the gate is closed before nine."}


class CaseQuery(BaseModel):
    """Filters of listExceptions. All that are given must hold."""

    owner: Annotated[tuple[Team, ...], Field(max_length=10, description=_REPEAT)] = ()
    state: Annotated[tuple[CaseState, ...], Field(max_length=10, description=_REPEAT)] = ()
    code: _Several = ()
    assignee: _Several = ()
    order: Annotated[
        tuple[Annotated[str, Field(max_length=140)], ...],
        Field(max_length=20, description="Of one of these orders: id, `number:10042`, or `external:web-us:W-88121`."),
    ] = ()
    limit: Annotated[int, Field(ge=1, le=PAGE_ROWS, description="Rows per page.")] = 50
    cursor: Annotated[str | None, Field(max_length=600, description="`next_cursor` of the page before.")] = None


class AssignException(Body):
    """Who works on the case from now on; without `assignee` the caller.

    With `state` the case is parked instead: it waits `until` then for somebody outside, for `reason`, a short code.
    """

    assignee: Reference | None = None
    state: Literal[CaseState.WAITING] | None = None
    until: AwareDatetime | None = None
    reason: HoldReason | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        parked = (self.until is not None, self.reason is not None)
        if self.state is None and any(parked):
            raise ValueError("`until` and `reason` belong to the state `waiting`")
        if self.state is not None and (self.assignee is not None or not all(parked)):
            raise ValueError("to be parked a case needs `until` and `reason`, and keeps its assignee")
        return self


class ResolveException(Body):
    """How the case is resolved; `choices` of the case says what is offered."""

    choice: Choice


class ParkedOut(Answer):
    """Somebody outside is waited for. At `until` the case is its assignee's again."""

    until: str
    reason: str
    by: dict[str, Any]


class ResolutionOut(Answer):
    """The resolution that was asked for last. `declined`: the order refused it, and `reason` is its code."""

    choice: str
    state: str
    by: dict[str, Any]
    command_id: str | None
    reason: str | None


class ExceptionCase(Answer):
    """A problem for a person of the owner team. `choices` is what the caller can choose now."""

    id: str
    order_id: str
    order_number: str
    channel: str
    order_status: str
    code: str
    owner: str
    state: str
    detail: str
    assignee: str | None
    due_at: str
    created_at: str
    updated_at: str
    escalated_at: str | None
    closed_at: str | None
    choices: list[str]
    parked: ParkedOut | None
    resolution: ResolutionOut | None
    note: str | None = None
    links: dict[str, str]


class ExceptionCaseList(Answer):
    """A page of the queue, the most urgent first."""

    data: list[ExceptionCase]
    next_cursor: str | None
    has_more: bool


def _note_text(text: str) -> str:
    """Lines of clean text; no card number, not even over the end of a line.

    Raises:
        TextRefused: something else is inside, or nothing at all.
    """
    lines = [clean_text(line.replace("\t", " ")) for line in text.replace("\r\n", "\n").split("\n")]
    if looks_like_card_number(" ".join(lines)):
        raise TextRefused("card_number", "this looks like a card number: send the provider's reference instead")
    if not any(line.strip() for line in lines):
        raise TextRefused("blank", "a note says something")
    return "\n".join(lines)


class AddNote(Body):
    """A note for colleagues. It is stored sealed and is in no event, log or history."""

    text: Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_note_text)]


class Note(Answer):
    """A note. `view` says how much of the text the caller gets: `full`, `masked` or `none`."""

    id: str
    order_id: str
    author: dict[str, Any]
    created_at: str
    view: str
    text: str | None


class NoteList(Answer):
    """A page of the notes on an order, oldest first."""

    data: list[Note]
    next_cursor: str | None
    has_more: bool

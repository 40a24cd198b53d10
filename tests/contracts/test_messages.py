"""What can be said to an order: each command as update and as signal, and known to whoever takes a lost one again."""

from temporalio import workflow

from workflows.order import Order
from workflows.order_desk import COMMANDS


def test_every_command_is_an_update_a_signal_and_can_be_taken_again() -> None:
    """A command that is missing in one of the three fails here."""
    told = workflow._Definition.must_from_class(Order)
    assert set(told.updates) == set(told.signals) == {*COMMANDS, "accept"}

"""`accord orders amend` as a person meets it: tried first, done, refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cli.amending import address_change, amendment_text, wanted_changes
from cli.bodies import WantedError
from cli.client import AmendmentView
from tests.support.front_desk import FrontDesk


def test_options_become_changes() -> None:
    """Each option is one operation of the API."""
    found = wanted_changes(["2=5"], ["MUG-BLUE=2@1200"], ["1=LAMP", "3=RUG@900"], "express", "2026-12-01")
    assert found == [
        {"op": "set_quantity", "line": 2, "quantity": 5},
        {"op": "add_line", "sku": "MUG-BLUE", "quantity": 2, "unit_price_minor": 1200},
        {"op": "substitute", "line": 1, "sku": "LAMP"},
        {"op": "substitute", "line": 3, "sku": "RUG", "unit_price_minor": 900},
        {"op": "set_service_level", "service_level": "express"},
        {"op": "set_requested_by", "requested_by": "2026-12-01"},
    ]


def test_an_address_comes_from_a_file(tmp_path: Path) -> None:
    """A personal thing is not typed into a command line, whose history would keep it."""
    file = tmp_path / "address.json"
    file.write_text('{"name": "Jamie Example", "city": "Boston"}')
    change = {"op": "set_ship_to", "ship_to": {"name": "Jamie Example", "city": "Boston"}}
    moved = address_change(file, (), None)
    assert moved == change
    assert wanted_changes([], [], [], None, None, moved) == [change]
    for text in ("no json", "[]"):
        file.write_text(text)
        with pytest.raises(WantedError):
            address_change(file, (), None)
    with pytest.raises(WantedError):
        address_change(tmp_path / "missing.json", (), None)


def test_a_new_address_may_come_with_its_tax(tmp_path: Path) -> None:
    """Per line and for shipping, in minor units of a named currency; a tax alone has no address."""
    file = tmp_path / "address.json"
    file.write_text('{"city": "Boston"}')
    moved = address_change(file, ["1=100", "shipping=20", "3=0"], "USD")
    assert moved is not None
    assert moved["tax"] == {
        "currency": "USD",
        "lines": [{"line": 1, "tax_minor": 100}, {"line": 3, "tax_minor": 0}],
        "shipping_tax_minor": 20,
    }
    wrong: list[tuple[Path | None, list[str], str | None]] = [
        (None, ["1=100"], "USD"),
        (file, ["1=100"], None),
        (file, ["1=1.00"], "USD"),
        (file, ["shipping=1", "shipping=2"], "USD"),
    ]
    for given in wrong:
        with pytest.raises(WantedError):
            address_change(*given)


def test_a_speed_may_come_with_its_price() -> None:
    """In minor units, for the whole order; what does not read so is a usage error."""
    (change,) = wanted_changes([], [], [], "express@1200", None)
    assert change == {"op": "set_service_level", "service_level": "express", "shipping_minor": 1200}
    for text in ("express@", "express@12.00", "@12"):
        with pytest.raises(WantedError):
            wanted_changes([], [], [], text, None)


@pytest.mark.parametrize("given", [([], [], []), (["two=5"], [], []), ([], ["MUG=2"], []), ([], [], ["1="])])
def test_what_does_not_read_is_a_usage_error(given: Sequence[Any]) -> None:
    """Named with the form that was expected, before anything is sent."""
    with pytest.raises(WantedError):
        wanted_changes(*given, None, None)


async def test_the_client_tries_and_amends(desk: FrontDesk) -> None:
    """What the command prints is what the API said."""
    # given
    await desk.shop.stocks("CHAIR", EAST=5)
    order = await desk.place(("CHAIR", 2))
    await desk.at_node(order["id"])
    agent = await desk.known("service")
    path = f"/v1/orders/{order['id']}/amendments"
    body = {"changes": wanted_changes(["1=3"], [], [], None, None), "reason": "customer_request"}
    # when
    done = AmendmentView.model_validate((await agent.post(path, body, {"prefer": "wait=15"})).json())
    # then
    text = amendment_text(done)
    assert f"line 1 ({desk.shop.sku('CHAIR')}): 2 -> 3" in text
    assert f"Change {done.id}: confirmed" in text


def test_the_deltas_of_shipping_and_tax_are_named_where_there_are_any() -> None:
    """A change of speed says what shipping costs more; others say nothing of it."""
    money = {"total_before_minor": 2500, "total_after_minor": 3200, "shipping_delta_minor": 700, "tax_delta_minor": 0}
    text = amendment_text(AmendmentView(id="amd_1", state="confirmed", money=money))
    assert "of it shipping +700" in text
    assert "tax" not in text

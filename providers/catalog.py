"""Which adapters exist, by name, and how the chosen ones are built. Composition roots call this, once.

Whether an adapter may be used where the program runs is decided by the settings, not here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from providers.carriers import CarrierProvider
from providers.carriers.simulated import SimulatedCarriers
from providers.faults import SimulationFaults
from providers.notifications import NotificationProvider
from providers.notifications.simulated import SimulatedNotifications
from providers.notifications.smtp import NoAddress, SmtpAccount, SmtpNotifications
from providers.payments import PaymentProvider
from providers.payments.simulated import SimulatedPayments
from providers.simulated_peer import DEFAULT_TIME_LIMIT_S
from providers.simulation import Simulation
from providers.warehouses import WarehouseProvider
from providers.warehouses.simulated import SimulatedWarehouses

AdapterT = TypeVar("AdapterT")


class UnknownAdapterError(ValueError):
    """No adapter of this kind has the name; the message lists those that exist."""


class AdapterNotSetUp(ValueError):
    """The adapter is chosen, and what it needs is not set; the message names the settings."""


@dataclass(frozen=True, kw_only=True)
class ProviderChoice:
    """Which adapter serves each kind, and what the simulated ones need."""

    payments: str = "simulated"
    carriers: str = "simulated"
    warehouses: str = "simulated"
    notifications: str = "simulated"
    simulated_state: Path
    """The simulation's file; opened only when a simulated adapter is chosen."""
    faults: SimulationFaults = field(default_factory=SimulationFaults)
    time_limit_s: float = DEFAULT_TIME_LIMIT_S
    """How long a call waits for its reply before it is `Unknown`."""
    smtp: SmtpAccount | None = None
    """Where the adapter `smtp` hands mail in."""


@dataclass(frozen=True)
class Providers:
    """One adapter of each kind. Leaving the `with` block closes what they share."""

    payments: PaymentProvider
    carriers: CarrierProvider
    warehouses: WarehouseProvider
    notifications: NotificationProvider
    simulation: Simulation | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish the calls under way and close the simulation's file, if it is open."""
        if self.simulation is not None:
            self.simulation.close()


class _Parts:
    """What adapters are made of: the choice, and the simulation that the simulated ones share."""

    def __init__(self, choice: ProviderChoice) -> None:
        self.choice = choice

    @cached_property
    def simulation(self) -> Simulation:
        return Simulation(self.choice.simulated_state)

    @property
    def opened(self) -> Simulation | None:
        return self.__dict__.get("simulation")


def _simulated_payments(parts: _Parts) -> PaymentProvider:
    return SimulatedPayments(parts.simulation, parts.choice.faults, parts.choice.time_limit_s)


def _simulated_carriers(parts: _Parts) -> CarrierProvider:
    return SimulatedCarriers(parts.simulation, parts.choice.faults, parts.choice.time_limit_s)


def _simulated_warehouses(parts: _Parts) -> WarehouseProvider:
    return SimulatedWarehouses(parts.simulation, parts.choice.faults, parts.choice.time_limit_s)


def _simulated_notifications(parts: _Parts) -> NotificationProvider:
    return SimulatedNotifications(parts.simulation, parts.choice.faults, parts.choice.time_limit_s)


def _smtp_notifications(parts: _Parts) -> NotificationProvider:
    account = parts.choice.smtp
    if account is None:
        raise AdapterNotSetUp("notifications by `smtp` need a host and a sender: ACCORD_SMTP_HOST, ACCORD_SMTP_SENDER")
    try:
        return SmtpNotifications(account, parts.choice.time_limit_s)
    except NoAddress:
        raise AdapterNotSetUp("ACCORD_SMTP_SENDER is no address of e-mail") from None


_PAYMENTS: Final = {"simulated": _simulated_payments}
_CARRIERS: Final = {"simulated": _simulated_carriers}
_WAREHOUSES: Final = {"simulated": _simulated_warehouses}
_NOTIFICATIONS: Final = {"simulated": _simulated_notifications, "smtp": _smtp_notifications}


def make_providers(choice: ProviderChoice) -> Providers:
    """Build the chosen adapters. Raises `UnknownAdapterError` before anything is opened, and `AdapterNotSetUp`."""
    payments = _named("payments", choice.payments, _PAYMENTS)
    carriers = _named("carriers", choice.carriers, _CARRIERS)
    warehouses = _named("warehouses", choice.warehouses, _WAREHOUSES)
    notifications = _named("notifications", choice.notifications, _NOTIFICATIONS)
    parts = _Parts(choice)
    return Providers(
        payments=payments(parts),
        carriers=carriers(parts),
        warehouses=warehouses(parts),
        notifications=notifications(parts),
        simulation=parts.opened,
    )


def _named(kind: str, name: str, adapters: Mapping[str, Callable[[_Parts], AdapterT]]) -> Callable[[_Parts], AdapterT]:
    if name not in adapters:
        raise UnknownAdapterError(f"no {kind} adapter `{name}`: there is {', '.join(sorted(adapters))}")
    return adapters[name]

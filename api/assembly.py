"""Puts the routes together and checks them against the table of permissions, one to one."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api import (
    amendments,
    cancellations,
    closings,
    decisions,
    exceptions,
    fulfillment,
    holds,
    nodes,
    notes,
    notices,
    orders,
    remedies,
    returns,
    rulesets,
    service,
    stock,
)
from api.envelope import Envelope, add_handlers
from api.limits import Limits
from api.routing import OperationUnknown, Routes
from domain.permissions import OPERATIONS

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

ALL_ROUTES: tuple[Routes, ...] = (
    orders.routes,
    cancellations.routes,
    amendments.routes,
    holds.routes,
    remedies.routes,
    returns.routes,
    closings.routes,
    fulfillment.routes,
    nodes.routes,
    rulesets.routes,
    decisions.routes,
    exceptions.routes,
    notes.routes,
    notices.routes,
    stock.routes,
    service.routes,
)


def assemble(limits: Limits, lifespan: Lifespan | None = None, docs: bool = False) -> FastAPI:
    """The application without its connections.

    Raises:
        OperationUnknown: a route without an entry in the table of permissions, or the other way round.
    """
    app = FastAPI(
        title="Accord",
        lifespan=lifespan,
        docs_url="/docs" if docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if docs else None,
        redirect_slashes=False,
    )
    app.state.version = product_version()
    for routes in ALL_ROUTES:
        app.include_router(routes.router)
    check_complete(ALL_ROUTES)
    add_handlers(app)
    app.add_middleware(Envelope, header_bytes=limits.header_bytes)
    return app


def operations_of(all_routes: tuple[Routes, ...]) -> list[str]:
    """The operation of every route, in the order of declaration."""
    return [
        route.operation_id or ""
        for routes in all_routes
        for route in routes.router.routes
        if isinstance(route, APIRoute)
    ]


def check_complete(all_routes: tuple[Routes, ...]) -> None:
    """Refuse to go on unless routes and permissions are one to one.

    Raises:
        OperationUnknown: names what is missing on either side.
    """
    served = operations_of(all_routes)
    if len(served) != len(set(served)):
        raise OperationUnknown("an operation is served by two routes")
    differing = sorted(set(served) ^ set(OPERATIONS))
    if differing:
        raise OperationUnknown(f"routes and permissions differ: {', '.join(differing)}")


def request_bodies() -> dict[str, type[BaseModel]]:
    """The model of each operation's body."""
    return {name: model for routes in ALL_ROUTES for name, model in routes.bodies.items()}


def product_version() -> str:
    """The version of the installed package; of a source tree that is not installed: 0."""
    try:
        return installed_version("accord-oms")
    except PackageNotFoundError:
        return "0"

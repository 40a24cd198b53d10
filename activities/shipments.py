"""Fulfillment's part of an order: release to nodes, reports, labels, hand-over, carrier scans, stopping."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from activities.contract import Checkpoint, Effect, Grant, Stage, grant_token, no_checkpoint, own_grant, perform, retry_me
from activities.stock import CommandRef
from domain.lifecycle import FulfillmentState, TrackingState, deadline_after
from domain.orders import SYSTEM, Actor, ActorKind, CarrierEventType, Frozen, PlaceOrder, ReportKind
from domain.quantities import Bucket
from domain.shares import Components
from providers.carriers import BookRequest, CarrierProvider, LabelOk, VoidLabelRequest
from providers.outcomes import Absent, NotSent, Ok, ProviderUnavailable, Refused, Unknown
from providers.warehouses import ReleaseLine, ReleaseRequest, ShipTo, StopRequest, TooLate, WarehouseProvider
from providers.warehouses import AnswerFollows, FoundStop, Stopped
from store import control, fulfillment, payments, stock
from store.engine import transaction
from store.lines import move_fulfillment
from store.orders import OrderChange, change_order
from store.vault import Vault

__all__ = ["PlaceOrder", "ShipmentActivities"]

"""The registry: every workflow that a worker runs, and what the sandbox may share with the process."""

from workflows.chore import Chore
from workflows.order import Order

WORKFLOWS = [Order, Chore]
PASSTHROUGH = ("domain", "activities", "store", "providers", "workflows", "sqlalchemy", "pydantic", "pydantic_core")

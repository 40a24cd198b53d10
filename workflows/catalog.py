"""The registry: every workflow that a worker runs, and what the sandbox may share with the process."""

from workflows.chore import Chore
from workflows.order import Order

WORKFLOWS = [Order, Chore]
PASSTHROUGH = (
    "domain",
    "activities",
    "store",
    "providers",
    "templates",
    "jinja2",
    "workflows.messages",
    "workflows.policies",
    "workflows.visibility",
    "sqlalchemy",
    "pydantic",
    "pydantic_core",
)
"""Everything but the workflows themselves: those are what the sandbox is there to watch."""

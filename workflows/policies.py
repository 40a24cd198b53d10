"""How often and how long each kind of step is tried. Owned by operations."""

from datetime import timedelta

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityConfig, LocalActivityConfig

_DATABASE_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=50), backoff_coefficient=2, maximum_interval=timedelta(seconds=10)
)
_PROVIDER_RETRY = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=2, maximum_interval=timedelta(seconds=30)
)
PROVIDER_PATIENCE = timedelta(days=7)


def database(summary: str) -> LocalActivityConfig:
    """A step on our own database: short, repeated until it succeeds.

    Pauses of more than two seconds leave the workflow task, as a timer of the history: a step that keeps failing
    must not keep its worker from ending, nor write a heartbeat of three events every eight seconds.
    """
    return LocalActivityConfig(
        start_to_close_timeout=timedelta(seconds=7),
        retry_policy=_DATABASE_RETRY,
        local_retry_threshold=timedelta(seconds=2),
        summary=summary[:120],
    )


def provider(summary: str) -> ActivityConfig:
    """A call to somebody else's system: bounded by time, not by attempts. The order's watch opens the case.

    An attempt may last as long as a client waits for its reply (10 s) and what is written after it. Whoever
    died in the middle is replaced when it has passed: orders progress again within 20 s.
    """
    return ActivityConfig(
        start_to_close_timeout=timedelta(seconds=15),
        schedule_to_close_timeout=PROVIDER_PATIENCE,
        retry_policy=_PROVIDER_RETRY,
        summary=summary[:120],
    )


def chore(summary: str) -> ActivityConfig:
    """A scheduled job: the next run repeats what this one could not do."""
    return ActivityConfig(
        start_to_close_timeout=timedelta(seconds=60),
        retry_policy=RetryPolicy(maximum_attempts=1),
        summary=summary[:120],
    )


def outbox(summary: str) -> ActivityConfig:
    """A scheduled job that looks after an outbox for most of a minute, and is missed soon when its worker dies."""
    return ActivityConfig(
        start_to_close_timeout=timedelta(seconds=150),
        schedule_to_close_timeout=timedelta(minutes=10),
        heartbeat_timeout=timedelta(seconds=15),
        retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=5)),
        summary=summary[:120],
    )

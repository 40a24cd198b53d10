"""Scheduled jobs: a Temporal Schedule starts this small workflow, which runs one activity."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.notifications import Delivered, NotificationActivities
    from activities.records import RecordActivities, Swept
    from workflows import policies


@workflow.defn(name="Chore")
class Chore:
    """One run of one job."""

    @workflow.run
    async def run(self, job: str) -> str:
        """Run the job by name. Unknown names say so and change nothing."""
        match job:
            case "sweep":
                swept: Swept = await workflow.execute_activity_method(
                    RecordActivities.sweep, **policies.chore("Start lost orders, send lost commands")
                )
                return f"started {swept.started}, sent {swept.sent}"
            case "notices":
                delivered: Delivered = await workflow.execute_activity_method(
                    NotificationActivities.deliver, **policies.outbox("Send notices that are due")
                )
                return f"sent {delivered.sent}, ended otherwise {delivered.ended}, put off {delivered.put_off}"
            case _:
                return f"unknown job {job}"

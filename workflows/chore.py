"""Scheduled jobs: a Temporal Schedule starts this small workflow, which runs one activity."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities, Swept
    from workflows import policies


@workflow.defn(name="Chore")
class Chore:
    """One run of one job."""

    @workflow.run
    async def run(self, job: str) -> str:
        """Run the job by name. Unknown names say so and change nothing."""
        if job != "sweep":
            return f"unknown job {job}"
        swept: Swept = await workflow.execute_activity_method(
            RecordActivities.sweep, **policies.chore("Start lost orders, send lost commands")
        )
        return f"started {swept.started}, sent {swept.sent}"

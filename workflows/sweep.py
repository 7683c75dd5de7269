"""The sweep: makes up for what a crash between a commit and a signal left undone."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from siaran.contracts import SweepResult
    from workflows.options import SWEEP


@workflow.defn
class SweepWorkflow:
    """Started every 30 s by a schedule, never two at once."""

    @workflow.run
    async def run(self) -> SweepResult:
        """Start what was left unstarted, wake lanes with overdue rows, end stale claims."""
        found: SweepResult = await workflow.execute_activity(
            "sweep", result_type=SweepResult, summary="looking for overdue work", **SWEEP
        )
        return found

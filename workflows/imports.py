"""An import of leads: has its stored file worked through, and says how it ended."""

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from siaran.contracts import LeadImportInput, LeadImportResult
    from workflows.options import DATABASE, IMPORT


@workflow.defn
class LeadImportWorkflow:
    """The import's row says how far it has come, so there is one activity, tried until the import has ended."""

    @workflow.run
    async def run(self, order: LeadImportInput) -> str:
        """Import the file; returns how it ended and how many rows it has done."""
        workflow.set_current_details("working through the file")
        try:
            result: LeadImportResult = await workflow.execute_activity(
                "import_leads",
                order,
                result_type=LeadImportResult,
                summary="working through the file",
                **IMPORT,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):  # by an operator: the row has to say so too, or the sweep would start it again
                await workflow.execute_activity(
                    "cancel_import", order, result_type=LeadImportResult, summary="cancelling", **DATABASE
                )
            raise
        workflow.set_current_details(f"{result.status}\n\n{result.rows} rows")
        return f"{result.status}: {result.rows} rows"

"""A sequence: has every lead that it addresses enrolled, old and new, for as long as it is active."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from siaran.contracts import EnrollingResult, SequenceInput
    from siaran.search_attributes import STATUS
    from workflows.options import BULK


@workflow.defn
class SequenceWorkflow:
    """The sequence's row says whether it is active; a signal says only that the row, its leads or its contacts have changed."""

    @workflow.init
    def __init__(self, sequence: SequenceInput) -> None:
        self._sequence = sequence
        self._changed = False
        self._shown = ""

    @workflow.signal
    def changed(self) -> None:
        """The sequence's row has changed, or leads that it may address, or contacts whose workflows have to be told."""
        self._changed = True

    @workflow.run
    async def run(self, sequence: SequenceInput) -> str:
        """Enroll and tell until the sequence is deleted; returns how many contacts it had."""
        while True:
            self._changed = False
            result: EnrollingResult = await workflow.execute_activity(
                "enroll", sequence, result_type=EnrollingResult, summary="enrolling who matches", **BULK
            )
            self._show(result)
            if result.is_over and not self._changed:
                return f"deleted: {result.contacts} contacts"
            if not result.has_more:
                await workflow.wait_condition(lambda: self._changed)
            if workflow.info().is_continue_as_new_suggested():
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(sequence)

    def _show(self, result: EnrollingResult) -> None:
        """Show status and size in lists of executions; written only when they change."""
        more = ", starting them" if result.has_more else ""
        status = f"{result.status}: {result.contacts} contacts{more}"
        if status != self._shown:
            self._shown = status
            workflow.upsert_search_attributes([STATUS.value_set(status)])
            workflow.set_current_details(status)

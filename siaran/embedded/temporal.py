"""The embedded Temporal server: the development server of Temporal's own command line, kept in an SQLite file."""

import json
import os
import sysconfig
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from siaran.embedded.errors import StackError
from siaran.embedded.options import LOOPBACK, StackOptions
from siaran.embedded.supervisor import Child
from siaran.namespaces import SEARCH_ATTRIBUTES
from siaran.temporal_ui import UI_PATH

DYNAMIC_CONFIG: dict[str, int | bool | str] = {
    # One task queue per device: the defaults refuse more than 1,200 pollers and split every queue into four partitions.
    "frontend.namespaceCount": 100_000,
    "frontend.namespaceRPS": 100_000,
    "frontend.namespaceBurst": 200_000,
    "frontend.rps": 100_000,
    "matching.rps": 200_000,
    "matching.namespaceRPS": 200_000,
    "matching.numTaskqueueReadPartitions": 1,
    "matching.numTaskqueueWritePartitions": 1,
    # How late a timer may fire; the default is a second, which every random delay between two messages would wait on top.
    "history.timerProcessorMaxTimeShift": "100ms",
}
"""Settings of the server; `deploy/temporal.yaml` holds the same for a server that is not embedded."""

EMBEDDED_CONFIG: dict[str, int | bool | str] = {
    # When all contacts of a sequence fall due at once, each execution is used three times within minutes. Above this number
    # they are read from the file every time; a development server has 8,192, others 128,000.
    "history.hostLevelCacheMaxSize": 60_000,
    # Above the first number the server throws away timers it has read, to read them anew, and deletes none that fired: each
    # reading passes all of those, and soon takes up the whole server. The defaults are 9,000, 10,000 and 100.
    "history.queuePendingTaskCriticalCount": 90_000,
    "history.queuePendingTasksMaxCount": 100_000,
    "history.timerTaskBatchSize": 1_000,
    # A development server reads the names of search attributes from its file for every start and every write to its lists.
    "system.forceSearchAttributesCacheRefreshOnRead": False,
}
"""What a development server sets otherwise than the servers that `deploy/temporal.yaml` is for."""

TESTS_CONFIG: dict[str, int | bool | str] = {
    "frontend.WorkflowTimeSkippingEnabled": True,
    # Tests make namespaces and use them at once.
    "system.forceSearchAttributesCacheRefreshOnRead": True,
}


@dataclass(frozen=True, slots=True)
class EmbeddedTemporal:
    """A Temporal server with its UI, listening on the loopback interface only."""

    folder: Path
    options: StackOptions

    @property
    def address(self) -> str:
        """Host and port of the gRPC interface."""
        return f"{LOOPBACK}:{self.options.temporal_port}"

    @property
    def ui_url(self) -> str:
        """Where the API finds the Temporal UI, which it serves under the same path."""
        return f"http://{LOOPBACK}:{self.options.temporal_ui_port}{UI_PATH}"

    def initialise(self) -> None:
        """Create the server's folder."""
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def child(self) -> Child:
        """The server process, for the supervisor."""
        return Child(
            name="temporal",
            title="Temporal",
            command=(str(_find_program()), *self._arguments()),
            environment={
                "HOME": str(self.folder),
                "PATH": os.defpath,
                "TZ": "UTC",
                "GOGC": self.options.temporal_gogc,
                "GOMEMLIMIT": self.options.temporal_gomemlimit,
            },
            cwd=self.folder,
            ready=self._answers,
            stop_within=timedelta(seconds=20),
        )

    def _arguments(self) -> list[str]:
        arguments = ["server", "start-dev", "--ip", LOOPBACK, "--port", str(self.options.temporal_port)]
        arguments += ["--ui-port", str(self.options.temporal_ui_port), "--ui-public-path", UI_PATH, "--ui-disable-news-fetch"]
        arguments += ["--db-filename", str(self.folder / "temporal.db")]
        # Without these two every commit waits for the disk, and the server does a quarter of the work.
        arguments += ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"]
        for key in SEARCH_ATTRIBUTES:
            arguments += ["--search-attribute", f"{key.name}={key.indexed_value_type.name.title()}"]
        config = DYNAMIC_CONFIG | EMBEDDED_CONFIG | (TESTS_CONFIG if self.options.temporal_time_skipping else {})
        for name, value in config.items():
            arguments += ["--dynamic-config-value", f"{name}={json.dumps(value)}"]
        return arguments

    async def _answers(self) -> bool:
        try:
            client = await Client.connect(self.address)
            request = DescribeNamespaceRequest(namespace="default")
            await client.workflow_service.describe_namespace(request, timeout=timedelta(seconds=5))
        except (RPCError, RuntimeError):  # the SDK raises RuntimeError when it cannot connect
            return False
        return True


def _find_program() -> Path:
    program = Path(sysconfig.get_path("scripts")) / "temporal"
    if not program.exists():
        raise StackError("Temporal is not installed: run `make setup`, or set TEMPORAL_ADDRESS to a server's address.")
    return program

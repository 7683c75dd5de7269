"""The embedded stack: starts whatever servers the environment does not provide, and tells child processes where they are."""

import asyncio
import contextlib
import fcntl
import os
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from siaran.clock import system_clock
from siaran.embedded.errors import FolderInUse, StackError
from siaran.embedded.files import load_secrets
from siaran.embedded.options import PORTS, StackOptions, choose_ports
from siaran.embedded.postgres import EmbeddedPostgres
from siaran.embedded.runtime import Runtime, read_last_runtime, remove_runtime
from siaran.embedded.supervisor import Supervisor
from siaran.embedded.temporal import EmbeddedTemporal
from siaran.embedded.valkey import EmbeddedValkey
from siaran.processes import ProcessMark, end_processes
from siaran.settings import Settings

ADDRESSES = {
    "DB_URI": "database_url",
    "REDIS_URL": "redis_url",
    "SIARAN_NETWORK_URL": "network_url",
    "SIARAN_SECRET": "secret",
    "TEMPORAL_ADDRESS": "temporal_address",
    "TEMPORAL_UI_URL": "temporal_ui_url",
}
"""The variables that a stack can set, and the setting that each of them fills."""

SECRET_ADDRESSES = {"database_url", "redis_url", "network_url", "secret"}
SECRETS = ("postgres_password", "valkey_password", "network_password", "siaran_secret")
FORMER_RUN_ENDS_WITHIN = 10.0  # seconds


class EmbeddedStack:
    """Servers on the loopback interface with their data in one folder, which survives restarts and kills.

    `async with EmbeddedStack(settings) as stack` starts those of PostgreSQL, Valkey, the simulated network's Valkey and
    Temporal that `settings` name no address for, waits until each answers, and stops them at the end. `stack.environment`
    holds what further processes need to reach them; start those with `stack.supervisor`, at a stage above 0, so that they
    stop first.
    Raises `StackError` with advice when a port is taken, the folder is in use or a server does not start. `app_ports` are
    options of further processes whose ports are chosen and checked along with the servers'.
    """

    def __init__(self, settings: Settings, options: StackOptions | None = None, *, app_ports: tuple[str, ...] = ()) -> None:
        self.data_dir = settings.data_dir.absolute()
        self.options = options or StackOptions()
        self.environment: dict[str, str] = {}
        self.supervisor = Supervisor(self.data_dir / "logs", on_change=self._write_runtime)
        self._settings = settings
        self._app_ports = app_ports
        self._started_at = system_clock()
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with self._exits as exits:
            self._lock(exits)
            await asyncio.to_thread(self._end_former_run)
            self._choose_ports()
            exits.callback(remove_runtime, self.data_dir)
            await exits.enter_async_context(self.supervisor)
            await self._start_servers()
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._exits.aclose()

    @property
    def settings(self) -> Settings:
        """The given settings, completed with the addresses of the servers that were started."""
        found = {name: self.environment[variable] for variable, name in ADDRESSES.items() if variable in self.environment}
        hidden = {name: SecretStr(found[name]) for name in SECRET_ADDRESSES & found.keys()}
        port = {"port": self.options.api_port} if "api_port" in self._app_ports else {}
        return self._settings.model_copy(update={"data_dir": self.data_dir} | port | found | hidden)

    def _lock(self, exits: contextlib.AsyncExitStack) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.data_dir / "stack.lock"
        file = exits.enter_context(path.open("a+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = path.read_text().strip()
            raise FolderInUse(self.data_dir, int(owner) if owner.isdigit() else None) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()

    def _end_former_run(self) -> None:
        """Wait for the processes of a run that was killed; they are about to end, but may still hold their ports."""
        former = read_last_runtime(self.data_dir)
        if former:
            alive = [process for process in (mark.find() for mark in former.marks) if process]
            end_processes(alive, within=FORMER_RUN_ENDS_WITHIN)
            remove_runtime(self.data_dir)

    def _choose_ports(self) -> None:
        wanted = set(self._app_ports)
        if self._settings.database_url is None:
            wanted.add("postgres_port")
        if self._settings.redis_url is None:
            wanted.add("valkey_port")
        if self._settings.temporal_address is None:
            wanted |= {"temporal_port", "temporal_ui_port"}
        # A deployment with servers of its own has no use for the simulated network unless it says where that is.
        if self._settings.network_url is None and wanted - set(self._app_ports):
            wanted.add("network_port")
        self._wanted = wanted
        self.options = choose_ports(self.options, wanted)

    async def _start_servers(self) -> None:
        secrets = load_secrets(self.data_dir / "secrets.json", SECRETS)
        self.environment = {"SIARAN_DATA_DIR": str(self.data_dir)}
        if self._settings.secret is None:
            self.environment["SIARAN_SECRET"] = secrets["siaran_secret"]
        try:
            async with asyncio.TaskGroup() as starts:
                if "postgres_port" in self._wanted:
                    starts.create_task(self._start_postgres(secrets["postgres_password"]))
                if "valkey_port" in self._wanted:
                    starts.create_task(self._start_valkey(secrets["valkey_password"]))
                if "network_port" in self._wanted:
                    starts.create_task(self._start_network(secrets["network_password"]))
                if "temporal_port" in self._wanted:
                    starts.create_task(self._start_temporal())
        except ExceptionGroup as group:
            failures = group.subgroup(StackError)
            raise failures.exceptions[0] if failures else group from None
        self._write_runtime()

    async def _start_postgres(self, password: str) -> None:
        postgres = EmbeddedPostgres(self.data_dir, self.options, password)
        await postgres.initialise()
        await self.supervisor.start(postgres.child())
        await postgres.create_database()
        self.environment["DB_URI"] = postgres.url

    async def _start_valkey(self, password: str) -> None:
        valkey = EmbeddedValkey(
            name="valkey",
            title="Valkey",
            folder=self.data_dir / "valkey",
            port=self.options.valkey_port,
            password=password,
            append_only=False,
        )
        await self._run_valkey(valkey)
        self.environment["REDIS_URL"] = valkey.url

    async def _start_network(self, password: str) -> None:
        network = EmbeddedValkey(
            name="network",
            title="Simulated network",
            folder=self.data_dir / "network",
            port=self.options.network_port,
            password=password,
            append_only=True,
        )
        await self._run_valkey(network)
        self.environment["SIARAN_NETWORK_URL"] = network.url

    async def _run_valkey(self, valkey: EmbeddedValkey) -> None:
        valkey.initialise()
        await self.supervisor.start(valkey.child())

    async def _start_temporal(self) -> None:
        temporal = EmbeddedTemporal(self.data_dir / "temporal", self.options)
        temporal.initialise()
        await self.supervisor.start(temporal.child())
        self.environment |= {"TEMPORAL_ADDRESS": temporal.address, "TEMPORAL_UI_URL": temporal.ui_url}

    def _write_runtime(self) -> None:
        children = self.supervisor.states()
        marks = [ProcessMark.of(child.pid) for child in children if child.pid is not None]
        owner = ProcessMark.of(os.getpid())
        if owner is None:
            raise RuntimeError("this process has no start time")
        Runtime(
            owner=owner,
            started_at=self._started_at,
            environment=self.environment,
            ports={name.removesuffix("_port"): getattr(self.options, name) for name in PORTS if name in self._wanted},
            children=children,
            marks=[mark for mark in marks if mark],
        ).write(self.data_dir)

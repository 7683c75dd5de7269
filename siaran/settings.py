"""Everything that can be set from outside, read from environment variables once per process."""

import socket
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _alias(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Settings of one process.

    The variables of the original keep their names (`DB_URI`, `REDIS_URL`, `APP_PORT`, `WHATSAPP_*`, `TEMPORAL_*`); ours begin
    with `SIARAN_`. A store whose variable is unset runs embedded, with its data under `data_dir`.
    """

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    # Stores
    database_url: SecretStr | None = Field(None, validation_alias=_alias("DB_URI", "DATABASE_URL"))
    redis_url: SecretStr | None = Field(None, validation_alias=_alias("REDIS_URL"))
    redis_password: SecretStr | None = Field(None, validation_alias=_alias("REDIS_PASSWORD"))
    temporal_address: str | None = Field(None, validation_alias=_alias("TEMPORAL_ADDRESS"))
    temporal_namespace: str = Field("default", validation_alias=_alias("TEMPORAL_NAMESPACE"))
    temporal_api_key: SecretStr | None = Field(None, validation_alias=_alias("TEMPORAL_API_KEY"))
    temporal_tls: bool = Field(False, validation_alias=_alias("TEMPORAL_TLS"))
    temporal_tls_client_cert_path: Path | None = Field(None, validation_alias=_alias("TEMPORAL_TLS_CLIENT_CERT_PATH"))
    temporal_tls_client_key_path: Path | None = Field(None, validation_alias=_alias("TEMPORAL_TLS_CLIENT_KEY_PATH"))
    temporal_tls_server_ca_path: Path | None = Field(None, validation_alias=_alias("TEMPORAL_TLS_SERVER_CA_CERT_PATH"))
    temporal_ui_url: str | None = Field(None, validation_alias=_alias("TEMPORAL_UI_URL"))
    network_url: SecretStr | None = Field(None, validation_alias=_alias("SIARAN_NETWORK_URL"))

    # Processes
    data_dir: Path = Field(Path(".siaran"), validation_alias=_alias("SIARAN_DATA_DIR"))
    session_dir: Path | None = Field(None, validation_alias=_alias("SESSION_DIR"))
    server: str = Field(default_factory=socket.gethostname, validation_alias=_alias("SIARAN_SERVER"))
    bind: str = Field("127.0.0.1", validation_alias=_alias("SIARAN_BIND"))
    port: int = Field(3000, validation_alias=_alias("APP_PORT", "PORT"), ge=1, le=65535)
    metrics_bind: str = Field("", validation_alias=_alias("SIARAN_METRICS_BIND"), pattern=r"^$|^[^\s:]+:\d{1,5}$")
    trusted_proxies: str = Field("", validation_alias=_alias("FORWARDED_ALLOW_IPS"))
    debug: bool = Field(False, validation_alias=_alias("APP_DEBUG"))
    app_os: str = Field("Siaran", validation_alias=_alias("APP_OS"))
    secret: SecretStr | None = Field(None, validation_alias=_alias("SIARAN_SECRET"))
    basic_auth: SecretStr | None = Field(None, validation_alias=_alias("APP_BASIC_AUTH"))
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field((), validation_alias=_alias("SIARAN_ALLOWED_ORIGINS"))

    # Sending
    send_window: Literal["auto"] | int = Field("auto", validation_alias=_alias("SEND_WINDOW"))
    slice_above_lanes: int = Field(300, validation_alias=_alias("SIARAN_SLICE_ABOVE_LANES"), ge=0)
    host_capacity: int = Field(20, validation_alias=_alias("SIARAN_HOST_CAPACITY"), ge=1, le=1000)
    simulated_host_capacity: int = Field(1000, validation_alias=_alias("SIARAN_SIMULATED_HOST_CAPACITY"), ge=1, le=1000)
    connect_pause_seconds: float = Field(0.3, validation_alias=_alias("SIARAN_CONNECT_PAUSE_SECONDS"), ge=0)
    host_memory_mb: int = Field(1024, validation_alias=_alias("SIARAN_HOST_MEMORY_MB"), ge=200)
    host_descriptors: int = Field(2048, validation_alias=_alias("SIARAN_HOST_DESCRIPTORS"), ge=256)
    pairing_seconds: float = Field(160.0, validation_alias=_alias("SIARAN_PAIRING_SECONDS"), gt=0)
    receipt_wait_seconds: float = Field(20.0, validation_alias=_alias("SIARAN_RECEIPT_WAIT_SECONDS"), gt=0)
    failover_after_seconds: float = Field(60.0, validation_alias=_alias("SIARAN_FAILOVER_AFTER_SECONDS"), ge=0)

    # Product
    default_country: str = Field("MY", validation_alias=_alias("SIARAN_DEFAULT_COUNTRY"), pattern="^[A-Z]{2}$")
    allow_private_targets: bool = Field(False, validation_alias=_alias("SIARAN_ALLOW_PRIVATE_TARGETS"))
    default_timezone: str = Field("Asia/Kuala_Lumpur", validation_alias=_alias("SIARAN_DEFAULT_TIMEZONE"))
    chat_storage: bool = Field(True, validation_alias=_alias("WHATSAPP_CHAT_STORAGE"))
    account_validation: bool = Field(True, validation_alias=_alias("WHATSAPP_ACCOUNT_VALIDATION"))
    auto_reply: str = Field("", validation_alias=_alias("WHATSAPP_AUTO_REPLY"))
    webhook: str = Field("", validation_alias=_alias("WHATSAPP_WEBHOOK"))
    webhook_secret: SecretStr | None = Field(None, validation_alias=_alias("WHATSAPP_WEBHOOK_SECRET"))

    @field_validator("allowed_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("send_window", mode="before")
    @classmethod
    def _window_seconds(cls, value: object) -> object:
        return int(value) if isinstance(value, str) and value.isdigit() else value

    @property
    def session_folder(self) -> Path:
        """Where the sessions of linked accounts are, one folder for all hosts that may open them."""
        return self.session_dir or self.data_dir / "sessions"

    @property
    def failover_after(self) -> timedelta:
        """How long a device may be away before its pending messages move to others."""
        return timedelta(seconds=self.failover_after_seconds)

    @property
    def sqlalchemy_url(self) -> str:
        """`database_url` with the driver that Siaran uses; raises `ValueError` when no database is set."""
        if self.database_url is None:
            raise ValueError("no database: set DB_URI or start the embedded stack with `siaran up`")
        url = self.database_url.get_secret_value()
        scheme, _, rest = url.partition("://")
        if scheme.split("+")[0] not in {"postgres", "postgresql"}:
            raise ValueError(f"DB_URI must begin with postgresql://, not {scheme}://")
        return f"postgresql+psycopg://{rest}"

    @property
    def redis_dsn(self) -> str:
        """`redis_url` with `redis_password` filled in where the URL has none; raises `ValueError` when unset."""
        if self.redis_url is None:
            raise ValueError("no Redis: set REDIS_URL or start the embedded stack with `siaran up`")
        parts = urlsplit(self.redis_url.get_secret_value())
        if self.redis_password is None or parts.password:
            return urlunsplit(parts)
        return urlunsplit(parts._replace(netloc=f":{self.redis_password.get_secret_value()}@{parts.netloc.rpartition('@')[2]}"))


@lru_cache
def get_settings() -> Settings:
    """The settings of this process, read from the environment at the first call."""
    return Settings()

"""What the simulated network is told to do: its settings, their defaults, and their form in its Valkey."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from siaran.errors import FieldError, Invalid
from siaran.gateway import simulated_keys as keys
from siaran.gateway.simulated_valkey import NetworkValkey

FAILURE_CODES: Mapping[str, bool] = MappingProxyType(
    {"server_error_500": True, "rejected_479": True, "invalid_number": False, "recipient_blocked": False}
)
"""Codes that `failure_codes` may name, and whether sending again later can help."""


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("the first number must not be larger than the second")
    return value


def _known_codes(value: dict[str, float]) -> dict[str, float]:
    if unknown := sorted(set(value) - set(FAILURE_CODES)):
        raise ValueError(f"unknown codes {', '.join(unknown)}; known are {', '.join(FAILURE_CODES)}")
    if min(value.values(), default=0) < 0 or sum(value.values()) <= 0:
        raise ValueError("weights must not be negative, and one must be above 0")
    return value


_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, le=1)]
Span = Annotated[tuple[_Seconds, _Seconds], AfterValidator(_ascending)]
Weights = Annotated[dict[str, float], AfterValidator(_known_codes)]


class NetworkConfig(BaseModel):
    """How the simulated network behaves; unless told otherwise everything arrives, after the usual latency.

    A rate is a share from 0 to 1, a span the lowest and the highest value of a uniform draw. Every draw follows from `seed`,
    the recipient and how often the network was asked to reach it, so the same seed and order repeat a run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(1, description="Same seed, same decisions")
    latency_ms: Span = Field((100.0, 400.0), description="From the call to the acknowledgement, both ways together")
    failure_rate: Rate = Field(0.0, description="Share of the sends that the server refuses with one of `failure_codes`")
    failure_codes: Weights = Field({"server_error_500": 3.0, "rejected_479": 1.0}, description="Codes and their weights")
    not_on_whatsapp_rate: Rate = Field(0.0, description="Share of the phone numbers without an account, always the same ones")
    rate_limit_rate: Rate = Field(0.0, description="Share of the sends that are refused with error 429")
    rate_limit_seconds: _Seconds = Field(60.0, description="How long a sender is told to wait after a 429")
    ack_loss_rate: Rate = Field(0.0, description="Share of the delivered messages whose acknowledgement never arrives")
    ack_timeout_seconds: _Seconds = Field(75.0, description="How long a sender waits for an acknowledgement")
    late_ack: bool = Field(False, description="A lost acknowledgement arrives as a receipt once the sender has given up")
    delivered_rate: Rate = Field(1.0, description="Share of the messages that reach the recipient's phone")
    delivered_seconds: Span = Field((0.3, 3.0), description="From the transmission to the delivery receipt")
    early_receipt_rate: Rate = Field(0.0, description="Share of the messages whose delivery receipt overtakes the ack")
    read_rate: Rate = Field(0.5, description="Share of the delivered messages that are read")
    read_seconds: Span = Field((2.0, 30.0), description="From the delivery to the read receipt")
    reply_rate: Rate = Field(0.0, description="Share of the delivered messages that are answered")
    opt_out_rate: Rate = Field(0.0, description="Share of the answers that say STOP")
    reply_seconds: Span = Field((2.0, 30.0), description="From the delivery to the answer")
    forget_attempts: bool = Field(False, description="Session stores deny every attempt: a fault that must show as duplicates")
    replace_connections: bool = Field(True, description="A device's newer connection closes its older one")

    def changed(self, **changes: Any) -> "NetworkConfig":
        """This configuration with some fields changed; raises `Invalid`, naming each field that is unknown or out of range."""
        return parsed({**self.model_dump(), **changes})

    def to_hash(self) -> dict[str, str]:
        """The fields as JSON texts, for a Valkey hash."""
        return {name: json.dumps(value) for name, value in self.model_dump(mode="json").items()}

    @classmethod
    def from_hash(cls, fields: Mapping[str, str]) -> "NetworkConfig":
        """Back from `to_hash`; fields that are absent keep their defaults."""
        return cls.model_validate({name: json.loads(fields[name]) for name in cls.model_fields if name in fields})


def parsed(values: Mapping[str, Any]) -> NetworkConfig:
    """A configuration from plain values; raises `Invalid`."""
    try:
        return NetworkConfig.model_validate(values)
    except ValidationError as error:
        raise Invalid(
            [FieldError(".".join(str(part) for part in problem["loc"]), problem["msg"]) for problem in error.errors()]
        ) from error


class LiveConfig:
    """The configuration as a running transport knows it; `revision` counts the changes."""

    def __init__(self, valkey: NetworkValkey) -> None:
        self._valkey = valkey
        self._revision = ""
        self.current = NetworkConfig()

    async def reload(self) -> None:
        """Read the present configuration; raises `NotReached` or `NoAnswer`."""
        self.current, self._revision = await loaded(self._valkey)

    async def at(self, revision: str) -> NetworkConfig:
        """The configuration of that revision, read again if another one is known."""
        if revision != self._revision:
            await self.reload()
        return self.current


async def loaded(valkey: NetworkValkey) -> tuple[NetworkConfig, str]:
    """The stored configuration and its revision; raises `NotReached` or `NoAnswer`."""
    words: list[str] = await valkey.command("HGETALL", keys.CONFIG)
    fields = dict(zip(words[::2], words[1::2], strict=True))
    return NetworkConfig.from_hash(fields), fields.get("revision", "0")

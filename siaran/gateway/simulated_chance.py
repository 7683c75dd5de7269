"""The simulated network's decisions: what happens to a send, drawn from the seed, the recipient and the attempt."""

import hashlib
import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from uuid import UUID

from siaran.gateway.interface import ReceiptKind
from siaran.gateway.simulated_config import NetworkConfig

NOT_ON_WHATSAPP = "not_on_whatsapp"
RATE_LIMITED = "rate_limited_429"
RESTRICTED = "restricted_463"

_ANSWERS = ("Ok, terima kasih", "Berapa harga?", "Boleh hantar lokasi?", "Nanti saya call", "Thanks, noted")
_MOBILE_CODES = ("12", "13", "16", "17", "19")
_DRAWS = struct.Struct("<16I")
_UPLINK_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one send. Delays are seconds: those of receipts and answer count from the transmission.

    `rejection` is the code of a refusal, else None; `ack_lost` and what follows only happen to a message that is accepted.
    """

    uplink: float
    downlink: float
    rejection: str | None = None
    ack_lost: bool = False
    early_receipt: bool = False
    receipts: tuple[tuple[ReceiptKind, float], ...] = ()
    answer: tuple[str, float] | None = None


def fate_of(config: NetworkConfig, phone: str, attempt: int) -> Fate:
    """The fate of the `attempt`-th send (from 1) to a phone, whatever device it comes from."""
    draws = _Draws(f"{config.seed}|send|{phone}|{attempt}")
    latency = draws.between(config.latency_ms) / 1000
    rejection = _rejection(config, phone, draws)
    ack_lost = draws.happens(config.ack_loss_rate)
    early = draws.happens(config.early_receipt_rate)
    receipts = _receipts(config, draws, early=early)
    if ack_lost and config.late_ack:
        receipts = ((ReceiptKind.SENT, config.ack_timeout_seconds + latency), *receipts)
    return Fate(
        uplink=latency * _UPLINK_SHARE,
        downlink=latency * (1 - _UPLINK_SHARE),
        rejection=rejection,
        ack_lost=ack_lost,
        early_receipt=early and bool(receipts),
        receipts=receipts,
        answer=_answer(config, draws, receipts),
    )


def is_on_whatsapp(config: NetworkConfig, phone: str) -> bool:
    """Whether a phone has an account: a lasting property of the number."""
    return not _Draws(f"{config.seed}|account|{phone}").happens(config.not_on_whatsapp_rate)


def phone_of(config: NetworkConfig, device_id: UUID) -> str:
    """The Malaysian mobile number (digits, international form) of a simulated device."""
    draws = _Draws(f"{config.seed}|phone|{device_id}")
    code = _MOBILE_CODES[int(draws.share() * len(_MOBILE_CODES))]
    first = 2 + int(draws.share() * 8)  # 0 and 1 begin no subscriber number in some of these codes
    return f"60{code}{first}{int(draws.share() * 10**6):06d}"


def _rejection(config: NetworkConfig, phone: str, draws: "_Draws") -> str | None:
    fails, limited, which = draws.happens(config.failure_rate), draws.happens(config.rate_limit_rate), draws.share()
    if config.not_on_whatsapp_rate and not is_on_whatsapp(config, phone):
        return NOT_ON_WHATSAPP
    if fails:
        codes, weights = zip(*config.failure_codes.items(), strict=True)
        bounds = list(accumulate(weights))
        return str(codes[bisect_right(bounds, which * bounds[-1])])
    return RATE_LIMITED if limited else None


def _receipts(config: NetworkConfig, draws: "_Draws", *, early: bool) -> tuple[tuple[ReceiptKind, float], ...]:
    arrives, delay = draws.happens(config.delivered_rate), draws.between(config.delivered_seconds)
    is_read, until_read = draws.happens(config.read_rate), draws.between(config.read_seconds)
    if not arrives:
        return ()
    delivered = 0.0 if early else delay
    if not is_read:
        return ((ReceiptKind.DELIVERED, delivered),)
    return ((ReceiptKind.DELIVERED, delivered), (ReceiptKind.READ, delivered + until_read))


def _answer(
    config: NetworkConfig, draws: "_Draws", receipts: tuple[tuple[ReceiptKind, float], ...]
) -> tuple[str, float] | None:
    answers, opts_out = draws.happens(config.reply_rate), draws.happens(config.opt_out_rate)
    text, delay = _ANSWERS[int(draws.share() * len(_ANSWERS))], draws.between(config.reply_seconds)
    delivered = next((after for kind, after in receipts if kind is ReceiptKind.DELIVERED), None)
    if not answers or delivered is None:
        return None
    return ("STOP" if opts_out else text), delivered + delay


class _Draws:
    """Up to 16 independent uniform numbers that follow from a text; always drawn in the same order, needed or not."""

    __slots__ = ("_numbers",)

    def __init__(self, text: str) -> None:
        self._numbers: Iterator[int] = iter(_DRAWS.unpack(hashlib.blake2b(text.encode()).digest()))

    def share(self) -> float:
        """The next number, in [0, 1)."""
        return next(self._numbers) / 2**32

    def happens(self, rate: float) -> bool:
        return self.share() < rate

    def between(self, span: tuple[float, float]) -> float:
        return span[0] + self.share() * (span[1] - span[0])

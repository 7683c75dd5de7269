"""Idempotency keys: 32 bytes that name one attempt of one message and nothing else."""

import hmac

from siaran.settings import Settings


def secret_of(settings: Settings) -> bytes:
    """The secret that keys are made with; raises `ValueError` when none is set."""
    if settings.secret is None:
        raise ValueError("no secret: set SIARAN_SECRET or start the embedded stack with `siaran up`")
    return settings.secret.get_secret_value().encode()


def attempt_key(secret: bytes, message_id: int, attempt: int) -> bytes:
    """The key of an attempt, the same after any restart."""
    return hmac.digest(secret, f"attempt:{message_id}:{attempt}".encode(), "sha256")

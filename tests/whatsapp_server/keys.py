"""Key pairs of Curve25519 and the XEdDSA signatures that WhatsApp makes with them."""

import hashlib
import os
from dataclasses import dataclass

from tests.whatsapp_server.crypto import agree, public_key_of

PRIME = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
TWICE_D = 2 * -121665 * pow(121666, -1, PRIME) % PRIME
BASE_Y = 4 * pow(5, -1, PRIME) % PRIME
BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202

Point = tuple[int, int, int, int]
"""A point of Ed25519 in extended coordinates: X, Y, Z, T."""

BASE: Point = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % PRIME)


def _add(p: Point, q: Point) -> Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = p[3] * q[3] * TWICE_D, 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % PRIME, g * h % PRIME, f * g % PRIME, e * h % PRIME


def _multiply_base(scalar: int) -> bytes:
    """The encoded multiple of the base point."""
    result, addend = (0, 1, 1, 0), BASE
    while scalar:
        if scalar & 1:
            result = _add(result, addend)
        addend = _add(addend, addend)
        scalar >>= 1
    inverse = pow(result[2], -1, PRIME)
    x, y = result[0] * inverse % PRIME, result[1] * inverse % PRIME
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _number(digest: bytes) -> int:
    return int.from_bytes(digest, "little")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A Curve25519 key pair; both halves are 32 bytes."""

    private: bytes
    public: bytes

    @classmethod
    def generate(cls) -> "KeyPair":
        """A new random pair."""
        private = bytearray(os.urandom(32))
        private[0] &= 248
        private[31] = private[31] & 127 | 64
        return cls(bytes(private), public_key_of(bytes(private)))

    def agree(self, public: bytes) -> bytes:
        """The secret shared with the owner of `public`."""
        return agree(self.private, public)

    def sign(self, message: bytes) -> bytes:
        """An XEdDSA signature, 64 bytes; its last bit is the sign of the Edwards key, as in Signal's older libraries."""
        scalar = _number(self.private)
        edwards = _multiply_base(scalar)
        prefix = b"\xfe" + b"\xff" * 31
        nonce = _number(hashlib.sha512(prefix + self.private + message + os.urandom(64)).digest()) % ORDER
        commitment = _multiply_base(nonce)
        challenge = _number(hashlib.sha512(commitment + edwards + message).digest())
        response = bytearray(((nonce + challenge * scalar) % ORDER).to_bytes(32, "little"))
        response[31] = response[31] & 0x7F | edwards[31] & 0x80
        return commitment + bytes(response)

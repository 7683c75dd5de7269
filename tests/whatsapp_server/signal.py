"""The other ends of Signal's encryption: contacts and phones, which read what a device sends and write to it.

Keys are agreed by X3DH, messages encrypted by the double ratchet of version 3. Keys of messages are kept, because the client
repeats a transmission byte by byte after an interruption.
"""

import os
from dataclasses import dataclass, field

from tests.whatsapp_server.crypto import decrypt_cbc, derive, encrypt_cbc, sign_hmac
from tests.whatsapp_server.keys import KeyPair
from tests.whatsapp_server.wire import read_fields, write_fields

KEY_TYPE = b"\x05"
"""Stands before every public key on the wire."""

VERSION = b"\x33"
MAC_BYTES = 8
REGISTRATION = 42
SIGNED_PREKEY = 1

RATCHET_KEY, COUNTER, PREVIOUS_COUNTER, CIPHERTEXT = 1, 2, 3, 4
"""Fields of a message."""

PREKEY, BASE_KEY, IDENTITY_KEY, MESSAGE, REGISTRATION_ID, SIGNED_PREKEY_ID = 1, 2, 3, 4, 5, 6
"""Fields of a message that opens a session."""


class Undecryptable(Exception):
    """No session of the correspondent can read a message."""


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """The public keys that a linked device has uploaded."""

    identity: bytes
    signed_prekey_id: int
    signed_prekey: bytes


@dataclass(slots=True)
class _Chain:
    """One direction's keys since the last turn of the ratchet: each step yields the seed of one message's keys."""

    key: bytes
    seeds: list[bytes] = field(default_factory=list)

    def seed(self, counter: int) -> bytes:
        while len(self.seeds) <= counter:
            self.seeds.append(sign_hmac(self.key, b"\x01"))
            self.key = sign_hmac(self.key, b"\x02")
        return self.seeds[counter]


@dataclass(slots=True)
class _Session:
    """A double ratchet with one device."""

    our_identity: bytes
    their_identity: bytes
    root: bytes
    ratchet: KeyPair
    receiving: dict[bytes, _Chain] = field(default_factory=dict)
    sending: _Chain = field(default_factory=lambda: _Chain(b""))
    opening: dict[int, int | bytes] | None = None
    """What opens the session at the other side, sent along until the device has answered."""

    def _turn(self, theirs: bytes) -> tuple[bytes, _Chain]:
        """The root key and the chain that follow from the other side's new ratchet key."""
        keys = derive(self.ratchet.agree(theirs), self.root, b"WhisperRatchet", 64)
        return keys[:32], _Chain(keys[32:])

    def start_sending(self, theirs: bytes) -> None:
        """Turn the own side of the ratchet."""
        self.ratchet = KeyPair.generate()
        self.root, self.sending = self._turn(theirs)

    def decrypt(self, message: bytes) -> bytes:
        """Read a message; raises `Undecryptable`, with nothing changed, if it is not of this session."""
        fields = read_fields(message[1:-MAC_BYTES])
        theirs, counter = bytes(fields[RATCHET_KEY])[1:], int(fields.get(COUNTER, 0))
        known = self.receiving.get(theirs)
        root, chain = (self.root, known) if known else self._turn(theirs)
        cipher_key, mac_key, iv = _message_keys(chain.seed(counter))
        if message[-MAC_BYTES:] != _mac(mac_key, self.their_identity, self.our_identity, message[:-MAC_BYTES]):
            raise Undecryptable
        if not known:
            self.root, self.receiving[theirs] = root, chain
            self.start_sending(theirs)
        self.opening = None
        return decrypt_cbc(cipher_key, iv, bytes(fields[CIPHERTEXT]))

    def encrypt(self, plaintext: bytes) -> bytes:
        counter = len(self.sending.seeds)
        cipher_key, mac_key, iv = _message_keys(self.sending.seed(counter))
        body = VERSION + write_fields(
            {
                RATCHET_KEY: KEY_TYPE + self.ratchet.public,
                COUNTER: counter,
                PREVIOUS_COUNTER: 0,
                CIPHERTEXT: encrypt_cbc(cipher_key, iv, plaintext),
            }
        )
        return body + _mac(mac_key, self.our_identity, self.their_identity, body)


def _message_keys(seed: bytes) -> tuple[bytes, bytes, bytes]:
    keys = derive(seed, None, b"WhisperMessageKeys", 80)
    return keys[:32], keys[32:64], keys[64:]


def _mac(key: bytes, sender: bytes, receiver: bytes, body: bytes) -> bytes:
    return sign_hmac(key, KEY_TYPE + sender, KEY_TYPE + receiver, body)[:MAC_BYTES]


def _root_keys(*secrets: bytes) -> tuple[bytes, bytes]:
    keys = derive(b"\xff" * 32 + b"".join(secrets), None, b"WhisperText", 64)
    return keys[:32], keys[32:]


def pad(message: bytes) -> bytes:
    """Hide a message's length, as WhatsApp does before encrypting."""
    length = os.urandom(1)[0] % 15 + 1
    return message + bytes([length]) * length


def unpad(padded: bytes) -> bytes:
    """Undo `pad`."""
    return padded[: -padded[-1]]


class Correspondent:
    """Someone devices write to. `peer` names the other end of a conversation, as `contact/device`.

    All contacts may share one: who is who is told by the addresses, and thousands of contacts cost nothing.
    """

    def __init__(self) -> None:
        self.identity = KeyPair.generate()
        self.prekey = KeyPair.generate()
        self.prekey_signature = self.identity.sign(KEY_TYPE + self.prekey.public)
        self._sessions: dict[str, dict[bytes, _Session]] = {}

    def forget(self, peer: str) -> None:
        """Drop every session of one conversation."""
        self._sessions.pop(peer, None)

    def decrypt(self, peer: str, ciphertext: bytes, *, opens_session: bool) -> bytes:
        """The message without padding; raises `Undecryptable`."""
        sessions = self._sessions.setdefault(peer, {})
        if opens_session:
            fields = read_fields(ciphertext[1:])
            base = bytes(fields[BASE_KEY])[1:]
            if base not in sessions:
                sessions[base] = self._accept(base, bytes(fields[IDENTITY_KEY])[1:])
            candidates, ciphertext = [base], bytes(fields[MESSAGE])
        else:
            candidates = list(reversed(sessions))
        for name in candidates:
            try:
                plaintext = sessions[name].decrypt(ciphertext)
            except Undecryptable:
                continue
            sessions[name] = sessions.pop(name)  # the newest is the last
            return unpad(plaintext)
        raise Undecryptable(peer)

    def encrypt(self, peer: str, plaintext: bytes, keys: DeviceKeys) -> tuple[str, bytes]:
        """The kind of message, `pkmsg` or `msg`, and its ciphertext, in the conversation's newest session or in a new one."""
        sessions = self._sessions.setdefault(peer, {})
        if not sessions:
            name, session = self._open(keys)
            sessions[name] = session
        session = next(reversed(sessions.values()))
        message = session.encrypt(pad(plaintext))
        if session.opening is None:
            return "msg", message
        return "pkmsg", VERSION + write_fields({**session.opening, MESSAGE: message})

    def _accept(self, base: bytes, identity: bytes) -> _Session:
        root, _ = _root_keys(self.prekey.agree(identity), self.identity.agree(base), self.prekey.agree(base))
        return _Session(self.identity.public, identity, root, self.prekey)

    def _open(self, keys: DeviceKeys) -> tuple[bytes, _Session]:
        base, theirs = KeyPair.generate(), keys.signed_prekey
        root, chain = _root_keys(self.identity.agree(theirs), base.agree(keys.identity), base.agree(theirs))
        session = _Session(self.identity.public, keys.identity, root, base, {theirs: _Chain(chain)})
        session.start_sending(theirs)
        session.opening = {
            BASE_KEY: KEY_TYPE + base.public,
            IDENTITY_KEY: KEY_TYPE + self.identity.public,
            REGISTRATION_ID: REGISTRATION,
            SIGNED_PREKEY_ID: keys.signed_prekey_id,
        }
        return base.public, session

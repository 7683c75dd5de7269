"""The Noise XX handshake and the encrypted frames that follow it, from the server's side."""

import hashlib
import time
from dataclasses import dataclass, field

from neonize.proto.waCert import WACert_pb2 as certificates
from neonize.proto.waWa6 import WAWebProtobufsWa6_pb2 as handshakes

from tests.whatsapp_server.binary import Tokens, decode, encode
from tests.whatsapp_server.crypto import decrypt_gcm, derive, encrypt_gcm
from tests.whatsapp_server.keys import KeyPair
from tests.whatsapp_server.nodes import Node
from tests.whatsapp_server.websocket import WebSocket

PATTERN = b"Noise_XX_25519_AESGCM_SHA256\0\0\0\0"
MAGIC = b"WA"
HEADER_BYTES = 4
LENGTH_BYTES = 3
DAY_SECONDS = 86_400


def _nonce(counter: int) -> bytes:
    return counter.to_bytes(12, "big")


def _sign_certificate(issuer: KeyPair, serial: int, issuer_serial: int, key: bytes) -> certificates.CertChain.NoiseCertificate:
    now = int(time.time())
    details = certificates.CertChain.NoiseCertificate.Details(
        serial=serial, issuerSerial=issuer_serial, key=key, notBefore=now - DAY_SECONDS, notAfter=now + 365 * DAY_SECONDS
    ).SerializeToString()
    return certificates.CertChain.NoiseCertificate(details=details, signature=issuer.sign(details))


@dataclass(frozen=True, slots=True)
class Identity:
    """The server's own keys: clients trust whom `root` has signed for."""

    root: KeyPair
    static: KeyPair
    chain: bytes

    @classmethod
    def generate(cls) -> "Identity":
        """New keys with a signed chain from the root to the static key."""
        root, intermediate, static = KeyPair.generate(), KeyPair.generate(), KeyPair.generate()
        chain = certificates.CertChain(
            intermediate=_sign_certificate(root, 1, 0, intermediate.public),
            leaf=_sign_certificate(intermediate, 2, 1, static.public),
        )
        return cls(root, static, chain.SerializeToString())


@dataclass(slots=True)
class _Handshake:
    """The symmetric state of a handshake in progress."""

    digest: bytes = PATTERN
    salt: bytes = PATTERN
    key: bytes = PATTERN
    counter: int = 0

    def authenticate(self, data: bytes) -> None:
        self.digest = hashlib.sha256(self.digest + data).digest()

    def mix(self, secret: bytes) -> None:
        keys = derive(secret, self.salt, b"", 64)
        self.salt, self.key, self.counter = keys[:32], keys[32:], 0

    def encrypt(self, plaintext: bytes) -> bytes:
        ciphertext = encrypt_gcm(self.key, _nonce(self.counter), plaintext, self.digest)
        self.counter += 1
        self.authenticate(ciphertext)
        return ciphertext

    def decrypt(self, ciphertext: bytes) -> bytes:
        plaintext = decrypt_gcm(self.key, _nonce(self.counter), ciphertext, self.digest)
        self.counter += 1
        self.authenticate(ciphertext)
        return plaintext


@dataclass(slots=True)
class Frames:
    """The frames on a WebSocket, with the keys once the handshake is over."""

    socket: WebSocket
    tokens: Tokens
    buffer: bytes = b""
    read_key: bytes = b""
    write_key: bytes = b""
    read_counter: int = 0
    write_counter: int = field(default=0)

    async def shake_hands(self, identity: Identity) -> handshakes.ClientPayload:
        """Prove the server to the client; returns what the client says of itself."""
        header = await self._take(HEADER_BYTES)
        if header[:2] != MAGIC:
            raise ValueError(f"no WhatsApp client begins with {header!r}")
        state = _Handshake()
        state.authenticate(header)
        client_ephemeral = handshakes.HandshakeMessage.FromString(await self._read()).clientHello.ephemeral
        state.authenticate(client_ephemeral)
        ephemeral = KeyPair.generate()
        state.authenticate(ephemeral.public)
        state.mix(ephemeral.agree(client_ephemeral))
        static = state.encrypt(identity.static.public)
        state.mix(identity.static.agree(client_ephemeral))
        hello = handshakes.HandshakeMessage.ServerHello(
            ephemeral=ephemeral.public, static=static, payload=state.encrypt(identity.chain)
        )
        await self._write(handshakes.HandshakeMessage(serverHello=hello).SerializeToString())
        finish = handshakes.HandshakeMessage.FromString(await self._read()).clientFinish
        state.mix(ephemeral.agree(state.decrypt(finish.static)))
        payload = handshakes.ClientPayload.FromString(state.decrypt(finish.payload))
        keys = derive(b"", state.salt, b"", 64)
        self.read_key, self.write_key = keys[:32], keys[32:]
        return payload

    async def receive(self) -> Node:
        """The next stanza."""
        plaintext = decrypt_gcm(self.read_key, _nonce(self.read_counter), await self._read())
        self.read_counter += 1
        return decode(plaintext, self.tokens)

    async def send(self, node: Node) -> None:
        """Send a stanza."""
        frame = encrypt_gcm(self.write_key, _nonce(self.write_counter), encode(node))
        self.write_counter += 1
        await self._write(frame)

    async def _take(self, length: int) -> bytes:
        while len(self.buffer) < length:
            self.buffer += await self.socket.receive()
        taken, self.buffer = self.buffer[:length], self.buffer[length:]
        return taken

    async def _read(self) -> bytes:
        return await self._take(int.from_bytes(await self._take(LENGTH_BYTES), "big"))

    async def _write(self, frame: bytes) -> None:
        await self.socket.send(len(frame).to_bytes(LENGTH_BYTES, "big") + frame)

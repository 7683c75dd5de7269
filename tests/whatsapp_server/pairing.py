"""Linking a device to an account: by a QR code that the phone scans, or a code that its owner types in."""

import asyncio
import hashlib
import os
import time
from base64 import b64decode
from dataclasses import dataclass, field

from neonize.proto.waAdv import WAAdv_pb2 as identities

from tests.whatsapp_server.accounts import Account, DeviceConnection, LinkedDevice, Unknown
from tests.whatsapp_server.crypto import CryptoError, agree, apply_ctr, decrypt_gcm, derive, sign_hmac
from tests.whatsapp_server.keys import KeyPair
from tests.whatsapp_server.nodes import SERVER, Node, Value

QR_CODES = 6
ACCOUNT_SIGNATURE = b"\x06\x00"
CODE_ROUNDS = 2 << 16
"""Rounds of PBKDF2 that turn a typed code into a key."""


class NotLinked(Exception):
    """The client did not accept the phone, or the phone the code."""


@dataclass(slots=True)
class CodeRequest:
    """A client waits for its code to be typed in at the phone of a number."""

    number: str
    ref: bytes
    wrapped_key: bytes
    finished: asyncio.Future[Node]


@dataclass(slots=True)
class Pairing:
    """An unlinked client's connection: what it offers, and the phone's answer."""

    connection: DeviceConnection
    refs: list[str] = field(default_factory=lambda: [f"ref-{os.urandom(6).hex()}" for _ in range(QR_CODES)])
    code: CodeRequest | None = None
    signed: "asyncio.Future[Node] | None" = None
    interrupted: bool = False
    """Lose the connection when everything is agreed, before the client is told to log in."""

    async def offer(self, count: int) -> None:
        """Give the client what so many QR codes are made of."""
        refs = [Node("ref", {}, ref.encode()) for ref in self.refs[:count]]
        await self.connection.send(
            Node("iq", {"from": SERVER, "type": "set", "id": "pair-device", "xmlns": "md"}, [Node("pair-device", {}, refs)])
        )

    def request_code(self, node: Node) -> list[Node]:
        """Answer a client that shows a code instead of a QR code."""
        self.code = CodeRequest(
            node.jid_of("jid").user,
            os.urandom(8),
            node["link_code_pairing_wrapped_companion_ephemeral_pub"].data,
            asyncio.get_running_loop().create_future(),
        )
        return [Node("link_code_companion_reg", {}, [Node("link_code_pairing_ref", {}, self.code.ref)])]

    async def scan(self, qr: str, account: Account) -> LinkedDevice:
        """What a phone does with a scanned QR code; raises `NotLinked`."""
        _, _, identity, secret, *_ = qr.partition("#")[2].split(",")
        return await self._link(account, b64decode(identity), b64decode(secret))

    async def enter_code(self, typed: str, account: Account) -> LinkedDevice:
        """What a phone does with a typed code; raises `NotLinked` if it is wrong."""
        if self.code is None:
            raise Unknown("no code was asked for")
        code = typed.replace("-", "").encode()
        companion_key = _unwrap(code, self.code.wrapped_key)
        ephemeral, phone = KeyPair.generate(), account.phone.identity
        hello = [
            Node("link_code_pairing_wrapped_primary_ephemeral_pub", {}, _wrap(code, ephemeral.public)),
            Node("primary_identity_pub", {}, phone.public),
            Node("link_code_pairing_ref", {}, self.code.ref),
        ]
        await self.connection.send(
            Node(
                "notification",
                {"from": SERVER, "type": "link_code_companion_reg", "id": "enter-code", "t": int(time.time())},
                [Node("link_code_companion_reg", {"stage": "primary_hello"}, hello)],
            )
        )
        finish = await self.code.finished
        shared = agree(ephemeral.private, companion_key)
        bundle = finish["link_code_pairing_wrapped_key_bundle"].data
        key = derive(shared, bundle[:32], b"link_code_pairing_key_bundle_encryption_key", 32)
        try:
            keys = decrypt_gcm(key, bundle[32:44], bundle[44:])
        except CryptoError as error:
            raise NotLinked("wrong code") from error
        identity, randomness = keys[:32], keys[64:96]
        secret = derive(shared + phone.agree(identity) + randomness, None, b"adv_secret", 32)
        return await self._link(account, identity, secret)

    async def _link(self, account: Account, identity: bytes, secret: bytes) -> LinkedDevice:
        device = account.link(identity)
        phone = account.phone.identity
        details = identities.ADVDeviceIdentity(rawID=1, timestamp=int(time.time()), keyIndex=device.device).SerializeToString()
        signed = identities.ADVSignedDeviceIdentity(
            details=details,
            accountSignatureKey=phone.public,
            accountSignature=phone.sign(ACCOUNT_SIGNATURE + details + identity),
        ).SerializeToString()
        proof = identities.ADVSignedDeviceIdentityHMAC(details=signed, HMAC=sign_hmac(secret, signed)).SerializeToString()
        success = [
            Node("device-identity", {}, proof),
            Node("device", {"jid": device.jid, "lid": device.lid}),
            Node("platform", {"name": "android"}),
        ]
        self.signed = asyncio.get_running_loop().create_future()
        attributes: dict[str, Value] = {
            "from": SERVER,
            "type": "set",
            "id": "pair-success",
            "xmlns": "md",
            "t": int(time.time()),
        }
        await self.connection.send(Node("iq", attributes, [Node("pair-success", {}, success)]))
        answer = await self.signed
        if answer.find("pair-device-sign") is None:
            del account.devices[device.device]
            raise NotLinked(answer["error"].text_of("text"))
        if self.interrupted:
            await self.connection.close()
        else:
            await self.connection.say_goodbye(Node("stream:error", {"code": "515"}))
        return device


def _code_key(code: bytes, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", code, salt, CODE_ROUNDS)


def _wrap(code: bytes, public: bytes) -> bytes:
    salt, iv = os.urandom(32), os.urandom(16)
    return salt + iv + apply_ctr(_code_key(code, salt), iv, public)


def _unwrap(code: bytes, wrapped: bytes) -> bytes:
    salt, iv, encrypted = wrapped[:32], wrapped[32:48], wrapped[48:80]
    return apply_ctr(_code_key(code, salt), iv, encrypted)

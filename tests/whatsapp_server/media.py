"""The media server: keeps encrypted files by path, as uploaded by devices or by contacts."""

import hashlib
import os
from base64 import urlsafe_b64encode
from dataclasses import dataclass

from tests.whatsapp_server.crypto import decrypt_cbc, derive, encrypt_cbc, sign_hmac

HOST = "mmg.whatsapp.net"
KINDS = {
    "image": b"WhatsApp Image Keys",
    "video": b"WhatsApp Video Keys",
    "audio": b"WhatsApp Audio Keys",
    "document": b"WhatsApp Document Keys",
    "sticker": b"WhatsApp Image Keys",
}
HISTORY = b"WhatsApp History Keys"
MAC_BYTES = 10


@dataclass(frozen=True, slots=True)
class Upload:
    """Where a file of a contact lies and what a device needs to read it."""

    direct_path: str
    media_key: bytes
    plain_hash: bytes
    encrypted_hash: bytes
    length: int

    @property
    def url(self) -> str:
        return f"https://{HOST}{self.direct_path}"


def _keys(media_key: bytes, purpose: bytes) -> tuple[bytes, bytes, bytes]:
    keys = derive(media_key, None, purpose, 112)
    return keys[:16], keys[16:48], keys[48:80]


class MediaStore:
    """The files by path; `status` is what every request is answered with instead, if it is not 200."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.uploaded: list[str] = []
        self.status = 200

    def put(self, path: str, content: bytes) -> dict[str, str]:
        """Keep what a device uploads; returns the answer that it expects."""
        self.files[path] = content
        self.uploaded.append(path)
        return {"url": f"https://{HOST}{path}", "direct_path": f"{path}?ccb=1", "handle": "handle"}

    def upload(self, content: bytes, purpose: bytes) -> Upload:
        """Encrypt and keep a file that a contact sends."""
        media_key = os.urandom(32)
        iv, cipher_key, mac_key = _keys(media_key, purpose)
        ciphertext = encrypt_cbc(cipher_key, iv, content)
        encrypted = ciphertext + sign_hmac(mac_key, iv, ciphertext)[:MAC_BYTES]
        encrypted_hash = hashlib.sha256(encrypted).digest()
        path = f"/v/{urlsafe_b64encode(encrypted_hash).decode()}"
        self.files[path] = encrypted
        return Upload(f"{path}?ccb=1", media_key, hashlib.sha256(content).digest(), encrypted_hash, len(content))

    def open(self, direct_path: str, media_key: bytes, purpose: bytes) -> bytes | None:
        """What a recipient reads of a device's file; None if it was never uploaded."""
        encrypted = self.files.get(direct_path.partition("?")[0])
        if encrypted is None:
            return None
        iv, cipher_key, mac_key = _keys(media_key, purpose)
        ciphertext, mac = encrypted[:-MAC_BYTES], encrypted[-MAC_BYTES:]
        if sign_hmac(mac_key, iv, ciphertext)[:MAC_BYTES] != mac:
            raise ValueError(f"the file at {direct_path} was not encrypted with its key")
        return decrypt_cbc(cipher_key, iv, ciphertext)

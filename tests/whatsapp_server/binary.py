"""The binary form of stanzas, in which frequent words are numbers from the client's own tables."""

import zlib
from dataclasses import dataclass

from tests.whatsapp_server.nodes import LIDS, USERS, Jid, Node, Value

LIST_EMPTY, LIST_8, LIST_16 = 0, 248, 249
DICTIONARY_0, DICTIONARY_3 = 236, 239
DEVICE_JID, JID_PAIR = 247, 250
HEX_8, BINARY_8, BINARY_20, BINARY_32, NIBBLE_8 = 251, 252, 253, 254, 255

NIBBLES, HEX_DIGITS = "0123456789-.", "0123456789ABCDEF"
AGENTS = {0: USERS, 1: LIDS}
COMPRESSED = 2
"""A bit of a frame's first byte."""

Read = Node | Value | bytes | list[Node] | None


@dataclass(frozen=True, slots=True)
class Tokens:
    """The words with a number of one byte, and the four dictionaries of 256 words with a number of two bytes."""

    single: list[str]
    double: list[list[str]]


class _Reader:
    def __init__(self, data: bytes, tokens: Tokens) -> None:
        self.data = data
        self.tokens = tokens
        self.position = 0

    def take(self, length: int) -> bytes:
        chunk = self.data[self.position : self.position + length]
        if len(chunk) < length:
            raise ValueError("the stanza ends early")
        self.position += length
        return chunk

    def number(self, length: int = 1) -> int:
        return int.from_bytes(self.take(length), "big")

    def list_size(self, kind: int) -> int:
        return {LIST_EMPTY: 0, LIST_8: 1, LIST_16: 2}[kind] and self.number(1 if kind == LIST_8 else 2)

    def packed(self, alphabet: str) -> str:
        start = self.number()
        text = "".join(
            alphabet[half] if half < len(alphabet) else "" for byte in self.take(start & 127) for half in (byte >> 4, byte & 15)
        )
        odd = start >> 7
        return text[:-1] if odd and len(text) == 2 * (start & 127) else text

    def blob(self, kind: int) -> bytes:
        if kind == BINARY_20:
            return self.take(self.number(3) & 0xFFFFF)
        return self.take(self.number(1 if kind == BINARY_8 else 4))

    def value(self, *, as_text: bool) -> Read:
        kind = self.number()
        if kind == LIST_EMPTY:
            return None
        if kind in {LIST_8, LIST_16}:
            return [self.node() for _ in range(self.list_size(kind))]
        if kind in {BINARY_8, BINARY_20, BINARY_32}:
            blob = self.blob(kind)
            return blob.decode() if as_text else blob
        return self.word(kind)

    def word(self, kind: int) -> Value:
        if DICTIONARY_0 <= kind <= DICTIONARY_3:
            return self.tokens.double[kind - DICTIONARY_0][self.number()]
        if kind == JID_PAIR:
            return Jid(self.text(), self.text())
        if kind == DEVICE_JID:
            agent, device = self.number(), self.number()
            return Jid(self.text(), AGENTS[agent], device)
        if kind in {HEX_8, NIBBLE_8}:
            return self.packed(HEX_DIGITS if kind == HEX_8 else NIBBLES)
        return self.tokens.single[kind]

    def text(self) -> str:
        value = self.value(as_text=True)
        return "" if value is None else str(value)

    def node(self) -> Node:
        size = self.list_size(self.number())
        node = Node(self.text())
        for _ in range((size - 1) // 2):
            name = self.text()
            value = self.value(as_text=True)
            node.attributes[name] = value if isinstance(value, Jid) else str(value)
        if size % 2 == 0:
            content = self.value(as_text=False)
            node.content = content if isinstance(content, list | bytes) else None if content is None else str(content)
        return node


def decode(frame: bytes, tokens: Tokens) -> Node:
    """Read the stanza of one decrypted frame; raises `ValueError` if it is cut off."""
    body = frame[1:]
    return _Reader(zlib.decompress(body) if frame[0] & COMPRESSED else body, tokens).node()


def _encode_bytes(value: bytes) -> bytes:
    if len(value) < 1 << 8:
        return bytes([BINARY_8, len(value)]) + value
    if len(value) < 1 << 20:
        return bytes([BINARY_20]) + len(value).to_bytes(3, "big") + value
    return bytes([BINARY_32]) + len(value).to_bytes(4, "big") + value


def _encode_jid(jid: Jid) -> bytes:
    user = _encode_bytes(jid.user.encode())
    if jid.device:
        return bytes([DEVICE_JID, int(jid.server == LIDS), jid.device]) + user
    return bytes([JID_PAIR]) + (user if jid.user else bytes([LIST_EMPTY])) + _encode_bytes(jid.server.encode())


def _encode_list_start(size: int) -> bytes:
    if not size:
        return bytes([LIST_EMPTY])
    return bytes([LIST_8, size]) if size < 1 << 8 else bytes([LIST_16]) + size.to_bytes(2, "big")


def _encode_node(node: Node) -> bytes:
    parts = [_encode_list_start(1 + 2 * len(node.attributes) + (node.content is not None)), _encode_bytes(node.tag.encode())]
    for name, value in node.attributes.items():
        parts += [
            _encode_bytes(name.encode()),
            _encode_jid(value) if isinstance(value, Jid) else _encode_bytes(str(value).encode()),
        ]
    if isinstance(node.content, list):
        parts += [_encode_list_start(len(node.content)), *map(_encode_node, node.content)]
    elif node.content is not None:
        parts.append(_encode_bytes(node.data))
    return b"".join(parts)


def encode(node: Node) -> bytes:
    """Write a stanza. No word is abbreviated: the client understands that, and the tables stay a matter of reading."""
    return b"\0" + _encode_node(node)

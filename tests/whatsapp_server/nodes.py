"""Stanzas: the XML-like nodes that client and server exchange, and the addresses (JIDs) in them."""

from dataclasses import dataclass, field
from typing import Self

USERS, LIDS = "s.whatsapp.net", "lid"
"""The two kinds of personal addresses: by phone number, and by WhatsApp's own number of the user."""


@dataclass(frozen=True, slots=True)
class Jid:
    """An address; device 0 is the phone itself. Without a user it is a server."""

    user: str
    server: str = USERS
    device: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `user@server`, `user:device@server` or `server`."""
        name, _, server = text.rpartition("@")
        user, _, device = name.partition(":")
        return cls(user, server, int(device or 0))

    @property
    def bare(self) -> "Jid":
        """The same user without the device."""
        return Jid(self.user, self.server)

    def __str__(self) -> str:
        device = f":{self.device}" if self.device else ""
        return f"{self.user}{device}@{self.server}" if self.user else self.server


SERVER = Jid("")

Value = str | int | Jid


@dataclass(slots=True)
class Node:
    """One stanza or a part of one. Attributes sent may be numbers; those received are text or addresses."""

    tag: str
    attributes: dict[str, Value] = field(default_factory=dict)
    content: "list[Node] | bytes | str | None" = None

    @property
    def children(self) -> "list[Node]":
        """The nodes inside; none if the content is data."""
        return self.content if isinstance(self.content, list) else []

    def find(self, *path: str) -> "Node | None":
        """The first node at a path of tags below this one."""
        node: Node | None = self
        for tag in path:
            node = next((child for child in node.children if child.tag == tag), None) if node else None
        return node

    def __getitem__(self, tag: str) -> "Node":
        """The first child with that tag; raises `KeyError`."""
        found = self.find(tag)
        if found is None:
            raise KeyError(tag)
        return found

    @property
    def data(self) -> bytes:
        """The content as bytes."""
        return (
            self.content if isinstance(self.content, bytes) else self.content.encode() if isinstance(self.content, str) else b""
        )

    def text_of(self, name: str) -> str:
        """An attribute as text; empty if missing."""
        return str(self.attributes.get(name, ""))

    def jid_of(self, name: str) -> Jid:
        """An attribute as an address; raises `KeyError` if missing."""
        value = self.attributes[name]
        return value if isinstance(value, Jid) else Jid.parse(str(value))

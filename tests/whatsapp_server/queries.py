"""Answers to the queries of clients (`iq` stanzas), by namespace."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.whatsapp_server.accounts import LinkedDevice, lid_of, number_of
from tests.whatsapp_server.media import HOST
from tests.whatsapp_server.nodes import Jid, Node, Value
from tests.whatsapp_server.signal import KEY_TYPE, REGISTRATION, SIGNED_PREKEY, Correspondent, DeviceKeys

if TYPE_CHECKING:
    from tests.whatsapp_server.connection import Connection
    from tests.whatsapp_server.server import WhatsAppServer

ENOUGH_PREKEYS = 50
"""What the server claims to hold before it holds any, so that a new client uploads 50 keys instead of 812."""

Answer = list[Node] | None


class QueryRefused(Exception):
    """A query is answered with an error."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def answer_query(server: "WhatsAppServer", connection: "Connection", query: Node) -> Answer:
    """The content of the answer; None, an empty answer, for all that the server does not know. Raises `QueryRefused`."""
    answer = ANSWERS.get(query.text_of("xmlns"))
    return answer(server, connection, query) if answer else None


def _answer_encryption(server: "WhatsAppServer", connection: "Connection", query: Node) -> Answer:
    device = connection.device
    if device is None:
        return None
    if query.text_of("type") == "set":
        _keep_keys(device, query)
        return None
    if query.find("count"):
        return [Node("count", {"value": max(device.prekeys, ENOUGH_PREKEYS)})]
    if wanted := query.find("key"):
        return [Node("list", {}, [_bundle(server, user.jid_of("jid")) for user in wanted.children])]
    return None


def _keep_keys(device: LinkedDevice, query: Node) -> None:
    if (signed := query.find("skey")) and (identity := query.find("identity")):
        device.keys = DeviceKeys(identity.data, int.from_bytes(signed["id"].data, "big"), signed["value"].data)
    if keys := query.find("list"):
        device.prekeys += len(keys.children)


def correspondent_of(server: "WhatsAppServer", jid: Jid) -> Correspondent:
    """Whoever reads what is sent to an address: an account's own phone, or a contact."""
    account = server.accounts.get(number_of(jid))
    return account.phone if account else server.contacts


def _bundle(server: "WhatsAppServer", jid: Jid) -> Node:
    correspondent = correspondent_of(server, jid)
    signed = [
        Node("id", {}, SIGNED_PREKEY.to_bytes(3, "big")),
        Node("value", {}, correspondent.prekey.public),
        Node("signature", {}, correspondent.prekey_signature),
    ]
    content = [
        Node("registration", {}, REGISTRATION.to_bytes(4, "big")),
        Node("type", {}, KEY_TYPE),
        Node("identity", {}, correspondent.identity.public),
        Node("skey", {}, signed),
    ]
    return Node("user", {"jid": jid, "t": int(time.time())}, content)


def _answer_users(server: "WhatsAppServer", connection: "Connection", query: Node) -> Answer:
    wanted = {node.tag for node in query["usync"]["query"].children}
    users = [_describe_user(server, connection, user, wanted) for user in query["usync"]["list"].children]
    return [Node("usync", {}, [Node("list", {}, users)])]


def _describe_user(server: "WhatsAppServer", connection: "Connection", user: Node, wanted: set[str]) -> Node:
    asked = user.find("contact")
    if asked:
        number = asked.data.decode().partition("@")[0]
        digits = number.lstrip("+")
        registered = digits not in server.unregistered
        jids: dict[str, Value] = {"jid": lid_of(digits), "pn_jid": Jid(digits)} if registered else {"jid": Jid(digits)}
        return Node("user", jids, [Node("contact", {"type": "in" if registered else "out"}, number.encode())])
    jid = user.jid_of("jid")
    registered = number_of(jid) not in server.unregistered
    details = []
    if "lid" in wanted and registered:
        details.append(Node("lid", {"val": lid_of(number_of(jid))}))
    if "devices" in wanted and registered:
        numbers = [Node("device", {"id": number}) for number in _devices(connection, number_of(jid))]
        details.append(Node("devices", {}, [Node("device-list", {}, numbers)]))
    if "status" in wanted:
        details.append(Node("status", {}, b"Hey there!"))
    return Node("user", {"jid": jid}, details)


def _devices(connection: "Connection", number: str) -> list[int]:
    """A user's devices: the phone, and of the client's own account the client itself."""
    own = connection.device
    return [0, own.device] if own and own.number == number else [0]


def _answer_media(_server: "WhatsAppServer", _connection: "Connection", _query: Node) -> Answer:
    lifetimes: dict[str, Value] = {"auth": "loopback", "ttl": "300", "auth_ttl": "300", "max_buckets": "12"}
    return [Node("media_conn", lifetimes, [Node("host", {"hostname": HOST})])]


def _answer_picture(server: "WhatsAppServer", _connection: "Connection", query: Node) -> Answer:
    path = f"/pictures/{number_of(query.jid_of('target' if 'target' in query.attributes else 'to'))}"
    if path not in server.media.files:
        raise QueryRefused(404, "item-not-found")
    picture: dict[str, Value] = {"id": "1", "type": "image", "url": f"https://{HOST}{path}", "direct_path": path}
    return [Node("picture", picture)]


def _answer_linking(server: "WhatsAppServer", connection: "Connection", query: Node) -> Answer:
    if (code := query.find("link_code_companion_reg")) and connection.pairing:
        if code.text_of("stage") == "companion_hello":
            return connection.pairing.request_code(code)
        if connection.pairing.code:
            connection.pairing.code.finished.set_result(code)
    if query.find("remove-companion-device") and connection.device:
        server.unlink(connection.device)
    return None


ANSWERS: dict[str, Callable[["WhatsAppServer", "Connection", Node], Answer]] = {
    "encrypt": _answer_encryption,
    "usync": _answer_users,
    "w:m": _answer_media,
    "w:profile:picture": _answer_picture,
    "md": _answer_linking,
}

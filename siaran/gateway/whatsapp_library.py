"""The WhatsApp client library, loaded when it is first needed and only by processes that hold real connections.

Loading takes a second and 50 MB, starts threads of Go, and an error in there aborts the process.
"""

import logging
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Library:
    """The parts of neonize that Siaran uses; the library has no types worth the name."""

    client: Any
    """`NewAClient`."""

    events: Any
    """The module of event and value messages: `Message`, `Receipt`, `JID`, …"""

    contents: Any
    """The module of what messages carry (`waE2E`)."""

    device_props: Any
    media_type: Any
    send_error: type[Exception]
    error: type[Exception]


@cache
def load_library() -> Library:
    """Import neonize as Siaran wants it: without its tag for bots, and without its hands on the root logger."""
    os.environ["NEONIZE_BOT_TAG"] = "off"  # else every message says that a business's bot wrote it
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    from neonize.aioze.client import NewAClient  # noqa: PLC0415 - see the module
    from neonize.exc import NeonizeError, SendMessageError  # noqa: PLC0415
    from neonize.proto import Neonize_pb2 as events  # noqa: PLC0415
    from neonize.proto.waCompanionReg.WAWebProtobufsCompanionReg_pb2 import DeviceProps  # noqa: PLC0415
    from neonize.proto.waE2E import WAWebProtobufsE2E_pb2 as contents  # noqa: PLC0415
    from neonize.utils.enum import MediaType  # noqa: PLC0415

    root.handlers = handlers
    root.setLevel(level)
    logging.getLogger("neonize.utils.log").setLevel(logging.WARNING)  # the level of what its Go side logs, too
    return Library(NewAClient, events, contents, DeviceProps, MediaType, SendMessageError, NeonizeError)


def open_client(path: Path, app_os: str) -> Any:
    """A client (`NewAClient`) for a session file, not connected yet; `app_os` is what a phone shows of a newly linked device.

    It resumes the one device that the file holds, and offers QR codes if there is none. Nobody may have the file open in this
    process except an earlier client of the library.
    """
    library = load_library()
    props = library.device_props(os=app_os, platformType=library.device_props.DESKTOP)
    # By its jid, a client would have the account's number for its name: two links of one account would overwrite each other.
    client = library.client(str(path), uuid=path.name, props=props)
    client._stop_finalizer.detach()  # noqa: SLF001 - else the end of this object, or of the process, stops a client of that name
    client.event.qr(_ignore_code)
    return client


def silence_standard_output() -> None:
    """Throw away what the library's Go side prints, which names recipients and passes no filter; logs go another way."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


async def _ignore_code(_client: Any, _code: bytes) -> None:
    """In place of the library's own handler, which prints the code."""

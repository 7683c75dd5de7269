"""Run the server: `python -m tests.whatsapp_server FOLDER`, with its control socket at FOLDER/control."""

import asyncio
import sys
from pathlib import Path

from tests.whatsapp_server.channel import answer
from tests.whatsapp_server.control import Control
from tests.whatsapp_server.server import WhatsAppServer
from tests.whatsapp_server.tunnel import Tunnel


async def main(folder: Path) -> None:
    """Serve until the process is killed."""
    server = WhatsAppServer(folder)
    tunnel = Tunnel(server)
    port = await tunnel.listen()
    await answer(folder / "control", Control(server, tunnel, port))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))

"""What a host connects its devices through."""

from siaran.clock import Clock
from siaran.gateway.interface import Transport
from siaran.gateway.simulated import SimulatedTransport
from siaran.models import TransportKind
from siaran.settings import Settings


def open_transport(settings: Settings, clock: Clock, kind: TransportKind) -> Transport:
    """The transport of this process; raises `ValueError` when the simulated network is not configured."""
    if kind is TransportKind.WHATSAPP:
        # Imported here alone: the library starts threads of its own and takes 50 MB.
        from siaran.gateway.whatsapp import WhatsAppTransport  # noqa: PLC0415

        return WhatsAppTransport(
            settings.session_folder,
            clock=clock,
            app_os=settings.app_os,
            connect_pause_seconds=settings.connect_pause_seconds,
        )
    if settings.network_url is None:
        raise ValueError("no simulated network: set SIARAN_NETWORK_URL or start the embedded stack with `siaran up`")
    return SimulatedTransport(settings.network_url.get_secret_value(), clock=clock)

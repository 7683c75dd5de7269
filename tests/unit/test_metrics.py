"""Metrics that a process without an API of its own serves."""

import httpx
import pytest

from siaran.embedded.options import StackOptions, choose_ports
from siaran.metrics import serve_metrics
from siaran.settings import Settings


def test_without_the_setting_nothing_is_served() -> None:
    assert serve_metrics(Settings(), "worker") is None


async def test_processes_of_one_machine_serve_on_the_next_free_port() -> None:
    port = choose_ports(StackOptions().with_free_ports(), ["network_port"]).network_port
    settings = Settings(metrics_bind=f"127.0.0.1:{port}")
    servers = [serve_metrics(settings, "worker"), serve_metrics(settings, "host", "7")]
    try:
        assert [server.server_address[0] for server in servers if server] == ["127.0.0.1"] * 2
        assert [server.server_port for server in servers if server] == [port, port + 1]
        async with httpx.AsyncClient(trust_env=False) as client:
            answers = [await client.get(f"http://127.0.0.1:{number}/metrics") for number in (port, port + 1)]
    finally:
        for server in servers:
            if server is not None:
                server.shutdown()
                server.server_close()

    for answer in answers:
        assert 'siaran_process_info{host="7",role="host"} 1.0' in answer.text
        assert "# TYPE siaran_messages_total counter" in answer.text


def test_a_number_that_is_no_port_does_not_keep_a_process_from_its_work() -> None:
    assert serve_metrics(Settings(metrics_bind="127.0.0.1:99000"), "worker") is None


@pytest.mark.parametrize("bind", ["9400", "localhost", ":9400", "a b:1"])
def test_an_address_without_host_or_port_is_refused(bind: str) -> None:
    with pytest.raises(ValueError, match="metrics_bind"):
        Settings(metrics_bind=bind)

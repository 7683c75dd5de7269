"""The simulated network's configuration, and the decisions that follow from it."""

from dataclasses import replace

import pytest

from siaran.errors import Invalid
from siaran.gateway.interface import ReceiptKind, Rejected
from siaran.gateway.simulated_chance import Fate, fate_of, is_on_whatsapp
from siaran.gateway.simulated_config import FAILURE_CODES, NetworkConfig
from siaran.gateway.simulated_network import SimulatedNetwork
from tests.gateway.conftest import Client, NewClient
from tests.gateway.messages import connected, recorded, sent

PHONES = [f"6012{number:07d}" for number in range(2000)]


def fates(config: NetworkConfig) -> list[Fate]:
    return [fate_of(config, phone, 1) for phone in PHONES]


async def test_a_change_keeps_the_other_fields(network: SimulatedNetwork) -> None:
    await network.configure(failure_rate=0.05)
    changed = await network.configure(seed=9, failure_codes={"rejected_479": 1})
    assert changed == await network.config()
    assert (changed.failure_rate, changed.seed, changed.failure_codes) == (0.05, 9, {"rejected_479": 1})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"failure_rate": 1.5}, "failure_rate"),
        ({"failure_rate": "often"}, "failure_rate"),
        ({"latency_ms": (400, 100)}, "latency_ms"),
        ({"latency_ms": (-1, 100)}, "latency_ms.0"),
        ({"read_seconds": (0, float("inf"))}, "read_seconds.1"),
        ({"failure_codes": {"server_error_999": 1}}, "failure_codes"),
        ({"failure_codes": {"server_error_500": 0}}, "failure_codes"),
        ({"failure_codes": {}}, "failure_codes"),
        ({"colour": "green"}, "colour"),
    ],
)
async def test_a_wrong_value_is_refused_by_its_field_and_changes_nothing(
    network: SimulatedNetwork, changes: dict[str, object], field: str
) -> None:
    before = await network.config()
    with pytest.raises(Invalid) as caught:
        await network.configure(seed=99, **changes)
    assert [error.field for error in caught.value.errors] == [field]
    assert await network.config() == before


async def test_a_change_counts_from_the_next_send_in_every_process(network: SimulatedNetwork, new_client: NewClient) -> None:
    clients = [await new_client() for _ in range(3)]
    devices = [await connected(network, client.transport) for client in clients]
    for rate in (1.0, 0.0, 1.0):
        await network.configure(failure_rate=rate)
        for client, device in zip(clients, devices, strict=True):
            if rate:
                with pytest.raises(Rejected):
                    await sent(client.transport, device)
            else:
                await sent(client.transport, device)
    assert len(await recorded(network)) == 3


async def test_the_same_seed_and_order_repeat_a_run(network: SimulatedNetwork, client: Client) -> None:
    async def outcomes(seed: int) -> list[str]:
        await network.reset()
        await network.configure(seed=seed, latency_ms=(0, 0), failure_rate=0.3, rate_limit_rate=0.1, read_rate=0)
        device, codes = await connected(network, client.transport), []
        for phone in PHONES[:30] * 2:
            try:
                await sent(client.transport, device, phone)
                codes.append("accepted")
            except Rejected as error:
                codes.append(error.code)
        return codes

    first = await outcomes(5)
    assert first[:30] != first[30:]
    assert await outcomes(5) == first
    assert await outcomes(6) != first


def test_nothing_fails_unless_it_is_told_to() -> None:
    for fate in fates(NetworkConfig()):
        assert fate.rejection is None
        assert not fate.ack_lost
        assert fate.answer is None
        assert fate.receipts[0][0] is ReceiptKind.DELIVERED
        assert 0.1 <= fate.uplink + fate.downlink <= 0.4
        assert 0.3 <= fate.receipts[0][1] <= 3


def test_rates_are_kept() -> None:
    config = NetworkConfig(failure_rate=0.05, ack_loss_rate=0.1, delivered_rate=0.9, read_rate=0.5, not_on_whatsapp_rate=0.02)
    drawn = fates(config)

    def share(number: int) -> float:
        return number / len(PHONES)

    refused = [fate.rejection for fate in drawn]
    assert share(sum(code in FAILURE_CODES for code in refused)) == pytest.approx(0.05, abs=0.02)
    assert share(refused.count("not_on_whatsapp")) == pytest.approx(0.02, abs=0.012)
    assert share(sum(fate.ack_lost for fate in drawn)) == pytest.approx(0.1, abs=0.03)
    assert share(sum(bool(fate.receipts) for fate in drawn)) == pytest.approx(0.9, abs=0.03)
    assert share(sum(len(fate.receipts) == 2 for fate in drawn)) == pytest.approx(0.45, abs=0.04)


def test_codes_come_by_their_weights() -> None:
    config = NetworkConfig(failure_rate=1, failure_codes={"server_error_500": 3, "rejected_479": 1, "invalid_number": 0})
    codes = [fate.rejection for fate in fates(config)]
    assert codes.count("server_error_500") / len(codes) == pytest.approx(0.75, abs=0.04)
    assert set(codes) == {"server_error_500", "rejected_479"}


def test_a_retry_of_a_failed_send_is_drawn_anew() -> None:
    config = NetworkConfig(failure_rate=0.05)
    failed = [phone for phone in PHONES if fate_of(config, phone, 1).rejection]
    again = [phone for phone in failed if fate_of(config, phone, 2).rejection]
    assert failed
    assert len(again) <= len(failed) * 0.2


def test_one_rate_does_not_change_what_the_others_decide() -> None:
    calm, stormy = fates(NetworkConfig()), fates(NetworkConfig(failure_rate=1, ack_loss_rate=1))
    assert [replace(fate, rejection=None, ack_lost=False) for fate in stormy] == calm


def test_a_number_without_account_is_the_same_for_ever() -> None:
    config = NetworkConfig(not_on_whatsapp_rate=0.1)
    missing = {phone for phone in PHONES if not is_on_whatsapp(config, phone)}
    refused = {phone for phone in PHONES for attempt in range(1, 4) if fate_of(config, phone, attempt).rejection}
    assert missing == refused
    assert len(missing) / len(PHONES) == pytest.approx(0.1, abs=0.03)

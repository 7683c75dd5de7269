"""Linking simulated devices: codes, scans, numbers."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import phonenumbers
import pytest
import segno

from siaran.errors import Invalid
from siaran.gateway.interface import DeviceState
from siaran.gateway.simulated_chance import phone_of
from siaran.gateway.simulated_config import NetworkConfig
from siaran.gateway.simulated_linking import LinkCodeExpired, LinkCodeUnknown
from siaran.gateway.simulated_network import SimulatedNetwork
from tests.gateway.conftest import Client


async def test_a_scanned_code_links_the_device_it_was_made_for(network: SimulatedNetwork, client: Client) -> None:
    device_id, other_id = uuid4(), uuid4()
    code, other = await network.begin_link(device_id), await network.begin_link(other_id)

    linked = await network.scan(code.code)

    assert linked.device_id == device_id
    assert linked.jid == f"{linked.phone}:1@s.whatsapp.net"
    assert linked.link_generation == 1
    await client.transport.connect(linked.ref)
    assert client.transport.state(device_id) is DeviceState.ONLINE
    assert (await network.scan(other.token, "60123456789")).jid == "60123456789:1@s.whatsapp.net"
    assert (await network.device(device_id)).linked


async def test_a_code_fits_into_a_qr_code(network: SimulatedNetwork) -> None:
    code = await network.begin_link(uuid4())
    assert code.code.startswith("2@")
    assert len(code.code.split(",")) == 4
    assert segno.make_qr(code.code).designator


async def test_a_code_works_once(network: SimulatedNetwork) -> None:
    code = await network.begin_link(uuid4())
    await network.scan(code.token)
    with pytest.raises(LinkCodeUnknown):
        await network.scan(code.token)


async def test_an_unknown_code_links_nothing(network: SimulatedNetwork) -> None:
    with pytest.raises(LinkCodeUnknown):
        await network.scan("2@nothing,a,b,c")


async def test_a_fresh_code_ends_the_one_before(network: SimulatedNetwork) -> None:
    device_id = uuid4()
    first, second = await network.begin_link(device_id), await network.begin_link(device_id)
    with pytest.raises(LinkCodeExpired):
        await network.scan(first.token)
    assert (await network.scan(second.token)).device_id == device_id


async def test_a_code_expires(network_url: str, network: SimulatedNetwork) -> None:
    code = await network.begin_link(uuid4())
    assert timedelta(seconds=50) < code.expires_at - datetime.now(UTC) <= timedelta(seconds=60)
    async with SimulatedNetwork(network_url, clock=lambda: code.expires_at) as later:
        with pytest.raises(LinkCodeExpired):
            await later.scan(code.token)


async def test_a_pairing_code_links_the_phone_it_was_made_for(network: SimulatedNetwork) -> None:
    device_id = uuid4()
    code = await network.begin_pairing(device_id, "60123456789")
    assert len(code.code) == 9
    linked = await network.scan(code.code)
    assert (linked.device_id, linked.phone) == (device_id, "60123456789")


async def test_two_devices_of_one_account_have_different_jids(network: SimulatedNetwork) -> None:
    first, second = [await network.link(uuid4(), "60123456789") for _ in range(2)]
    assert (first.jid, second.jid) == ("60123456789:1@s.whatsapp.net", "60123456789:2@s.whatsapp.net")


@pytest.mark.parametrize("phone", ["", "+60123456789", "0123456789", "60 12", "1234567", "6" * 16])
async def test_a_phone_in_another_form_is_refused(network: SimulatedNetwork, phone: str) -> None:
    with pytest.raises(Invalid) as caught:
        await network.link(uuid4(), phone)
    assert [error.field for error in caught.value.errors] == ["phone"]


def test_devices_get_malaysian_mobile_numbers_that_follow_from_the_seed() -> None:
    ids = [uuid4() for _ in range(300)]
    phones = [phone_of(NetworkConfig(seed=7), device_id) for device_id in ids]
    for phone in phones:
        number = phonenumbers.parse(f"+{phone}")
        assert phonenumbers.is_valid_number(number)
        assert phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE
    assert phones == [phone_of(NetworkConfig(seed=7), device_id) for device_id in ids]
    assert phones != [phone_of(NetworkConfig(seed=8), device_id) for device_id in ids]

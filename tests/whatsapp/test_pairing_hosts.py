"""From the scan to the host and back: a device that its owner links goes online by itself, and is logged out while it is."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from siaran.models import DeviceStatus
from tests.cli.conftest import listening
from tests.waiting import eventually
from tests.whatsapp.linking_stage import LinkingStage
from tests.whatsapp.stage import Product, Stage
from tests.whatsapp_server.harness import WhatsApp

pytestmark = pytest.mark.whatsapp


@pytest.fixture
async def linking(product: Product, whatsapp: WhatsApp) -> AsyncIterator[LinkingStage]:
    """The API beside the fleet and the hosts, which are processes of their own."""
    async with listening(product.settings) as url:
        linking = LinkingStage(product.settings, product.sessions, whatsapp, url)
        yield linking
        for person in linking.people:
            await person.aclose()


async def test_a_device_goes_online_once_it_is_linked_and_is_logged_out_by_its_host(
    linking: LinkingStage, stage: Stage, whatsapp: WhatsApp, number: str
) -> None:
    person = await linking.register(f"{uuid4().hex}@example.com")
    device_id = await person.add_device()
    jid = await linking.link(person, device_id, number)
    await stage.reach(device_id, DeviceStatus.ONLINE)
    assert number in (await whatsapp.status())["online"]

    answer = await person.http.post("/app/logout", params={"deviceId": str(device_id)})
    assert answer.status_code == 200
    await linking.forgets(jid)
    await linking.keeps_no_session(device_id)

    async def is_closed() -> bool:
        return [row.done_at is not None for row in await linking.unlinkings(device_id)] == [True]

    await eventually(is_closed, within=20)
    [unlinking] = await linking.unlinkings(device_id)
    assert unlinking.tries == 0  # no process of the fleet had to do it
    assert (await stage.device(device_id)).status is DeviceStatus.LOGGED_OUT

    again = await linking.link(person, device_id, number)
    device = await stage.reach(device_id, DeviceStatus.ONLINE)
    assert (device.jid, device.link_generation) == (again, 2)

"""Media through the API: uploading, fetching by URL, reading, deleting."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import func, select, update

from api.app import create_app
from siaran.media import QUOTA, media_content
from siaran.media_types import LARGEST
from siaran.models import Media, Sequence, SequenceStep
from siaran.settings import Settings
from tests.api.campaign_rows import create, set_campaign, user_id_of
from tests.api.conftest import another_client, register
from tests.media_files import WebServer, jpeg, mp4, open_web_server, pdf, png, upload


@pytest.fixture
async def web() -> AsyncIterator[WebServer]:
    """A web server on loopback."""
    async with open_web_server() as web:
        yield web


@pytest.fixture
async def app_of_intranet(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application where private targets are allowed."""
    app = create_app(settings.model_copy(update={"allow_private_targets": True}))
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture
def intranet(api: AsyncClient, app_of_intranet: FastAPI) -> AsyncClient:
    """A client of it that is not logged in."""
    client = another_client(api)
    client._transport = type(api._transport)(app_of_intranet)  # type: ignore[call-arg]  # the ASGI transport of httpx
    return client


def reasons(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return {error["field"]: error["reason"] for error in answer.json()["errors"]}


async def test_an_uploaded_file_is_read_back_by_its_owner_as_it_was(api):
    client = await register(api)
    answer = await client.post("/api/media", files={"file": ("../Promo Raya?.jpeg", jpeg(), "image/jpeg")})
    assert answer.status_code == 201, answer.text
    media = answer.json()["results"]
    assert (media["kind"], media["mime_type"], media["size_bytes"]) == ("image", "image/jpeg", len(jpeg()))
    assert (media["file_name"], media["source_url"]) == ("Promo Raya.jpg", None)
    read = await client.get(media["url"])
    assert read.content == jpeg()
    assert read.headers["content-type"] == "image/jpeg"
    assert read.headers["content-disposition"] == "inline; filename*=UTF-8''Promo%20Raya.jpg"
    assert read.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in read.headers["content-security-policy"]
    assert "private" in read.headers["cache-control"]
    again = await client.get(media["url"], headers={"If-None-Match": read.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_documents_are_saved_and_not_shown(api):
    client = await register(api)
    read = await client.get(await upload(client, pdf(), "harga.pdf"))
    assert read.headers["content-type"] == "application/pdf"
    assert read.headers["content-disposition"].startswith("attachment;")


async def test_the_same_content_is_kept_once_for_each_user(api, sessions):
    first, second = await register(api), await register(api, email="badrul@example.com")
    urls = await asyncio.gather(*(upload(first, png(), f"{number}.png") for number in range(5)))
    assert len(set(urls)) == 1
    assert await upload(second, png()) not in urls
    async with sessions() as session:
        assert await session.scalar(select(func.count()).select_from(Media)) == 2


async def test_what_is_no_media_is_refused_by_field_and_not_kept(api):
    client = await register(api)
    sent: list[tuple[dict[str, Any], str]] = [
        ({"files": {"file": ("a.gif", b"GIF89a" + bytes(9), "image/gif")}}, "file"),
        ({"files": {"file": ("a.jpg", pdf(), "image/jpeg")}}, "file"),
        ({"files": {"file": ("a.jpg", b"", "image/jpeg")}}, "file"),
        ({"files": {"other": ("a.png", png(), "image/png")}}, "file"),
        ({"data": {"file": "text"}}, "file"),
        ({"content": b"x"}, "file"),
        ({"json": {"url": "ftp://a.example/b.png"}}, "url"),
        ({"json": {"url": 5}}, "url"),
        ({"json": {}}, "url"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, "url"),
    ]
    for request, field in sent:
        assert set(reasons(await client.post("/api/media", **request))) == {field}, request
    assert (await client.get("/api/media")).json()["results"] == []


async def test_an_upload_over_the_limit_is_refused(api):
    client = await register(api)
    too_large = await client.post("/api/media", files={"file": ("a.pdf", pdf(LARGEST), "application/pdf")})
    assert "too large" in reasons(too_large)["file"]
    far_too_large = await client.post("/api/media", files={"file": ("a.pdf", pdf(LARGEST + 2**21), "application/pdf")})
    assert far_too_large.status_code == 413


async def test_over_the_quota_nothing_more_is_kept(api, sessions):
    client = await register(api)
    url = await upload(client)
    async with sessions.begin() as session:
        await session.execute(update(Media).values(size_bytes=QUOTA))
    refused = await client.post("/api/media", files={"file": ("a.jpg", jpeg(), "image/jpeg")})
    assert refused.status_code == 409
    assert "1,024 MB" in refused.json()["detail"]
    assert await upload(client) == url


async def test_pages_hold_every_file_once_newest_first(api):
    client = await register(api)
    urls = [await upload(client, png(size=(8, 8 + number))) for number in range(5)]
    seen: list[str] = []
    cursor = None
    while True:
        answer = (await client.get("/api/media", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [media["url"] for media in answer["results"]]
        if (cursor := answer["next_cursor"]) is None:
            break
    assert seen == urls[::-1]


async def test_a_file_that_an_open_campaign_uses_cannot_be_deleted(api, sessions):
    client = await register(api)
    url = await upload(client)
    campaign = await create(client, image_url=url)
    refused = await client.delete(url)
    assert refused.status_code == 409
    assert "campaign" in refused.json()["detail"]
    await set_campaign(sessions, campaign["id"], status="sent")
    assert (await client.delete(url)).status_code == 200
    assert (await client.get(url)).status_code == 404
    assert (await client.delete(url)).status_code == 404


async def test_a_file_that_a_step_of_a_sequence_shows_cannot_be_deleted(api, sessions):
    client = await register(api)
    url = await upload(client)
    user = await user_id_of(sessions)
    async with sessions.begin() as session:
        project = Sequence(user_id=user, name="Promo")
        session.add(project)
        await session.flush()
        session.add(SequenceStep(user_id=user, sequence_id=project.id, day=1, message_type="image", media_url=url))
    refused = await client.delete(url)
    assert refused.status_code == 409
    assert "sequence" in refused.json()["detail"]
    async with sessions.begin() as session:
        await session.execute(update(Sequence).values(deleted_at=func.now()))
    assert (await client.delete(url)).status_code == 200


async def test_someones_slow_servers_keep_nobody_else_waiting(intranet, web):
    slow, quick = await register(intranet), await register(intranet, email="badrul@example.com")
    web.serve("/a.png", png())
    async with web.holding("/slow"):
        waiting = [asyncio.create_task(slow.post("/api/media", json={"url": web.url + "/slow"})) for _ in range(20)]
        async with asyncio.timeout(5):
            assert (await quick.post("/api/media", json={"url": web.url + "/a.png"})).status_code == 201
        assert web.asked.count("/slow") == 2
    for answer in await asyncio.gather(*waiting):
        assert answer.status_code == 422


async def test_someone_elses_file_does_not_exist(api):
    owner, other = await register(api), await register(api, email="badrul@example.com")
    url = await upload(owner)
    for method in ("GET", "DELETE"):
        assert (await other.request(method, url)).status_code == 404
        assert (await other.request(method, "/api/media/not-an-id")).status_code == 422
        assert (await api.request(method, url)).status_code == 401
    assert (await other.get("/api/media")).json()["results"] == []
    body = {"title": "T", "target_status": "prospect", "send_now": True, "image_url": url}
    assert "no media of yours" in reasons(await other.post("/api/campaigns", json=body))["image_url"]
    assert (await owner.get(url)).status_code == 200


async def test_the_send_path_reads_what_the_reference_names(api, sessions):
    client = await register(api)
    url = await upload(client, mp4(), "clip.mp4")
    async with sessions() as session:
        found = await media_content(session, await user_id_of(sessions), url)
    assert (found.mime_type, found.file_name, found.content) == ("video/mp4", "clip.mp4", mp4())


async def test_a_url_is_fetched_once_and_kept(intranet, web):
    client = await register(intranet)
    source = web.serve("/promo%20raya.jpg", jpeg(), Content_Type="image/jpeg")
    answer = await client.post("/api/media", json={"url": source})
    assert answer.status_code == 201, answer.text
    media = answer.json()["results"]
    assert (media["kind"], media["file_name"], media["source_url"]) == ("image", "promo raya.jpg", source)
    assert (await client.get(media["url"])).content == jpeg()
    assert web.asked == ["/promo%20raya.jpg"]


async def test_what_a_url_leads_to_is_checked(intranet, web):
    client = await register(intranet)
    loops = web.serve("/loop", status="302 Found", Location="/loop")
    wrong = {
        web.serve("/page", b"<html>", Content_Type="text/html"): "web page",
        web.serve("/gone", status="404 Not Found"): "answered 404",
        web.serve("/packed", b"x", Content_Encoding="gzip"): "compresses",
        web.serve("/large", png(), Content_Length=str(LARGEST + 1)): "too large",
        web.serve("/endless", png() + bytes(LARGEST), Content_Length=str(LARGEST)): "",
        web.serve("/short", png(), Content_Length="99999"): "breaks off",
        web.serve("/lie", pdf(), Content_Type="image/png"): "declared as image/png",
        web.serve("/elsewhere", status="302 Found", Location="file:///etc/passwd"): "only http",
        web.serve("/secret", status="302 Found", Location="http://a:b@127.0.0.1/"): "without a password",
        loops: "more than 5 redirects",
        "http://127.0.0.1:1/": "cannot be reached",
    }
    for url, reason in wrong.items():
        assert reason in reasons(await client.post("/api/media", json={"url": url}))["url"], url
    assert (await client.get("/api/media")).json()["results"] == []


async def test_a_stream_without_a_length_is_cut_off_at_the_limit(intranet, web):
    client = await register(intranet)
    web.answers["/stream"] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + bytes(LARGEST + 10)
    assert "too large" in reasons(await client.post("/api/media", json={"url": web.url + "/stream"}))["url"]


async def test_redirects_are_followed_and_checked(intranet, web):
    client = await register(intranet)
    web.serve("/real.png", png())
    source = web.serve("/short", status="301 Moved Permanently", Location="/real.png")
    assert (await client.post("/api/media", json={"url": source})).status_code == 201
    assert web.asked == ["/short", "/real.png"]


async def test_private_addresses_are_never_asked(api, web):
    client = await register(api)
    source = web.serve("/a.png", png())
    for url in (source, source.replace("127.0.0.1", "localhost"), source.replace("127.0.0.1", "[::ffff:127.0.0.1]")):
        assert "public internet" in reasons(await client.post("/api/media", json={"url": url}))["url"]
    body = {"title": "T", "target_status": "prospect", "send_now": True, "image_url": source}
    assert "public internet" in reasons(await client.post("/api/campaigns", json=body))["image_url"]
    assert web.asked == []
    assert (await client.get("/api/campaigns")).json()["results"] == []


async def test_a_campaigns_image_is_fetched_once_at_save(intranet, web):
    client = await register(intranet)
    source = web.serve("/promo.jpg", jpeg())
    created = await create(client, image_url=source)
    assert created["image_url"].startswith("/api/media/")
    assert created["message_type"] == "image"
    assert (await client.get(created["image_url"])).content == jpeg()
    path = f"/api/campaigns/{created['id']}"
    for same in (created["image_url"], source):
        edited = await client.put(path, json={**created, "image_url": same})
        assert edited.json()["results"] == created
    assert web.asked == ["/promo.jpg"]
    other = web.serve("/price.pdf", pdf())
    changed = (await client.put(path, json={**created, "image_url": other})).json()["results"]
    assert changed["message_type"] == "document"
    assert changed["image_url"] != created["image_url"]


async def test_a_save_that_is_wrong_otherwise_fetches_nothing(intranet, web):
    client = await register(intranet)
    body = {
        "title": " ",
        "target_status": "prospect",
        "message": "{{x}}",
        "send_now": True,
        "image_url": web.serve("/a", png()),
    }
    assert set(reasons(await client.post("/api/campaigns", json=body))) == {"title", "message"}
    created = await create(client)
    path = f"/api/campaigns/{created['id']}"
    assert set(reasons(await client.put(path, json={"title": " ", "image_url": web.url + "/a"}))) == {"title"}
    assert web.asked == []
    assert "answered 404" in reasons(await client.put(path, json={"title": "New", "image_url": web.url + "/gone"}))["image_url"]
    assert (await client.get(path)).json()["results"] == created

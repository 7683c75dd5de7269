"""What files are, told by their bytes."""

from io import BytesIO

import pytest
from PIL import Image

from siaran.media_types import MAX_BYTES, MediaKind, UnusableMedia, detect_media, kind_of
from tests.media_files import docx, jpeg, mp4, pdf, png

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512)


@pytest.mark.parametrize(
    ("content", "name", "mime_type", "kind"),
    [
        (jpeg(), "a.jpg", "image/jpeg", MediaKind.IMAGE),
        (jpeg(), "a.png", "image/jpeg", MediaKind.IMAGE),
        (png(), "", "image/png", MediaKind.IMAGE),
        (mp4(), "a.mp4", "video/mp4", MediaKind.VIDEO),
        (mp4(b"3gp5"), "a.3gp", "video/3gpp", MediaKind.VIDEO),
        (mp4(b"M4A "), "a", "audio/mp4", MediaKind.AUDIO),
        (mp4(), "voice.m4a", "audio/mp4", MediaKind.AUDIO),
        (b"ID3" + bytes(20), "a.mp3", "audio/mpeg", MediaKind.AUDIO),
        (b"OggS" + bytes(24) + b"OpusHead", "a", "audio/ogg; codecs=opus", MediaKind.AUDIO),
        (b"#!AMR\n", "a", "audio/amr", MediaKind.AUDIO),
        (pdf(), "a.pdf", "application/pdf", MediaKind.DOCUMENT),
        (docx(), "a.docx", DOCX, MediaKind.DOCUMENT),
        (OLE, "old.DOC", "application/msword", MediaKind.DOCUMENT),
        ("Harga,Baharu\n".encode("utf-8-sig"), "a.csv", "text/csv", MediaKind.DOCUMENT),
    ],
)
def test_a_file_is_what_its_bytes_say(content: bytes, name: str, mime_type: str, kind: MediaKind):
    found = detect_media(content, name)
    assert (found.mime_type, found.kind) == (mime_type, kind)
    assert kind_of(found.mime_type) is kind


@pytest.mark.parametrize(
    ("content", "name", "declared", "reason"),
    [
        (b"", "a.png", "", "is empty"),
        (b"GIF89a" + bytes(20), "a.gif", "image/gif", "is no JPEG or PNG"),
        (b"<html></html>", "a.html", "text/html", "is no JPEG"),
        (b"<html></html>", "a.txt", "text/html", "is no JPEG"),
        (b"MZ" + bytes(100), "a.exe", "", "is no JPEG"),
        (b"<svg/>", "a.svg", "image/svg+xml", "is no JPEG"),
        (b"\xff\xfe\x00", "a.txt", "", "is no JPEG"),
        (mp4(b"heic"), "a.heic", "", "is no JPEG"),
        (b"OggS" + bytes(24) + b"\x01vorbis", "a.ogg", "audio/ogg", "is an Ogg file without Opus"),
        (b"ID3" + bytes(20), "a.mp3", "video/mp4", "is declared as video/mp4 but holds audio/mpeg"),
        (mp4(padding=100)[:-50], "a.mp4", "", "is a damaged video"),
        (mp4()[:16], "a.mp4", "", "is a damaged video"),
        (docx("other"), "a.zip", "", "is no JPEG"),
        (docx()[:50], "a.docx", "", "is a damaged archive"),
        (png()[:40], "a.png", "", "is a damaged PNG image"),
        (jpeg(size=(400, 400))[:1500], "a.jpg", "", "is a damaged JPEG image"),
        (b"\xff\xd8\xff" + bytes(50), "a.jpg", "", "is a damaged JPEG image"),
        (pdf(), "a.jpg", "image/jpeg", "is declared as image/jpeg but holds application/pdf"),
        (png(), "a.mp4", "video/mp4", "is declared as video/mp4 but holds image/png"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_the_reason(content: bytes, name: str, declared: str, reason: str):
    with pytest.raises(UnusableMedia, match=reason):
        detect_media(content, name, declared)


def test_each_kind_has_a_limit_of_its_own():
    with pytest.raises(UnusableMedia, match="a video may have 16 MB"):
        detect_media(mp4(padding=MAX_BYTES[MediaKind.VIDEO]), "a.mp4")
    with pytest.raises(UnusableMedia, match="a document may have 32 MB"):
        detect_media(pdf(padding=MAX_BYTES[MediaKind.DOCUMENT]), "a.pdf")
    with pytest.raises(UnusableMedia, match="an image may have 5 MB"):
        detect_media(png() + bytes(MAX_BYTES[MediaKind.IMAGE]), "a.png")


def test_a_small_file_with_too_many_pixels_is_refused_before_it_is_unpacked():
    out = BytesIO()
    Image.new("1", (20_000, 3_000)).save(out, "PNG")
    assert len(out.getvalue()) < 100_000
    with pytest.raises(UnusableMedia, match="20000 x 3000 pixels"):
        detect_media(out.getvalue(), "a.png")


def test_a_large_photo_is_accepted():
    assert detect_media(jpeg(size=(6_000, 4_000)), "a.jpg").mime_type == "image/jpeg"

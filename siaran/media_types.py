"""What a file is, told by its bytes: the images, videos, audio and documents that WhatsApp takes, and how large they may be."""

import zipfile
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import PurePath

from PIL import Image, UnidentifiedImageError

from siaran.errors import SiaranError


class MediaKind(StrEnum):
    """What a file can be sent as; a document is anything, also an image that shall stay a file."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"


MEGABYTE = 2**20

MAX_BYTES = {
    MediaKind.IMAGE: 5 * MEGABYTE,
    MediaKind.VIDEO: 16 * MEGABYTE,
    MediaKind.AUDIO: 16 * MEGABYTE,
    MediaKind.DOCUMENT: 32 * MEGABYTE,
}
"""What WhatsApp's own business interface takes, but for documents: its 100 MB are more than anyone loads from a campaign."""

LARGEST = max(MAX_BYTES.values())

_ONE = {MediaKind.IMAGE: "an image", MediaKind.VIDEO: "a video", MediaKind.AUDIO: "audio", MediaKind.DOCUMENT: "a document"}

MAX_PIXELS = 40_000_000
"""Of an image: a small file can hold more than memory does."""

_OFFICE = {
    "word/": ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx"),
    "xl/": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx"),
    "ppt/": ("application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx"),
}
_OLD_OFFICE = {
    ".doc": "application/msword",
    ".xls": "application/vnd.ms-excel",
    ".ppt": "application/vnd.ms-powerpoint",
}
_TEXTS = {".txt": "text/plain", ".csv": "text/csv"}
_AUDIO = (
    (b"ID3", "audio/mpeg", ".mp3"),
    (b"\xff\xfb", "audio/mpeg", ".mp3"),
    (b"\xff\xf3", "audio/mpeg", ".mp3"),
    (b"\xff\xf2", "audio/mpeg", ".mp3"),
    (b"\xff\xf1", "audio/aac", ".aac"),
    (b"\xff\xf9", "audio/aac", ".aac"),
    (b"#!AMR", "audio/amr", ".amr"),
)
_AUDIO_BRANDS = (b"M4A", b"M4B")
_VIDEO_BRANDS = (b"iso", b"mp4", b"avc1", b"dash", b"M4V", b"MSNV", b"mmp4", b"3gp", b"3g2")

_RECORDINGS = "MP3, M4A, AAC, AMR or Ogg Opus audio"
ACCEPTED = f"JPEG or PNG image, MP4 or 3GP video, {_RECORDINGS}, or PDF, Word, Excel, PowerPoint, TXT or CSV document"


class UnusableMedia(SiaranError):
    """The file cannot be sent with a message."""

    code = "UNUSABLE_MEDIA"


@dataclass(frozen=True, slots=True)
class MediaType:
    """What a file is; `suffix` is how its name ends."""

    kind: MediaKind
    mime_type: str
    suffix: str


def kind_of(mime_type: str) -> MediaKind:
    """What a stored file is sent as unless someone asks for a document."""
    family = mime_type.partition("/")[0]
    return MediaKind(family) if family in {"image", "video", "audio"} else MediaKind.DOCUMENT


def detect_media(content: bytes, file_name: str, declared: str = "") -> MediaType:
    """Tell a file's type by its bytes, check that it is whole and within the limits.

    `declared` is the content type that came with it, which must not speak of another kind of thing than the bytes. Takes some
    tenths of a second for a large image. Raises `UnusableMedia`, whose detail completes "the file …".
    """
    if not content:
        raise UnusableMedia("is empty")
    found = _detect(content, PurePath(file_name).suffix.lower(), declared)
    family = declared.partition("/")[0].strip().lower()
    if family in {"image", "video", "audio"} and family != found.kind:
        raise UnusableMedia(f"is declared as {declared} but holds {found.mime_type}")
    if len(content) > MAX_BYTES[found.kind]:
        raise UnusableMedia(f"is too large: {_ONE[found.kind]} may have {MAX_BYTES[found.kind] // MEGABYTE} MB")
    return found


def _detect(content: bytes, suffix: str, declared: str) -> MediaType:
    if content.startswith(b"\xff\xd8\xff"):
        _check_image(content, "JPEG")
        return MediaType(MediaKind.IMAGE, "image/jpeg", ".jpg")
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_image(content, "PNG")
        return MediaType(MediaKind.IMAGE, "image/png", ".png")
    if content[4:8] == b"ftyp":
        return _film(content, is_audio=suffix == ".m4a" or declared.startswith("audio/"))
    if (audio := _audio(content)) is not None:
        return audio
    if content.startswith(b"%PDF-"):
        return MediaType(MediaKind.DOCUMENT, "application/pdf", ".pdf")
    if content.startswith(b"PK\x03\x04"):
        return _office(content)
    if content.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") and suffix in _OLD_OFFICE:
        return MediaType(MediaKind.DOCUMENT, _OLD_OFFICE[suffix], suffix)
    # A web page is text too: whoever gave its address meant a picture on it.
    if suffix in _TEXTS and "html" not in declared and _is_text(content):
        return MediaType(MediaKind.DOCUMENT, _TEXTS[suffix], suffix)
    raise UnusableMedia(f"is no {ACCEPTED}")


def _check_image(content: bytes, form: str) -> None:
    try:
        with Image.open(BytesIO(content), formats=[form]) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnusableMedia(f"is too large: {width} x {height} pixels are more than {MAX_PIXELS // 1_000_000} million")
            if form == "JPEG":
                image.draft("L", (width // 8, height // 8))  # decodes all of it, at an eighth of the memory
                image.load()
            else:
                image.verify()  # reads every chunk and its checksum
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnusableMedia(f"is a damaged {form} image") from error


def _audio(content: bytes) -> MediaType | None:
    for beginning, mime_type, suffix in _AUDIO:
        if content.startswith(beginning):
            return MediaType(MediaKind.AUDIO, mime_type, suffix)
    if content.startswith(b"OggS"):
        # Phones play nothing else that an Ogg file may hold.
        if b"OpusHead" not in content[:100]:
            raise UnusableMedia("is an Ogg file without Opus audio")
        return MediaType(MediaKind.AUDIO, "audio/ogg; codecs=opus", ".ogg")
    return None


def _film(content: bytes, *, is_audio: bool) -> MediaType:
    """A video, or a sound recording in the same form, which often only its name or declared type tells apart."""
    brand = content[8:12]
    if not brand.startswith(_VIDEO_BRANDS + _AUDIO_BRANDS):
        raise UnusableMedia(f"is no {ACCEPTED}")
    if b"moov" not in _boxes(content):
        raise UnusableMedia("is a damaged video")
    if is_audio or brand.startswith(_AUDIO_BRANDS):
        return MediaType(MediaKind.AUDIO, "audio/mp4", ".m4a")
    if brand.startswith(b"3g"):
        return MediaType(MediaKind.VIDEO, "video/3gpp", ".3gp")
    return MediaType(MediaKind.VIDEO, "video/mp4", ".mp4")


def _boxes(content: bytes) -> set[bytes]:
    """The names of the outermost boxes of an MP4 file, none of them if one ends behind the file."""
    found: set[bytes] = set()
    at = 0
    while at + 8 <= len(content):
        size, head = int.from_bytes(content[at : at + 4]), 8
        if size == 1:
            size, head = int.from_bytes(content[at + 8 : at + 16]), 16
        elif size == 0:
            size = len(content) - at
        if size < head or at + size > len(content):
            return set()
        found.add(content[at + 4 : at + 8])
        at += size
    return found


def _office(content: bytes) -> MediaType:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise UnusableMedia("is a damaged archive") from error
    if "[Content_Types].xml" in names:
        for folder, (mime_type, suffix) in _OFFICE.items():
            if any(name.startswith(folder) for name in names):
                return MediaType(MediaKind.DOCUMENT, mime_type, suffix)
    raise UnusableMedia(f"is no {ACCEPTED}")


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False

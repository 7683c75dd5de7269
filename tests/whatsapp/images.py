"""Small pictures for tests to send."""

from io import BytesIO

from PIL import Image


def make_jpeg(colour: tuple[int, int, int] = (10, 200, 30)) -> bytes:
    """A JPEG file of one colour."""
    file = BytesIO()
    Image.new("RGB", (400, 300), colour).save(file, "JPEG")
    return file.getvalue()

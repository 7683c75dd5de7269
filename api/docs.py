"""The OpenAPI document, and its page without any outside network."""

from fastapi import FastAPI


def install_docs(app: FastAPI) -> None:
    """Serve the docs page at `/docs`."""

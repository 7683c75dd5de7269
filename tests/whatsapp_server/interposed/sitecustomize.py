"""Run at the start of each Python process under test: has the WhatsApp library trust the test server's key.

The key that the library trusts is a constant of WhatsApp's in its memory; it is overwritten as soon as the library is loaded.
The folder of this file comes into `PYTHONPATH`, so that it also reaches processes that a process under test starts.
"""

import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

VARIABLE = "WHATSAPP_SERVER_ROOT_KEY"
"""Holds the test server's key in hexadecimal."""

LOADER_MODULE = "neonize._binder"
WHATSAPP_KEY = bytes.fromhex("142375574d0a587166aae71ebe516437c4a28b73e3695c6ce1f7f9545da8ee6b")


def replace_key(key: bytes) -> None:
    """Overwrite WhatsApp's key in the writable memory of the library; raises `LookupError` if it is not there."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and "w" in parts[1] and Path(parts[5]).name.startswith("neonize-"):
            start, end = (int(address, 16) for address in parts[0].split("-"))
            offset = ctypes.string_at(start, end - start).find(WHATSAPP_KEY)
            if offset >= 0:
                ctypes.memmove(start + offset, key, len(key))
                return
    raise LookupError("WhatsApp's key is not in the library's memory; has its version changed?")


class _Loader(importlib.abc.Loader):
    """Loads the module as ever, then replaces the key."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        replace_key(bytes.fromhex(os.environ[VARIABLE]))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module after whose loading the library is in memory."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != LOADER_MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec and spec.loader:
            spec.loader = _Loader(spec.loader)
        return spec


if VARIABLE in os.environ:
    sys.meta_path.insert(0, _Finder())

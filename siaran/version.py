"""Which version of Siaran this is."""

from importlib.metadata import PackageNotFoundError, version


def _read_version() -> str:
    try:
        return version("siaran")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unreleased"


VERSION = _read_version()

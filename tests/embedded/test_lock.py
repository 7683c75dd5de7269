"""The lock files: installable on every Python that is promised, and the same versions in both."""

import re
from importlib.metadata import distributions, version
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def locked(name: str) -> dict[str, str]:
    """The version of each package in a lock file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_what_is_installed_is_what_is_locked() -> None:
    pins = locked("requirements-dev.lock")
    assert {name: version(name) for name in pins} == pins


def test_the_image_gets_the_versions_that_are_tested() -> None:
    assert locked("requirements.lock").items() <= locked("requirements-dev.lock").items()


def test_every_package_runs_on_the_oldest_and_the_newest_python() -> None:
    pins = locked("requirements-dev.lock")
    refused = []
    for distribution in distributions():
        wanted = SpecifierSet(str(distribution.metadata.json.get("requires_python", "")))
        if canonicalize_name(distribution.name) in pins and not all(wanted.contains(old) for old in ("3.11.0", "3.13.0")):
            refused.append(f"{distribution.name} {wanted}")
    assert refused == []


def test_the_lock_files_name_no_address_and_every_package_has_a_hash() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        lines = (ROOT / name).read_text().splitlines()
        pinned = re.compile(r"^[\w.-]+==\S+ \\$|^    --hash=sha256:[0-9a-f]{64}( \\)?$|^# |^$")
        assert [line for line in lines if not pinned.match(line)] == []

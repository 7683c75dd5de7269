"""What can be known about the image and the compose file without building or starting them."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from cli.main import app
from siaran.embedded.options import StackOptions
from siaran.embedded.temporal import DYNAMIC_CONFIG
from siaran.settings import Settings
from tests.conftest import variables_of

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("siaran:")}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def commands_of(service: dict[str, Any]) -> list[list[str]]:
    """The command of a service, and that of its health check."""
    checks = [service["healthcheck"]["test"][1:]] if "healthcheck" in service else []
    return [service["command"], *checks]


@pytest.mark.parametrize("name", OURS)
def test_every_command_of_our_services_exists(name: str) -> None:
    known = get_command(app)
    for program, *arguments in commands_of(OURS[name]):
        match program, arguments:
            case "siaran", [command]:
                assert command in known.commands  # type: ignore[attr-defined]  # a typer app with commands is a group
            case "python", ["-m", module]:
                assert find_spec(module) is not None
            case "python", ["-c", code]:
                compile(code, "healthcheck", "exec")
            case _:
                pytest.fail(f"{name} runs {program} {arguments}")


def test_the_images_own_command_exists() -> None:
    command = re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)
    assert command == ['["siaran", "api"]']


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_our_services_is_a_setting(name: str) -> None:
    assert set(OURS[name]["environment"]) <= variables_of(Settings)


def test_our_services_use_the_servers_that_the_file_starts() -> None:
    for service in OURS.values():
        environment = service["environment"]
        assert Settings.model_validate(environment).sqlalchemy_url.startswith("postgresql+psycopg://siaran:")
        hosts = re.findall(r"(?:@|^)(\w+):\d+", " ".join(environment[name] for name in ("DB_URI", "REDIS_URL")))
        hosts += [environment["TEMPORAL_ADDRESS"].partition(":")[0]]
        assert set(hosts) == {"postgres", "valkey", "temporal"}


def test_what_a_service_waits_for_exists_and_can_become_what_it_waits_for() -> None:
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            other = SERVICES[name]
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in other
            else:
                assert other["restart"].startswith("on-failure")


def test_no_secret_has_a_value_or_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in ("POSTGRES_PASSWORD", "VALKEY_PASSWORD", "SIARAN_SECRET", "APP_BASIC_AUTH"):
        assert set(re.findall(rf"\${{{name}[^}}]*}}", text)) == {f"${{{name}:?}}"}


def test_nothing_but_the_loopback_interface_is_published() -> None:
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_every_mounted_file_exists_and_every_volume_is_declared() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.partition(":")[0]
            assert (ROOT / source).is_file() if source.startswith("./") else source in COMPOSE["volumes"]


def test_both_temporal_servers_have_the_same_dynamic_configuration() -> None:
    stored = yaml.safe_load((ROOT / "deploy" / "temporal.yaml").read_text())
    assert {name: values[0]["value"] for name, values in stored.items()} == DYNAMIC_CONFIG


def test_every_source_that_the_image_copies_exists_and_is_not_ignored() -> None:
    copied = [shlex.split(line)[:-1] for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)]
    sources = {source.removeprefix("./") for line in copied for source in line}
    assert all((ROOT / source).exists() for source in sources)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    assert allowed == sources


def test_the_image_is_installed_by_the_steps_of_make_setup() -> None:
    makefile = (ROOT / "Makefile").read_text()
    pip = re.findall(r"^PIP := (.*)$", makefile, re.MULTILINE)[0].replace("$(BIN)", ".venv/bin")
    steps = [step.replace("$(PIP)", pip) for step in re.findall(r"^\t@(\$\(PIP\).*)$", makefile, re.MULTILINE)]
    steps[0] = steps[0].replace("requirements-dev.lock", "requirements.lock")
    assert re.findall(r"^RUN (.*pip.*)$", DOCKERFILE, re.MULTILINE) == steps


def test_the_image_runs_as_an_ordinary_user() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["siaran"]


def test_no_setting_of_the_embedded_servers_is_left_in_the_compose_file() -> None:
    only_embedded = variables_of(StackOptions) - variables_of(Settings)
    assert not only_embedded & {name for service in OURS.values() for name in service["environment"]}

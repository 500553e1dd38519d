"""docker-compose.yml and its Dockerfile without an engine: their commands run here, on servers and in a directory."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from accounts import PATIENCE, balances, deposited, reached
from servers import free_port, server
from trouble import divide_by_zero

from runner import EventStore, HandlerFailed, Projection, catch_up, follow

ROOT = Path(__file__).parents[2]

PASSWORD = "0123456789abcdef" * 4

SERVER, CLIENT = (shutil.which(name) for name in ("redis-server", "redis-cli"))

needs_redis = pytest.mark.skipif(not SERVER or not CLIENT, reason="there is no redis-server, or no redis-cli")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services, with the variable of the file .env put in, as an engine does it."""
    text = (ROOT / "docker-compose.yml").read_text()
    known = re.sub(r"(?<!\$)\$\{REDIS_PASSWORD(:\?[^}]*)?\}", PASSWORD, text)
    return dict(yaml.safe_load(known)["services"])


def shell_of(command: Sequence[str]) -> list[str]:
    """A command as the engine runs it: `$$` stands for one `$`, and CMD-SHELL for the shell of the image."""
    words = [word.replace("$$", "$") for word in command]
    return ["sh", "-c", *words[1:]] if words[0] == "CMD-SHELL" else words


def environment(directory: Path, programs: dict[str, str], **more: str) -> dict[str, str]:
    """An environment in which these programs, lines of a shell, come first."""
    directory.mkdir(exist_ok=True)
    for name, line in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{line}\n")
        (directory / name).chmod(0o755)
    path = f"{directory}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, **more}


@contextmanager
def started(command: Sequence[str], env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server, started by its command, for as long as the block lasts."""
    process = subprocess.Popen(shell_of(command), env=env, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def exit_code(check: dict[str, Any], env: dict[str, str]) -> int:
    """What the engine asks a health check for."""
    return subprocess.run(shell_of(check["test"]), env=env, capture_output=True, timeout=60, check=False).returncode


def test_the_services_have_limits_and_their_password_from_a_file(services: dict[str, Any]) -> None:
    """The server's own limit leaves room for a rewrite; there are two runners; no port is open to the world."""
    limits = {name: service["deploy"]["resources"]["limits"]["memory"] for name, service in services.items()}
    assert limits == {"redis": "1g", "runner": "512m"}
    assert "--maxmemory 512mb --maxmemory-policy noeviction" in services["redis"]["command"][2]
    assert services["runner"]["deploy"]["replicas"] == 2
    assert services["runner"]["depends_on"]["redis"]["condition"] == "service_healthy"
    assert services["redis"]["volumes"] == ["redis-data:/data"]
    assert all(port.startswith("127.0.0.1:") for port in services["redis"]["ports"])
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    assert PASSWORD not in json.dumps([service["command"] for service in services.values()])


@pytest.mark.real
@needs_redis
def test_the_server_starts_as_it_is_told_and_shows_its_password_to_nobody(
    services: dict[str, Any], tmp_path: Path
) -> None:
    """It is fit to hold a log; its arguments do not hold the password; the health check knows when it is there."""
    # given
    service, port = services["redis"], free_port()
    programs = {
        "docker-entrypoint.sh": 'exec "$@"',
        "redis-server": f'exec {SERVER} "$@" --port {port} --dir {tmp_path} --bind 127.0.0.1',
        "redis-cli": f'exec {CLIENT} -p {port} "$@"',
    }
    env = environment(tmp_path / "bin", programs, **service["environment"])
    assert exit_code(service["healthcheck"], env) == 1

    # when
    with started(service["command"], env) as process:
        assert reached(lambda: exit_code(service["healthcheck"], env) == 0)

        # then
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"redis-server" in arguments
        assert PASSWORD.encode() not in arguments
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        url = services["runner"]["environment"]["RUNNER_STORE"].replace("@redis:6379", f"@127.0.0.1:{port}")
        EventStore.open(url).close()
        env["RUNNER_STORE"] = url
        doctor = subprocess.run(["runner", "doctor", "--json"], env=env, capture_output=True, text=True, check=False)
        found = {check["name"]: check["verdict"] for check in json.loads(doctor.stdout)}
        assert (found["durability"], found["eviction"]) == ("good", "good")


@pytest.mark.real
@needs_redis
@pytest.mark.parametrize("answer", ["LOADING", "NOAUTH"])
def test_a_server_that_answers_with_an_error_is_not_healthy(
    services: dict[str, Any], answer: str, tmp_path: Path
) -> None:
    """While it loads its file, and where the password is wrong: redis-cli itself ends with 0 for both."""
    # given
    options = ["--dir", str(tmp_path), "--dbfilename", "full.rdb", "--save", "", "--bind", "127.0.0.1"]
    if answer == "NOAUTH":
        options += ["--requirepass", PASSWORD]
    else:
        with server(*options[:4]) as full, redis.Redis(port=full.port) as client:
            client.mset({f"key-{number}": "x" * 1_000 for number in range(5_000)})
            client.save()
        options += ["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"]
    port = free_port()
    env = environment(tmp_path / "bin", {"redis-cli": f'exec {CLIENT} -p {port} "$@"'}, REDISCLI_AUTH="")

    def ping() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["redis-cli", "ping"], env=env, capture_output=True, text=True, check=False)

    # when
    with started([str(SERVER), "--port", str(port), *options], env):
        assert reached(lambda: answer in ping().stdout)

        # then
        assert ping().returncode == 0
        assert exit_code(services["redis"]["healthcheck"], env) == 1


@pytest.mark.real
def test_the_runner_is_healthy_while_each_projection_is_held(
    services: dict[str, Any], real_url: str, fresh_name: str, tmp_path: Path
) -> None:
    """Not before, not when one has stopped, and not when the server cannot be reached."""
    check = services["runner"]["healthcheck"]
    env = environment(tmp_path / "bin", {}, RUNNER_STORE=real_url, RUNNER_NAME=fresh_name)
    assert exit_code(check, env) != 0
    with EventStore.open(real_url, name=fresh_name) as store:
        store.append("account-1", deposited())
        with follow(store, balances()) as following:
            following.wait_live(PATIENCE)
            assert exit_code(check, env) == 0
            assert exit_code(check, {**env, "RUNNER_STORE": f"redis://127.0.0.1:{free_port()}/0"}) != 0
        stopping = Projection[Any]("stopping")
        stopping.when("Deposited", divide_by_zero)
        with pytest.raises(HandlerFailed):
            catch_up(store, stopping)
        assert exit_code(check, env) == 1


def test_the_runner_starts_with_options_that_exist(services: dict[str, Any]) -> None:
    """Its command is one that the command line takes."""
    helped = subprocess.run(
        [sys.executable, "-m", "runner", *services["runner"]["command"], "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Example: runner run" in helped.stdout


def instructions(file: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with its arguments."""
    lines = re.sub(r"\\\n", " ", file.read_text()).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]  # type: ignore[misc]


def test_the_image_has_all_that_an_installation_needs(services: dict[str, Any], tmp_path: Path) -> None:
    """What it copies is copied to an empty directory, its commands run there, and then what it starts with."""
    build = services["runner"]["build"]
    image = tmp_path / "image"
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    # What the package depends on is here already, so nothing needs to be downloaded.
    [packages] = (tmp_path / "venv" / "lib").glob("*/site-packages")
    (packages / "here.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"}
    where, entry, command = image, [], []
    for name, rest in instructions(ROOT / build["context"] / build["dockerfile"]):
        if name == "WORKDIR":
            where = image / rest.lstrip("/")
            where.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            *sources, target = shlex.split(rest)
            for source in sources:
                copy(ROOT / source, where / target)
        elif name == "RUN":
            done = subprocess.run(["sh", "-c", rest], cwd=where, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
        elif name == "ENTRYPOINT":
            entry = json.loads(rest)
        elif name == "CMD":
            command = [word.replace("/app/", f"{image}/app/") for word in json.loads(rest)]
        else:
            assert name in ("FROM", "USER"), name

    assert (packages / "runner" / "shipped_projections" / "balances.py").is_file()
    assert (packages / "runner" / "format" / "lua" / "log" / "append.lua").is_file()
    shutil.rmtree(where / "runner")
    env["RUNNER_STORE"] = f"embedded:{tmp_path}/s"
    words = [*entry, *command, "--once", "--accept-bad"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

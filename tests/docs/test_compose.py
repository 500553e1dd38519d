"""docker-compose.yml without an engine: it is parsed, and the image's steps are done in a plain directory."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])


def test_the_redis_is_fit_to_hold_a_log(services: dict[str, Any]) -> None:
    """AOF on, nothing evicted, a volume for the data, a health check, and not open to the world."""
    redis = services["redis"]
    words = redis["command"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] in ("everysec", "always")
    assert options["--maxmemory-policy"] == "noeviction"
    assert redis["volumes"] == ["redis-data:/data"]
    assert redis["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    assert all(port.startswith("127.0.0.1:") for port in redis["ports"])


def test_the_runner_waits_for_it_and_starts_with_options_that_exist(services: dict[str, Any]) -> None:
    """It starts when the Redis is healthy; its command is one that the command line takes."""
    runner = services["runner"]
    assert runner["depends_on"]["redis"]["condition"] == "service_healthy"
    assert runner["environment"]["RUNNER_STORE"].startswith("redis://redis:")
    helped = subprocess.run(
        [sys.executable, "-m", "runner", *runner["command"], "--help"], capture_output=True, text=True, check=True
    )
    assert "Example: runner run" in helped.stdout


def test_the_images_copies_are_all_that_an_installation_needs(services: dict[str, Any], tmp_path: Path) -> None:
    """What the image copies is copied to an empty directory, and the package is built there."""
    for line in services["runner"]["build"]["dockerfile_inline"].splitlines():
        words = shlex.split(line)
        if words and words[0] == "COPY":
            *sources, target = words[1:]
            for source in sources:
                place = tmp_path / "app" / target
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    place.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, place)
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path / "wheel", tmp_path / "app"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    [wheel] = (tmp_path / "wheel").iterdir()
    installed = tmp_path / "installed"
    shutil.unpack_archive(wheel, installed, "zip")
    assert (installed / "runner" / "shipped_projections" / "balances.py").is_file()
    assert (installed / "runner" / "format" / "lua" / "log" / "append.lua").is_file()

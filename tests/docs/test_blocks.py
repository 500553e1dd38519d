"""Every block of code on every page runs, or is parsed, or is known to be run by another test."""

from __future__ import annotations

import configparser
import re
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from access_lists import become
from commands import mistakes_of, words_of
from pages import PAGES, ROOT, Block, Page, shell
from servers import server

from runner import EventStore
from runner.embedded.server import find_binary
from runner.operations import doctor
from runner.operations.check import GOOD
from runner.projections import plugins
from runner.testing import TEST_SETTINGS

#: Pages that are programs which need a library or a server of their own: tests beside those of the part run them.
RUN_ELSEWHERE = {
    "docs/access-lists.md", "docs/aggregates.md", "docs/castlecraft.md", "docs/eventsource.md", "docs/eventsourcing.md",
    "docs/messagebus.md",
}  # fmt: skip

#: The page whose commands are those of a clone: `test_contributing` checks them.
OF_A_CLONE = "docs/contributing.md"
OURS = {name: page for name, page in PAGES.items() if name not in RUN_ELSEWHERE}

#: How many assertions a page's program must hold at least: one that lost its blocks would pass all the same.
ASSERTIONS = {
    "README.md": 5,
    "docs/concepts.md": 20,
    "docs/writing-projections.md": 15,
    "docs/web-applications.md": 15,
    "docs/testing.md": 8,
    "docs/operations.md": 15,
    "docs/process-managers.md": 6,
}

#: What the commands of a page must have said: a script that did nothing would pass all the same.
SAID = {
    "README.md": "balances",
    "docs/commands.md": "nothing wrong",
    "docs/backup.md": "nothing wrong",
    "docs/deploying.md": "durability",
    "docs/testing.md": "passed",
    "docs/writing-projections.md": "over the limit",
}

#: What a block may be. A picture is text; so is anything else that nothing can run or parse.
LANGUAGES = {"python", "sh", "text", "ini", "toml", "yaml", "diff", "conf"}

#: What the doctor says about a machine that is busy, not about a server's configuration.
OF_THE_MACHINE = {"round trip", "clock"}

#: An installation is the gate's business; everything else in a script runs here.
INSTALLS = re.compile(r"^(python3 -m venv .*|pip install .*)$", re.MULTILINE)

pages_that_run = [
    pytest.param(page, id=page.name)
    for page in OURS.values()
    if page.name != OF_A_CLONE and (page.of_language("python") or page.of_language("sh"))
]  # fmt: skip


@pytest.fixture
def short_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a page. Short, because the path of a socket must be."""
    with tempfile.TemporaryDirectory(prefix="runner-doc-") as directory:
        monkeypatch.chdir(directory)
        monkeypatch.delenv("RUNNER_STORE", raising=False)
        (Path(directory) / "myapp").mkdir()
        (Path(directory) / "myapp" / "projections").symlink_to(ROOT / "projections")
        yield Path(directory)


@pytest.mark.real
@pytest.mark.parametrize("page", pages_that_run)
def test_the_blocks_of_a_page_run(page: Page, short_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D7. In the order of the page: the Python blocks are one program in which each assertion holds, the shell blocks
    are parts of one script. A block that names a file is also that file."""
    assert "\n".join(page.of_language("python")).count("assert ") >= ASSERTIONS.get(page.name, 0)
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)  # dataclasses are looked up there
    exports = said = ""
    for block in page.blocks:
        if block.language == "python":
            _write_file(block, short_directory)
            program = "\n" * (block.line - 1) + block.text  # so that a traceback names the line of the page
            exec(compile(program, str(page.path), "exec", dont_inherit=True), vars(module))
        elif block.language == "sh":
            script = runnable(block.text)
            done = shell(exports + script, cwd=short_directory)
            assert done.returncode == 0, f"{page.name}:{block.line}\n{done.stdout}{done.stderr}"
            said += done.stdout
            exports += "".join(line for line in script.splitlines(keepends=True) if line.startswith("export "))
    assert SAID.get(page.name, "") in said


def _write_file(block: Block, directory: Path) -> None:
    if named := re.match(r"# ([\w/-]+\.py)\n", block.text):
        file = directory / named[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)


def runnable(script: str) -> str:
    """A shell block without installations, on an embedded server, and ending where a runner would wait for ever."""
    script = INSTALLS.sub("", script).replace("redis://localhost:6379/0", "embedded:own")
    return re.sub(r"\brunner run\b(?!.*--once)", "runner run --once", script)


@pytest.mark.parametrize("name", sorted(RUN_ELSEWHERE))
def test_a_page_that_is_not_run_here_is_run_elsewhere(name: str) -> None:
    """The tests of the part that the page is about read the page."""
    readers = [
        file for file in (ROOT / "tests").rglob("test_*.py")
        if file.parent != Path(__file__).parent and f'"{Path(name).name}"' in file.read_text()
    ]  # fmt: skip
    assert readers, f"no test outside of tests/docs reads {name}"


@pytest.mark.parametrize("name", sorted(RUN_ELSEWHERE))
def test_the_scripts_of_a_page_that_is_not_run_here_could_be_run(name: str) -> None:
    """They install, set variables that the package reads, and run commands that exist."""
    for block in PAGES[name].blocks:
        for line in block.text.splitlines() if block.language == "sh" else []:
            if line.startswith("runner "):
                assert not mistakes_of(words_of(line)), f"{name}:{block.line}"
            elif not line.startswith("pip install "):
                assert re.match(r'export (RUNNER_STORE|RUNNER_TOPICS|PERSISTENCE_MODULE)=(\S+|"[^"]+")$', line), (
                    f"{name}:{block.line}: {line}"
                )


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_extras_that_a_page_names_exist(page: Page) -> None:
    """What is to be installed can be installed."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for found in re.findall(r"redis-streams-runner\[([\w,-]+)\]", page.text) for name in found.split(",")}
    named |= set(re.findall(r"\bextra `(\w+)`", page.text))
    assert named <= set(extras), page.name


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_every_block_has_a_language_that_is_known_here(page: Page) -> None:
    """A block without a language, or with a misspelt one, would be run by nobody."""
    for block in page.blocks:
        assert block.language in LANGUAGES, f"{page.name}:{block.line}: a block of {block.language or 'no language'!r}"
    fences = [number for number, line in page.prose if "```" in line]
    assert not fences, f"{page.name}: a fence that does not begin its line, in lines {fences}"


def parsed(language: str) -> list[Any]:
    """The blocks of a language, on all pages."""
    return [
        pytest.param(block, id=f"{page.name}:{block.line}")
        for page in PAGES.values() for block in page.blocks if block.language == language
    ]  # fmt: skip


@pytest.mark.parametrize("language", ["toml", "ini", "yaml", "conf"])
def test_there_is_a_block_of_each_kind_that_is_parsed(language: str) -> None:
    """Without one its test would pass over nothing."""
    assert parsed(language)


@pytest.mark.parametrize("block", parsed("toml"))
def test_toml_is_that_of_a_project_with_plug_ins(block: Block) -> None:
    """It can be parsed, and declares plug-ins under the name that they are looked up by."""
    declared = tomllib.loads(block.text)["project"]["entry-points"]
    assert list(declared) == [plugins.ENTRY_POINTS]


@pytest.mark.parametrize("block", parsed("ini"))
def test_a_unit_file_starts_the_runner_with_options_that_exist(block: Block) -> None:
    """It leaves time for the batch at hand, and restarts the process unless the command was a mistake."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block.text)
    service = unit["Service"]
    assert not mistakes_of(words_of(service["ExecStart"]))
    assert service["KillSignal"] == "SIGTERM"
    assert int(service["TimeoutStopSec"]) >= 10
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"].split() == ["2"]


@pytest.mark.parametrize("block", parsed("yaml"))
def test_a_deployment_starts_the_runner_with_options_that_exist(block: Block) -> None:
    """It can be parsed; the command is one that the command line takes; ending gets the time that it needs."""
    [deployment] = yaml.safe_load_all(block.text)
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert deployment["spec"]["replicas"] >= 2
    assert not mistakes_of(["runner", *container["args"]])
    assert pod["terminationGracePeriodSeconds"] >= 10
    assert {variable["name"] for variable in container["env"]} == {"RUNNER_STORE"}


@pytest.mark.real
@pytest.mark.parametrize("block", parsed("conf"))
def test_a_server_with_the_configuration_of_the_page_is_fit(block: Block) -> None:
    """A real server takes it as it stands, and for an operator of the page's the doctor finds nothing to say."""
    options = [word for line in block.text.splitlines() if not line.startswith("#") for word in _option(line)]
    with server(*options, binary=find_binary()) as started:
        EventStore.open(started.url).close()
        with EventStore.open(become(started, "operator"), settings=TEST_SETTINGS) as store:
            found = {check.name: check.verdict for check in doctor(store).checks if check.name not in OF_THE_MACHINE}
    assert set(found.values()) == {GOOD}, found


def _option(line: str) -> list[str]:
    name, value = line.split("#")[0].split(None, 1)
    return [f"--{name}", value.strip().strip('"')]

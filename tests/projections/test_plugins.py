"""Plug-ins: where they may come from, and who is blamed when one does not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run

from runner.errors import ProjectionError
from runner.projections import plugins

GOOD = "from runner import Projection\np = Projection({name!r})\np.when('X', lambda state, event: None)\n"


def write(directory: Path, name: str, text: str) -> Path:
    file = directory / name
    file.write_text(text)
    return file


def test_a_directory_is_loaded_file_by_file(tmp_path: Path) -> None:
    """Modules with projections are plug-ins; a neighbour whose name begins with _ is theirs to import."""
    write(tmp_path, "_shared.py", "NAME = 'two'\n")
    write(tmp_path, "one.py", GOOD.format(name="one"))
    write(tmp_path, "two.py", "from _shared import NAME\n" + GOOD.replace("{name!r}", "NAME"))
    write(tmp_path, "helper.py", "VALUE = 1\n")
    assert [plugin.projection.name for plugin in plugins.load([str(tmp_path)])] == ["one", "two"]


def test_the_path_of_the_process_is_as_it_was_after_loading(tmp_path: Path) -> None:
    """A plug-in finds its neighbours while it is loaded; nobody else finds them later, also if it failed."""
    before = list(sys.path)
    write(tmp_path, "one.py", GOOD.format(name="one"))
    plugins.load([str(tmp_path / "one.py")])
    assert sys.path == before
    write(tmp_path, "two.py", "raise RuntimeError('on import')\n")
    with pytest.raises(ProjectionError):
        plugins.load([str(tmp_path / "two.py")])
    assert sys.path == before


def test_a_module_is_loaded_by_its_dotted_name() -> None:
    """What is installed needs no path."""
    [plugin] = plugins.load(["runner.bench.latency"])
    assert plugin.projection.name == "bench-latency"


def test_an_installed_package_declares_its_projections_as_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a distribution on the path declares under ``runner.projections`` is loaded without being named."""
    write(tmp_path, "their_projections.py", GOOD.format(name="theirs"))
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    write(metadata, "METADATA", "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    write(metadata, "entry_points.txt", "[runner.projections]\nmine = their_projections\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [plugin.projection.name for plugin in plugins.load([])] == ["theirs"]
    assert plugins.load([], with_entry_points=False) == []


def test_the_same_file_named_twice_is_loaded_once(tmp_path: Path) -> None:
    """A directory and a file in it may both be given."""
    file = write(tmp_path, "one.py", GOOD.format(name="one"))
    assert len(plugins.load([str(tmp_path), str(file)])) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nonsense_that_is_not_there\n", ":1: ModuleNotFoundError"),
        ("x = 1\nraise RuntimeError('on import')\n", ":2: RuntimeError: on import"),
        ("def broken(:\n", ":1: SyntaxError"),
        ("x = 1\n", "holds no Projection"),
        ("from runner import Projection\np = Projection('no spaces please')\n", "'no spaces please' may hold only"),
        (GOOD.format(name="p") + "p.when('X', lambda s, e: None)\n", "two handlers for event type 'X'"),
        (
            "from runner import Projection\np = Projection('p')\n@p.when('X')\ndef one(state): pass\n",
            "must take (state, event)",
        ),
    ],
)
def test_a_plugin_that_does_not_load_is_blamed_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    """File, place and reason."""
    file = write(tmp_path, "bad.py", text)
    with pytest.raises(ProjectionError) as raised:
        plugins.load([str(file)])
    assert str(raised.value).startswith(str(file))
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_place_that_is_no_plugin_is_named(tmp_path: Path) -> None:
    """Nothing there, a directory without a projection, a file of another kind."""
    write(tmp_path, "empty.py", "x = 1\n")
    notes = write(tmp_path, "notes.txt", "x = 1\n")
    for place, reason in (
        (tmp_path / "nowhere.py", "there is no such file or directory"),
        (tmp_path, "no module in this directory holds a Projection or Reactor"),
        (notes, "this is not a Python module"),
    ):
        with pytest.raises(ProjectionError) as raised:
            plugins.load([str(place)])
        assert str(raised.value) == f"{place}: {reason}"


def test_two_projections_of_one_name_are_refused_with_both_files(tmp_path: Path) -> None:
    """A view can have one owner."""
    write(tmp_path, "one.py", GOOD.format(name="same"))
    write(tmp_path, "two.py", GOOD.format(name="same"))
    with pytest.raises(ProjectionError, match=r"two\.py: projection 'same' is defined in .*one\.py too"):
        plugins.load([str(tmp_path)])


def test_a_name_without_a_slash_is_a_module_whatever_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory ``shop`` of a project that was downloaded does not take the place of the installed ``shop``."""
    # given
    (tmp_path / "installed" / "shop").mkdir(parents=True)
    (tmp_path / "here" / "shop").mkdir(parents=True)
    write(tmp_path / "installed" / "shop", "__init__.py", GOOD.format(name="installed"))
    write(tmp_path / "here" / "shop", "one.py", GOOD.format(name="downloaded"))
    (tmp_path / "here" / "only_here").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    monkeypatch.chdir(tmp_path / "here")

    # then
    assert [plugin.projection.name for plugin in plugins.load(["shop"])] == ["installed"]
    assert [plugin.projection.name for plugin in plugins.load(["./shop"])] == ["downloaded"]
    with pytest.raises(ProjectionError) as caught:
        plugins.load(["only_here"])
    assert "./only_here" in caught.value.hint


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("stall.orders", "For the file of that name give ./stall/orders.py."),
        ("stall", "For the directory of that name give ./stall."),
        ("stall.more", "For the directory of that name give ./stall/more."),
        ("stall.nothing", ""),
    ],
)
def test_a_module_that_lies_in_the_working_directory_is_shown_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, hint: str
) -> None:
    """A dotted name is looked for among what is installed alone; the hint has the path that would be loaded."""
    (tmp_path / "stall" / "more").mkdir(parents=True)
    write(tmp_path / "stall", "orders.py", GOOD.format(name="orders"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectionError) as caught:
        plugins.load([place])
    assert caught.value.hint == hint


def test_the_working_directory_is_no_place_for_modules(tmp_path: Path) -> None:
    """``python -m runner`` finds the modules that the command ``runner`` finds, and no others."""
    write(tmp_path, "lying_here.py", GOOD.format(name="here"))
    done = subprocess.run(
        [sys.executable, "-m", "runner", "projections", "--projections", "lying_here"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "No module named 'lying_here'" in done.stderr


def test_an_entry_point_that_does_not_load_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where places are named it is told as a warning, with the switch that leaves all entry points out."""
    # given
    metadata = tmp_path / "broken-1.0.dist-info"
    metadata.mkdir()
    write(metadata, "METADATA", "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    write(metadata, "entry_points.txt", "[runner.projections]\nmine = their_broken_projections\n")
    write(tmp_path, "their_broken_projections.py", "raise RuntimeError('broken')\n")
    mine = write(tmp_path, "mine.py", GOOD.format(name="mine"))
    monkeypatch.syspath_prepend(str(tmp_path))

    # when
    told = run("projections", "--projections", str(mine))
    without = run("projections", "--projections", str(mine), "--no-entry-points")
    ran = run("run", "--once", "--projections", str(mine), store="memory:broken-entry-point")
    alone = run("projections")

    # then
    assert (told.exit_code, without.exit_code, ran.exit_code, alone.exit_code) == (1, 0, 0, 2)
    assert all("mine" in result.output for result in (told, without))
    assert all("Warning: entry point 'mine'" in result.stderr for result in (told, ran))
    assert "Warning" not in without.stderr
    assert "RuntimeError: broken" in alone.stderr

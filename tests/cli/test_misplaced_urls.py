"""The URL of a store in a wrong place, or with a part left out: no error repeats the password in it."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from command_line import run

import runner
from runner.cli.main import VERBS
from runner.text import without_passwords

SECRET = "s3cr3t"
URLS = [f"redis://:{SECRET}@db.example:6380/0", f"rediss://me:a/{SECRET}?@db.example", f"redis://:{SECRET}/0"]

#: These work until they are stopped, so a mistake beside the URL keeps them from beginning.
ENDLESS = {"run", "tail", "bench", "demo"}


def commands(command: click.Command, *words: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all those below it, with the words that call each."""
    yield words, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, *words, name)


COMMANDS = [
    found for verb, module in VERBS.items() for found in commands(importlib.import_module(module).command, verb)
]


def misplaced(words: tuple[str, ...], command: click.Command, url: str) -> Iterator[list[str]]:
    """Calls with a URL as each argument, as one too many, as the value of each option, and as an option."""
    mistake = ["too"] * 9 if words[0] in ENDLESS else []
    for count in (1, 2, 3, 4, 9):
        yield [*words, *[url] * count, *mistake]
        yield [*words, *["any"] * (count - 1), url, *mistake]
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_flag and option.name not in ("url", "name"):
            for values in ([url], ["any", url], ["any", "any", url]):
                yield [*words, option.opts[-1], *values[-1:], *values[:-1], *mistake]
            yield [*words, f"{option.opts[-1]}={url}", *mistake]
    yield [*words, f"--stor={url}", *mistake]
    yield [*words, f"--{url}", *mistake]
    yield [*words, "--name", url, *mistake]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_no_mistake_prints_the_password(
    words: tuple[str, ...], command: click.Command, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A URL in the place of any argument, of an option's value, or of an option."""
    monkeypatch.chdir(tmp_path)
    mistakes = 0
    for arguments in misplaced(words, command, url):
        result = run(*arguments, store="memory:")
        if result.exit_code:
            mistakes += 1
            assert SECRET not in result.output, arguments
            assert "Traceback" not in result.output
    assert mistakes


@pytest.mark.parametrize("url", URLS)
def test_no_command_name_prints_the_password(url: str) -> None:
    """A URL in the place of the command."""
    result = run(url, "read")
    assert result.exit_code == 2
    assert SECRET not in result.output


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'redis://me:s3cr3t@h:1/0' is not a number", "'redis://***@h:1/0' is not a number"),
        ("redis://h:6379: refused; redis://[::1]:6379/0, unix:///tmp/x: gone", None),
        ("the stream 'account:a@b' and redis://h", None),
        ("(redis://h:6379)", None),
        ("'redis://:s3cr3t'", "redis://:***"),
    ],
)
def test_what_is_no_password_is_left(text: str, shown: str | None) -> None:
    """Host, port and path of a URL, and names with the same letters."""
    if shown is None:
        assert without_passwords(text) == text
    else:
        assert shown in without_passwords(text)
    assert SECRET not in without_passwords(text)


def test_no_hint_holds_what_looks_like_a_password() -> None:
    """It would be hidden when the hint is printed, and take the rest of the example with it."""
    hints = [
        text
        for path in Path(runner.__file__).parent.rglob("*.py")
        for text in hint_texts(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert any("redis://" in text for text in hints)
    assert [text for text in hints if without_passwords(text) != text] == []


def hint_texts(module: ast.Module) -> Iterator[str]:
    """The texts in the arguments `hint=` of a module, and in its table of hints."""
    for node in ast.walk(module):
        table = isinstance(node, ast.Assign) and any(getattr(one, "id", "") == "_HINTS" for one in node.targets)
        if table or (isinstance(node, ast.keyword) and node.arg == "hint"):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value

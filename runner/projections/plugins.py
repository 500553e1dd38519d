"""Loading plug-ins: modules that hold projections and reactors, only from the places that the operator names.

A place is a file, a directory, or a dotted module name. A name with a ``/`` or the ending ``.py`` is a path, every
other name is that of a module: a directory that happens to lie in the working directory takes the place of no installed
module. Entry points of the group ``runner.projections`` are loaded, too, unless they are switched off. Of a directory
every module is loaded, except files that begin with ``_``: these are for the others to import.
Importing `runner` loads no plug-in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from ..errors import ProjectionError
from .projection import Projection
from .reactor import Reactor

#: Installed distributions declare their projection modules under this entry point group.
ENTRY_POINTS = "runner.projections"


@dataclass(frozen=True, slots=True)
class Plugin:
    """A projection or reactor, and the file it came from."""

    projection: Projection | Reactor
    file: str


def shipped() -> Path:
    """The directory of the projections that come with the package."""
    package = Path(__file__).parents[1]
    inside = package / "shipped_projections"
    return inside if inside.is_dir() else package.parent / "projections"


def load(
    places: Iterable[str],
    *,
    with_entry_points: bool = True,
    on_failure: Callable[[ProjectionError], None] | None = None,
) -> list[Plugin]:
    """The projections of these places, sorted by name. Raises ProjectionError, which tells file, name and reason.

    ``on_failure`` is told of an entry point that does not load, and the others are loaded; without it that raises, too.
    """
    found: dict[str, Plugin] = {}
    modules = [module for place in places for module in _modules(place)]
    for point in entry_points(group=ENTRY_POINTS) if with_entry_points else ():
        try:
            modules.append(_guarded(f"entry point {point.name!r} ({point.value})", point.load))
        except ProjectionError as failure:
            if on_failure is None:
                raise
            on_failure(failure)
    for module in modules:
        file = module.__file__ or module.__name__
        for projection in _projections(module):
            other = found.get(projection.name)
            if other is not None and other.projection is not projection:
                raise ProjectionError(
                    f"{file}: projection {projection.name!r} is defined in {other.file} too; names must be unique"
                )
            found[projection.name] = Plugin(projection, file)
    return [found[name] for name in sorted(found)]


def _modules(place: str) -> Iterator[ModuleType]:
    path = Path(place)
    if not _is_path(place):
        module = _guarded(place, lambda: importlib.import_module(place))
    elif path.is_dir():
        files = sorted(file for file in path.glob("*.py") if not file.name.startswith("_"))
        modules = [_from_file(file) for file in files]
        if not any(_projections(module) for module in modules):
            raise ProjectionError(f"{place}: no module in this directory holds a Projection or Reactor")
        yield from modules
        return
    elif path.is_file():
        module = _from_file(path)
    else:
        raise ProjectionError(f"{place}: there is no such file or directory")
    if not _projections(module):
        raise ProjectionError(f"{place}: this module holds no Projection or Reactor", hint=_path_hint(place))
    yield module


def _is_path(place: str) -> bool:
    return "/" in place or place.endswith(".py") or place in (".", "..")


def _path_hint(place: str) -> str:
    """What to write where a directory or a file of the working directory was meant, and a module was named."""
    if _is_path(place):
        return ""
    path = place.replace(".", "/")
    for kind, found in (("directory", Path(place)), ("directory", Path(path)), ("file", Path(f"{path}.py"))):
        if found.is_file() if kind == "file" else found.is_dir():
            return f"For the {kind} of that name give ./{found}."
    return ""


def _from_file(path: Path) -> ModuleType:
    path = path.resolve()
    name = f"runner_plugin_{hashlib.sha1(str(path).encode()).hexdigest()[:8]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ProjectionError(f"{path}: this is not a Python module")
    module = importlib.util.module_from_spec(spec)
    loader = spec.loader

    def run() -> ModuleType:
        sys.modules[name] = module
        sys.path.insert(0, str(path.parent))  # so that a plug-in can import its neighbours
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            sys.path.remove(str(path.parent))
        return module

    return _guarded(str(path), run)


def _guarded(place: str, run: object) -> ModuleType:
    try:
        return run()  # type: ignore[operator,no-any-return]
    except (Exception, SystemExit) as fault:
        line = _line_of(fault, place)
        raise ProjectionError(f"{place}{line}: {type(fault).__name__}: {fault}", hint=_path_hint(place)) from fault


def _line_of(fault: BaseException, place: str) -> str:
    if isinstance(fault, SyntaxError) and fault.lineno:
        return f":{fault.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(fault.__traceback__) if frame.filename == place]
    return f":{lines[-1]}" if lines else ""


def _projections(module: ModuleType) -> list[Projection | Reactor]:
    return [value for value in vars(module).values() if isinstance(value, (Projection, Reactor))]

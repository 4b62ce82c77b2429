"""The source code behind a class, for artifact keys: what a version number cannot say of code that is not released.

r4r's own stages carry a version, raised by hand where their output changes. Code from elsewhere has none, and neither
has a checkout of r4r that somebody works on. So the digests of such files are part of the key of every stage that they
shape:

- of a module outside r4r: its file, and what it imports, transitively, but for what is installed (site-packages, the
  standard library; of an installed package, its own modules count). Of packages, text files beside the modules too.
- of r4r itself: those of these files that differ from `released.txt`, which lists every module of a release. Committing
  a change does not make it released: `python -m r4r.store.source` does, and whoever runs it raises the versions.

Digests are taken once for each time that a process loads a module: an edit counts once it is reloaded.
"""

import ast
import functools
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from r4r.errors import ConfigError

OWN = Path(__file__).resolve().parents[1]
RELEASED = Path(__file__).with_name("released.txt")
TEXTS = {".txt", ".md", ".json", ".yaml", ".yml", ".toml", ".csv", ".jinja", ".jinja2", ".j2"}
MAX_TEXT = 2**20  # bytes; a larger file beside a module is data
PLAIN = str | bytes | int | float | complex | None | list | tuple | dict | set | frozenset | Path
APART = {"__pycache__", "multirun_outputs", "wandb"}  # folders of what runs leave
OUTPUTS = {"artifacts", "runs", "sweeps", "report"}  # the same in a folder of another name, if it has two of them
Module = tuple[str, Path]
"""(dotted name, file)."""
_COUNTED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {}  # module -> see `_count`
_DIGESTS: dict[Module, tuple[Any, str]] = {}  # of a module's file -> how the module was loaded then, digest
_TEXTS: dict[Path, tuple[Any, dict[str, str]]] = {}  # folder -> how its package was loaded then, texts and digests


def source_identity(thing: Any) -> dict[str, str]:
    """File (as `package/module.py`) -> digest of the unreleased code behind a class or function; empty for r4r's own.

    Args:
        thing: class (its bases count), function (what its closure holds counts), bound method or partial of one.
    Raises:
        ConfigError: the code lies in no file and cannot be read elsewhere, so its changes could not be told.
    """
    found: dict[str, str] = {}
    for name, defined in _modules(thing):
        found |= _counted(name) if _loaded(name) or module_files(name) else _typed_in(name, defined)
    return dict(sorted(found.items()))


def _typed_in(name: str, defined: Any) -> dict[str, str]:
    """The same for code of a module without a file: a notebook's cell."""
    if _is_installed(name):
        return {}
    try:
        text = inspect.getsource(defined)
    except (OSError, TypeError) as error:
        told = f"{name}.{defined.__qualname__}: its source cannot be read, so its changes could not be told"
        raise ConfigError([f"{told}; put it into a file"]) from error
    return {f"{name}.{defined.__qualname__}": hashlib.sha256(text.encode()).hexdigest()[:16]}


def source_of(target: str) -> dict[str, str]:
    """`source_identity` of the class at a dotted path."""
    module, _, name = target.rpartition(".")
    return source_identity(getattr(importlib.import_module(module), name))


def _modules(thing: Any, depth: int = 0, top: str = "") -> Iterator[tuple[str, Any]]:
    """(module's name, definition) of a class or function and of what it holds; what is installed only where it belongs
    to the package `top`, which is that of the outermost."""
    if isinstance(thing, functools.partial):
        for part in (thing.func, *thing.args, *thing.keywords.values()):
            yield from _modules(part, depth, top)
    elif inspect.ismethod(thing):
        yield from _modules(thing.__func__, depth, top)
        yield from _modules(thing.__self__, depth, top)
    elif inspect.isclass(thing) or inspect.isfunction(thing):
        top = top or thing.__module__.partition(".")[0]
        for part in thing.__mro__ if inspect.isclass(thing) else (thing,):
            own = part.__module__.partition(".")[0] == top and top not in sys.stdlib_module_names
            if own or not _is_installed(part.__module__):
                yield part.__module__, part
        if depth < 3 and inspect.isfunction(thing):
            for cell in thing.__closure__ or ():
                with suppress(ValueError):  # not yet filled
                    yield from _modules(cell.cell_contents, depth + 1, top)
    elif not isinstance(thing, PLAIN):
        yield from _modules(type(thing), depth, top)
        if depth < 3 and not _is_installed(type(thing).__module__):
            for inner in list(getattr(thing, "__dict__", {}).values()):
                yield from _modules(inner, 3, top)


def _counted(name: str) -> dict[str, str]:
    """Digests of a module and of what it imports, as far as they count."""
    if name not in _COUNTED or any(_loading(dotted) is not found for dotted, found in _COUNTED[name][0].items()):
        _COUNTED[name] = _count(name)
    return _COUNTED[name][1]


def _loading(dotted: str) -> Any:
    """What tells one loading of a module from the next; None where it is not loaded."""
    return getattr(sys.modules.get(dotted), "__spec__", None)


def _count(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """How each of the modules that count was loaded, and the digests."""
    start = [(name, path) for path in _loaded(name)] or list(module_files(name))
    top = name.partition(".")[0]
    waiting = [module for module in start if _counts(module, top)]
    seen: dict[Path, Module] = {}
    while waiting:
        dotted, path = waiting.pop()
        if path in seen:
            continue
        seen[path] = dotted, path
        for imported in _imports(dotted, path, digest(path, dotted)):
            waiting += [module for module in module_files(imported) if module[1] not in seen and _counts(module, top)]
    found = {}
    for dotted, path in seen.values():
        own = dotted.partition(".")[0] == "r4r"
        shown = _shown(dotted, path)
        if own and _released().get(shown) == digest(path, dotted):
            continue
        found[shown] = digest(path, dotted)
        if not own:
            found |= {f"{shown.rpartition('/')[0]}/{name}": told for name, told in _texts(dotted, path).items()}
    return {dotted: _loading(dotted) for dotted, _ in seen.values()}, found


def _counts(module: Module, top: str) -> bool:
    """Whether the source of a module may be part of the identity of one in the package `top`."""
    dotted, path = module
    own_top = dotted.partition(".")[0]
    if own_top == "r4r":
        return bool(_modified())
    return own_top == top or not _in_library(path)


def _loaded(name: str) -> list[Path]:
    """The file of a module that has one and is no part of a package that can be found: `__main__`, a notebook's."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return [Path(file).resolve()] if file and "." not in name else []


@functools.cache
def module_files(name: str) -> tuple[Module, ...]:
    """The modules whose files run when a dotted name is imported; what follows a module's name is left out."""
    top, *rest = name.split(".")
    if top in sys.stdlib_module_names:
        return ()
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # it has none
        return ()
    if spec is None:
        return ()
    found = [(top, Path(spec.origin).resolve())] if spec.has_location and spec.origin else []
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    dotted = top
    for part in rest:
        dotted = f"{dotted}.{part}"
        for folder in folders:
            package = folder / part
            files = [package / "__init__.py", *(folder / f"{part}{suffix}" for suffix in (".py", *EXTENSION_SUFFIXES))]
            file = next((file for file in files if file.is_file()), None)
            if file or package.is_dir():
                found += [(dotted, file.resolve())] if file else []
                folders = [package]
                break
        else:
            break
    return tuple(found)


@functools.cache
def _imports(dotted: str, path: Path, content: str) -> tuple[str, ...]:
    """Dotted names that a module's source imports, inside of functions too.

    Args:
        content: its digest.
    """
    if path.suffix != ".py":
        return ()
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # told where it is imported
        return ()
    package = dotted.split(".") if path.name == "__init__.py" else dotted.split(".")[:-1]
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = [*base, *(node.module.split(".") if node.module else [])]
            found += [".".join([*stem, alias.name]) for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append(node.args[0].value)
    return tuple(dict.fromkeys(name for name in found if name))


def _texts(dotted: str, path: Path) -> dict[str, str]:
    """Name -> digest of the text files beside a module of a package, and in folders there: its prompts, say."""
    if path.name != "__init__.py" and "." not in dotted:
        return {}
    folder, loading = path.parent, _loading(dotted.partition(".")[0])
    if folder not in _TEXTS or _TEXTS[folder][0] is not loading:
        found = {}
        for here, below, names in os.walk(folder):
            left = OUTPUTS.intersection(below) if len(OUTPUTS.intersection(below)) > 1 else set()
            below[:] = [name for name in below if not name.startswith(".") and name not in APART | left]
            for file in (Path(here, name) for name in names if not name.startswith(".")):
                if file.suffix in TEXTS and file.is_file() and file.stat().st_size <= MAX_TEXT:
                    found[file.relative_to(folder).as_posix()] = _digest_of(file)
        _TEXTS[folder] = loading, found
    return _TEXTS[folder][1]


def _shown(dotted: str, path: Path) -> str:
    """A file's name from its top-level package on: the same on every machine."""
    parts = dotted.split(".")
    package = parts if path.name == "__init__.py" else parts[:-1]
    return "/".join([*package, path.name])


def _is_installed(name: str) -> bool:
    """Whether a module belongs to the standard library or to an installed package other than r4r."""
    top = name.partition(".")[0]
    if top == "r4r":
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    return top in sys.stdlib_module_names or top == "builtins" or (file is not None and _in_library(Path(file)))


def _in_library(path: Path) -> bool:
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or path.is_relative_to(
        sysconfig.get_path("stdlib")
    )


def digest(path: Path, dotted: str) -> str:
    """16 hex digits of a file's content, the same whatever its line ends, as it was when its module was loaded.

    Args:
        dotted: name of the module; empty: as it was when it was first read.
    """
    loading, file = _loading(dotted), (dotted, path)
    if file not in _DIGESTS or _DIGESTS[file][0] is not loading:
        _DIGESTS[file] = loading, _digest_of(path)
    return _DIGESTS[file][1]


def _digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]


def own_digests() -> dict[str, str]:
    """File -> digest of every module of r4r as it lies here."""
    return {f"r4r/{path.relative_to(OWN).as_posix()}": digest(path, "") for path in sorted(OWN.rglob("*.py"))}


@functools.lru_cache(maxsize=1)
def _released() -> dict[str, str]:
    lines = RELEASED.read_text(encoding="utf-8").splitlines() if RELEASED.exists() else []
    return {name: found for found, _, name in (line.partition("  ") for line in lines)}


@functools.lru_cache(maxsize=1)
def _modified() -> frozenset[str]:
    """Modules of r4r that are not the released ones."""
    return frozenset(name for name, found in own_digests().items() if _released().get(name) != found)


def main() -> None:
    """Declare r4r's modules as they lie here the released ones."""
    lines = [f"{found}  {name}\n" for name, found in own_digests().items()]
    RELEASED.write_text("".join(lines), encoding="utf-8")
    print(f"{RELEASED}: {len(lines)} modules")


if __name__ == "__main__":
    main()

"""Rules of the layout that import-linter cannot see."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent
_PACKAGES = ("exporter", "archiver", "dashboards", "deploy", "sql")
_IMPORT_ALL = """
import importlib, os, sys, threading
before = dict(os.environ), set(os.listdir("."))
for name in sys.argv[1:]:
    importlib.import_module(name)
assert threading.active_count() == 1, threading.enumerate()
assert (dict(os.environ), set(os.listdir("."))) == before
"""


def source_files() -> list[Path]:
    """Return every module of the packages."""
    return [path for package in _PACKAGES for path in sorted((_ROOT / package).rglob("*.py"))]


def modules(package: str) -> Iterator[str]:
    """Yield the name of `package` and of every module in it."""
    yield package
    for info in pkgutil.walk_packages([str(_ROOT / package)], f"{package}."):
        if not info.name.endswith("__main__"):
            yield info.name


def reads_environment(node: ast.AST) -> bool:
    """Return whether `node` is `os.environ`, `os.getenv` or an import of one of them."""
    if isinstance(node, ast.Attribute):
        return ast.unparse(node) in {"os.environ", "os.environb", "os.getenv"}
    if isinstance(node, ast.ImportFrom):
        return node.module == "os" and any("env" in alias.name for alias in node.names)
    return False


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(_ROOT)))
def test_only_config_modules_read_the_environment(path: Path) -> None:
    """`os.environ` stands in modules named config, so that every setting has one place."""
    found = any(
        reads_environment(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )

    assert not found or path.stem == "config"


@pytest.mark.parametrize("package", _PACKAGES)
def test_nothing_happens_at_import(package: str, tmp_path: Path) -> None:
    """Importing every module starts no thread, writes no file and prints nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _IMPORT_ALL, *modules(package)],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("package", _PACKAGES)
def test_package_says_that_it_is_typed(package: str) -> None:
    """Each package carries the marker that lets a host's type checker use our annotations."""
    assert (_ROOT / package / "py.typed").is_file()


def test_command_loads_what_measures_audio_only_where_it_is_needed() -> None:
    """Most subcommands need the vocabulary alone; numba and scipy take a second or two to load."""
    code = "import sys, deploy.cli; print(sorted({'numba', 'scipy'} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=_ROOT
    )

    assert done.stdout.strip() == "[]"

"""The wheel in an empty environment gives the command, with its migrations inside."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.fix_store import reachable_folder

ROOT = Path(__file__).parents[2]


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {
        "embstore." + str(path.parent.relative_to(ROOT)).replace("/", ".")
        for folder in ("cli", "migrations")
        for path in (ROOT / folder).rglob("__init__.py")
    }
    found |= {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for path in (ROOT / "embstore").rglob("__init__.py")
    }
    assert set(listed) == found


@pytest.mark.timeout(600)
def test_wheel_in_an_empty_environment(tmp_path: Path) -> None:
    def run(*command: object, **environment: str) -> str:
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"} | environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # Without isolation: the build backend is already here, as an extra of the tests.
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    folder = reachable_folder()
    try:
        python = folder / "venv" / "bin" / "python"
        run(sys.executable, "-m", "venv", folder / "venv")
        # What is imported once need not be compiled before.
        run(python, "-m", "pip", "install", "--quiet", "--no-compile", wheel)
        command = folder / "venv" / "bin" / "embstore"
        here = {"EMBSTORE_HOME": str(folder / "home")}
        assert run(command, "--version").startswith("embstore ")
        assert "CREATE TABLE embstore.versions" in run(command, "migrate", "--sql")
        (tmp_path / "v.csv").write_text("id,v0,v1\na,1,2\nb,2,1\nc,1,1\n")
        run(command, "load", "items", "v.csv", "--promote", **here)
        assert '"c"' in run(command, "nearest", "items", "--id", "a", "-k", "1", "--json", **here)
        script = (
            "import importlib, pkgutil, embstore\n"
            "for m in pkgutil.walk_packages(embstore.__path__, 'embstore.'):\n"
            "    if not m.name.endswith('__main__') and 'migrations.' not in m.name:\n"
            "        importlib.import_module(m.name)\n"
        )
        run(python, "-c", script)
    finally:
        import shutil

        shutil.rmtree(folder)

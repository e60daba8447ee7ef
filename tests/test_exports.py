import subprocess
import sys

import embstore


def test_all_lists_what_is_there() -> None:
    public = {
        name
        for name, value in vars(embstore).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("embstore.")
    }
    assert public == set(embstore.__all__)


def test_import_leaves_heavy_libraries_alone() -> None:
    script = (
        "import sys, embstore, embstore.cli\n"
        "print([m for m in ('torch', 'pandas', 'polars', 'sklearn', 'sqlalchemy', 'alembic')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_missing_extra_is_named() -> None:
    import pytest

    from embstore.optional import require

    with pytest.raises(embstore.MissingPackage, match=r"pip install 'embstore\[torch\]'"):
        require("no_such_package_at_all", "torch")

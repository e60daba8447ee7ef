"""Optional packages: imported where they are used, and named with their extra when missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .errors import MissingPackage


def require(package: str, extra: str) -> Any:
    """Import ``package``.

    Raises
    ------
    MissingPackage
        With the command that installs it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise MissingPackage(
            f"this needs {package}: run pip install 'embstore[{extra}]'"
        ) from error

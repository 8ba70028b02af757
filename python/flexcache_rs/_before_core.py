"""Imports the extension module, or says why it cannot be used here. The package imports this first."""

from __future__ import annotations

import sys


def _is_main_interpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            module = __import__(name)  # `importlib` would import more.
        except ImportError:
            continue
        return bool(module.get_current() == module.get_main())
    return True


# CPython itself refuses only in isolated subinterpreters. Others, such as those of mod_wsgi, would leave the module
# unusable for the whole process when they end.
if not _is_main_interpreter():
    raise ImportError(
        "flexcache_rs cannot be imported in a subinterpreter; mod_wsgi needs WSGIApplicationGroup %{GLOBAL}, and uWSGI "
        "needs single-interpreter",
        name="flexcache_rs",
    )


def _import_core() -> None:
    try:
        __import__("flexcache_rs._core")
    except ModuleNotFoundError as error:
        if error.name != "flexcache_rs._core":
            raise
        message = (
            f"{error.msg}: {sys.modules['flexcache_rs'].__path__[0]} has no extension module for this Python "
            f"({sys.implementation.cache_tag}, {sys.platform}); a zip file cannot have one, and each Python needs its "
            "own"
        )
        raise ModuleNotFoundError(message, name=error.name) from None


_import_core()

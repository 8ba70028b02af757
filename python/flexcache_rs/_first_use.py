"""Names of a package whose modules are imported when a program first uses them."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def importing(package: str, names: dict[str, str], modules: "Collection[str]" = ()) -> "Callable[[str], object]":
    """Return the `__getattr__` of a package.

    A package defines it only if not `TYPE_CHECKING`: a type checker would accept every name, including misspelt ones.
    For the type checker, the package imports the names under `TYPE_CHECKING`.

    Args:
        package: The name of the package.
        names: The full name of the module that defines each name.
        modules: Submodules that are names of the package themselves.
    """

    def find(name: str) -> object:
        from importlib import import_module

        if name in modules:
            return import_module(f"{package}.{name}")
        module = names.get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(module), name)

    return find


def listing(package: str) -> "Callable[[], list[str]]":
    """Return the `__dir__` of a package, which also lists what the package exports and has not imported yet.

    Completion and `help()` use it. They also get the value of each name. A package whose `__all__` has a name that may
    be missing, such as `DjangoCache`, does not use this function.
    """

    def names() -> list[str]:
        attributes = vars(sys.modules[package])
        return sorted({*attributes, *attributes["__all__"]})

    return names

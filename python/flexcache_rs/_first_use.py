"""Names of a package whose modules are imported when a program first uses them."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection


def importing(
    package: str, names: dict[str, str], modules: "Collection[str]" = ()
) -> "tuple[Callable[[str], object], Callable[[], list[str]]]":
    """Return the `__getattr__` and the `__dir__` of a package.

    A package defines them only if not `TYPE_CHECKING`: a type checker would accept every name, including misspelt ones.
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

    def list_names() -> list[str]:
        import sys

        # `help()` gets the value of each of them, so there is none that needs Django.
        return sorted({*vars(sys.modules[package]), *names, *modules} - {"DjangoCache", "djangocache"})

    return find, list_names

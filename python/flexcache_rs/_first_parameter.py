"""The types of functions by their first parameter, for type checkers. No program imports it.

They tell methods, class methods and static methods apart, which a decorator alone cannot do. Parameters `self` and
`cls` are recognized by name, and others by type.
"""

# pyright: reportRedeclaration=false, reportSelfClsParameterName=false

from __future__ import annotations

from typing import Any, Generic, ParamSpec, Protocol, TypeVar, final

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
First_contra = TypeVar("First_contra", contravariant=True)

# mypy takes this name for true, whatever it is.
MYPY = False


class TakesSelf(Protocol[P, R_co]):
    """A function whose first parameter is called `self`. `P` are the others."""

    def __call__(self_, self: Any, *args: P.args, **kwargs: P.kwargs) -> R_co:  # noqa: N805
        """Call it."""
        ...


class TakesClass(Protocol[P, R_co]):
    """A function whose first parameter is called `cls`. `P` are the others."""

    def __call__(self_, cls: Any, *args: P.args, **kwargs: P.kwargs) -> R_co:  # noqa: N805
        """Call it."""
        ...


class Takes(Protocol[First_contra, P, R_co]):
    """A function with a first parameter of this type. `P` are the others."""

    def __call__(self, first: First_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call it."""
        ...


@final
class Anything:
    """What a function takes first if it takes anything, `Takes[Anything, ...]`. No function returns it."""


# mypy does not solve the type of a result that is the type of `self` or `cls`, as in `-> Self`, or a type variable of a
# method. Such a function fits `TakesSelf[..., Anything]`, and of the others only those whose result is Any. The class
# tells these apart: it fits this protocol if the result is Any, `object` or `str`.
class OfAnyResult(Protocol[R_co]):
    """Any object, if Any, `object` or `str` is the type of the result."""

    def __str__(self) -> R_co:  # type: ignore[override]
        """Have the method that all objects have."""
        ...


# mypy takes a result that it does not solve for Never, and reports nothing of what follows such a call. A class fits
# this protocol only then: no other type of a result is both a `str` and an `int`.
class AddsTo(Protocol[First_contra]):
    """What can be added to something of this type."""

    def __add__(self, other: First_contra, /) -> Any:
        """Add something."""
        ...


class OfUnknownResult(Protocol[First_contra]):
    """Any object, if Never is the type of the result."""

    def __str__(self) -> AddsTo[First_contra]:  # type: ignore[override]
        """Have the method that all objects have."""
        ...

    def __sizeof__(self) -> AddsTo[First_contra]:  # type: ignore[override]
        """Have the method that all objects have."""
        ...


# pyright compares the type of a decorated method with that in a subclass, including the parameter `self`, whose types
# differ. For pyright, a decorated method therefore has a type without that parameter. mypy compares methods as
# instances have them. It gives up where an Any makes a function fit several overloads. For mypy, therefore, no function
# fits these types.
if MYPY:

    class Method(Generic[First_contra, P, R_co]):
        """No function."""

    class ClassMethod(Generic[First_contra, P, R_co]):
        """No function."""

else:

    class Method(Protocol[First_contra, P, R_co]):
        """A method, by the name of its first parameter."""

        def __call__(self_, self: First_contra, *args: P.args, **kwargs: P.kwargs) -> R_co:  # noqa: N805
            """Call it."""
            ...

    class ClassMethod(Protocol[First_contra, P, R_co]):
        """A class method, by the name of its first parameter."""

        def __call__(self_, cls: First_contra, *args: P.args, **kwargs: P.kwargs) -> R_co:  # noqa: N805
            """Call it."""
            ...

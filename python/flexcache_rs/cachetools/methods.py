"""The descriptor that `cachedmethod` puts into a class. It makes a wrapper in the dict of each instance."""

# mypy: ignore-errors

from __future__ import annotations

import functools
from types import MethodType

from flexcache_rs.cachetools.wrapped import class_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OF_SUPERCLASSES = "__cachetools_cachedmethods"
"""The attribute of an instance with the wrappers of methods that it reaches through `super()`."""


class _BoundMethod:
    """A method wrapped by `cachedmethod`, bound to one instance."""

    def __init__(self, instance: Any, descriptor: _Method) -> None:
        functools.update_wrapper(self, descriptor.__wrapped__)
        self._cachetools_instance, self._cachetools_descriptor = instance, descriptor
        self.cache_key = functools.partial(descriptor.key, instance)
        self._cachetools_use(MethodType(descriptor.__wrapped__, instance), descriptor.info)

    @property
    def cache(self) -> Any:
        """The cache of the instance."""
        return self._cachetools_descriptor.cache(self._cachetools_instance)

    @property
    def cache_lock(self) -> Any:
        """The lock of the instance, or None."""
        lock = self._cachetools_descriptor.lock
        return None if lock is None else lock(self._cachetools_instance)

    @property
    def cache_condition(self) -> Any:
        """The condition of the instance, or None."""
        condition = self._cachetools_descriptor.condition
        return None if condition is None else condition(self._cachetools_instance)

    def __reduce__(self) -> Any:
        # Unpickling makes a new wrapper from the class, whose counters begin at 0.
        return self._cachetools_descriptor.__get__, (self._cachetools_instance,)

    def __repr__(self) -> str:
        function, instance = self._cachetools_descriptor.__wrapped__, self._cachetools_instance
        return f"<cachedmethod {function!r} of {object.__repr__(instance)}>"


_KINDS: dict[tuple[type, ...], type] = {}


def _of_methods(kinds: tuple[type, ...]) -> type:
    return _KINDS.setdefault(kinds, type("_CachedMethod", (_BoundMethod, *kinds), {}))


class _Method:
    """The descriptor."""

    __wrapped__: Any

    def __init__(self, function: Any, cache: Any, key: Any, lock: Any, condition: Any, info: Any) -> None:
        functools.update_wrapper(self, function)
        self.cache, self.key, self.info = cache, key, info
        self.lock, self.condition = condition if lock is None else lock, condition
        self._made = _of_methods(class_for(lock, condition, info))
        self._owner: type | None = None
        self._name: str | None = None
        self._of_class: _Unbound | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        if self._name is None:
            self._owner, self._name = owner, name
        elif name != self._name:
            raise TypeError(f"cannot assign one cached method to two names, {self._name!r} and {name!r}")

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        name = self._name
        if name is None:
            if isinstance(instance, type):
                self()
            raise TypeError("a cached method needs a name: define it in the body of a class")
        if instance is None:
            if self._of_class is None:
                self._of_class = _Unbound(self)
            return self._of_class
        found = next((vars(one)[name] for one in type(instance).__mro__ if name in vars(one)), None)
        wrapper = self._made(instance, self) if found is self else None
        try:
            if wrapper is not None:
                # If two threads come here at once, both use the wrapper that is stored first.
                return instance.__dict__.setdefault(name, wrapper)
            wrappers = instance.__dict__.setdefault(_OF_SUPERCLASSES, {})
        except AttributeError:
            of = type(instance).__name__
            raise TypeError(f"No '__dict__' attribute on {of!r} instance to cache {name!r}") from None
        except TypeError as error:
            of = type(instance).__name__
            raise TypeError(
                f"The '__dict__' attribute on {of!r} instance does not support item assignment for caching {name!r}"
            ) from error
        if self not in wrappers:
            wrappers.setdefault(self, self._made(instance, self))
        return wrappers[self]

    def __reduce__(self) -> Any:
        return _found_again, (self._owner, self._name)

    def __call__(self, /, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError(
            "Cannot call a cached method directly: @cachedmethod must be the outermost decorator, and decorating "
            "a class method, static method or property is not supported"
        )


def _found_again(owner: type, name: str) -> Any:
    """Return the descriptor of a method, for unpickling."""
    return vars(owner)[name]


class _Unbound:
    """The attribute of the class under the method's name. A call with an instance calls the method."""

    __wrapped__: Any

    def __init__(self, descriptor: _Method) -> None:
        # Wrap the function rather than the descriptor, whose attributes apply to instances.
        functools.update_wrapper(self, descriptor.__wrapped__)
        self._cachetools_descriptor = descriptor

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self._cachetools_descriptor.__get__(instance)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if args:
            return self._cachetools_descriptor.__get__(args[0])(*args[1:], **kwargs)
        from inspect import Parameter, signature  # Not imported before it is used.

        first = next(iter(signature(self._cachetools_descriptor.__wrapped__).parameters.values()), None)
        if first is None or first.kind is not Parameter.POSITIONAL_OR_KEYWORD or first.name not in kwargs:
            raise TypeError("Cannot call a cached method through the class without an instance")
        return self._cachetools_descriptor.__get__(kwargs.pop(first.name))(**kwargs)

    def __reduce__(self) -> Any:
        return self._cachetools_descriptor.__get__, (None,)

    def __repr__(self) -> str:
        return f"<cachedmethod {self.__wrapped__!r}>"


def wrapped_method(function: Any, cache: Any, key: Any, lock: Any, condition: Any, info: Any) -> Any:
    """Return a descriptor for the method, which keeps results in a cache of the instance."""
    return _Method(function, cache, key, lock, condition, info)

from typing import Any
from weakref import ReferenceType

class InstanceRef(ReferenceType[Any]):
    """A weak reference to an instance, which replaces the instance in keys. It is equal only to itself."""

    address: int
    tag: str

def results_of(instance: object) -> Any:
    """Return the object in which an instance holds results of its methods. None if it has no __dict__ for it."""

def may_refer_to(value: object, instance: object) -> bool:
    """Whether a result may keep an instance alive, judging by the references that the garbage collector reports."""

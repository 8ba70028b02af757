from typing import Any
from weakref import ReferenceType

class InstanceRef(ReferenceType[Any]):
    """Stands for an instance in the keys of its method: equal to itself alone, and weak."""

    address: int
    tag: str

def results_of(instance: object) -> Any:
    """Where an instance holds results of its methods; None where it has no room for attributes."""

def may_refer_to(value: object, instance: object) -> bool:
    """Whether a result may keep an instance alive, as far as the collector can see."""

from typing import Any
from weakref import ReferenceType

class InstanceRef(ReferenceType[Any]):
    address: int
    tag: str

def results_of(instance: object) -> Any: ...
def may_refer_to(value: object, instance: object) -> bool: ...

"""Names of caches in shared memory that only this run of the tests uses."""

from __future__ import annotations

import os
import re

_NAME = re.compile(r'"(docs|example)(?=[-"])')


def own_names(text: str) -> str:
    """Return examples with other names of caches, so that two runs at the same time do not meet."""
    return _NAME.sub(rf'"\1-{os.getpid()}', text)

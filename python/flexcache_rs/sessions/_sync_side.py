"""What the face without `await` has to itself."""

from __future__ import annotations

from time import sleep

__all__ = ["sleep"]

"""An eviction policy written in Python."""


class Oldest:
    """First in, first out."""

    def __init__(self):
        self.order = {}

    def on_insert(self, key):
        self.order[key] = None

    def on_access(self, key):
        pass

    def on_remove(self, key):
        self.order.pop(key, None)

    def victim(self):
        return next(iter(self.order))

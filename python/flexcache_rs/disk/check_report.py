"""The findings of `check`."""

from __future__ import annotations

import warnings

from flexcache_rs._suggest import suggesting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class UnknownFileWarning(UserWarning):
    """A file in the directory that belongs to no entry."""


class EmptyDirWarning(UserWarning):
    """A directory without files."""


_CATEGORIES = {"unknown_file": UnknownFileWarning, "empty_directory": EmptyDirWarning}


@suggesting
class CheckReport(list[warnings.WarningMessage]):
    """The findings of `check`: a list of warnings, and the same findings by kind, as texts."""

    def __init__(self, findings: Iterable[tuple[str, str]] = ()) -> None:
        self._findings = list(findings)
        super().__init__(
            warnings.WarningMessage(category(text), category, __file__, 0)
            for category, text in ((_CATEGORIES.get(kind, UserWarning), text) for kind, text in self._findings)
        )

    def _of(self, kind: str) -> list[str]:
        return [text for other, text in self._findings if other == kind]

    def extend_from(self, other: CheckReport) -> None:
        """Add the findings of another report."""
        self._findings += other._findings
        self.extend(other)

    @property
    def ok(self) -> bool:
        """Whether there are no findings."""
        return not self

    @property
    def damaged(self) -> list[str]:
        """SQLite's messages about the database. They are not repaired. Delete the database or the directory."""
        return self._of("damaged")

    @property
    def missing_files(self) -> list[str]:
        """Entries whose file is missing. The repair deletes the entries."""
        return self._of("missing_file")

    @property
    def wrong_sizes(self) -> list[str]:
        """Entries whose file has another size. The repair corrects the entry."""
        return self._of("wrong_size")

    @property
    def damaged_values(self) -> list[str]:
        """Entries with a damaged value, as far as checksums show this. The repair deletes the entries."""
        return self._of("damaged_value")

    @property
    def unknown_files(self) -> list[str]:
        """Files that belong to no entry. The repair deletes the files."""
        return self._of("unknown_file")

    @property
    def empty_directories(self) -> list[str]:
        """Directories without files. The repair deletes them."""
        return self._of("empty_directory")

    @property
    def wrong_counters(self) -> list[str]:
        """Counters that disagree with the entries. The repair corrects them."""
        return self._of("wrong_counter")

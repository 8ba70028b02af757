"""What `check` found."""

from __future__ import annotations

import warnings

from flexcache_rs._suggest import suggesting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class UnknownFileWarning(UserWarning):
    """A file in the directory that no entry knows."""


class EmptyDirWarning(UserWarning):
    """A directory without files."""


_CATEGORIES = {"unknown_file": UnknownFileWarning, "empty_directory": EmptyDirWarning}


@suggesting
class CheckReport(list[warnings.WarningMessage]):
    """What `check` found: a list of warnings, and the same by kind, as texts."""

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
        """Whether all is as it should be."""
        return not self

    @property
    def damaged(self) -> list[str]:
        """What SQLite says about the database. Not mended; delete the database, or the directory."""
        return self._of("damaged")

    @property
    def missing_files(self) -> list[str]:
        """Entries whose file is gone. Mended by deleting them."""
        return self._of("missing_file")

    @property
    def wrong_sizes(self) -> list[str]:
        """Entries whose file has another size. Mended in the entry."""
        return self._of("wrong_size")

    @property
    def damaged_values(self) -> list[str]:
        """Entries whose value has lost a byte, as far as checksums tell. Mended by deleting them."""
        return self._of("damaged_value")

    @property
    def unknown_files(self) -> list[str]:
        """Files that no entry knows. Mended by deleting them."""
        return self._of("unknown_file")

    @property
    def empty_directories(self) -> list[str]:
        """Directories without files. Mended by deleting them."""
        return self._of("empty_directory")

    @property
    def wrong_counters(self) -> list[str]:
        """Counters that disagree with the entries. Mended."""
        return self._of("wrong_counter")

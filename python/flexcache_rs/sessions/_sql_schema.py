"""The tables of sessions on MySQL and MariaDB. They are those of the directory, with the types of these servers."""

from __future__ import annotations

VERSION = 2
"""The version of the tables, which `fx_meta` records."""

MOST_KEY_BYTES = 512
MOST_MEMBER_BYTES = 2048
MOST_NAME_BYTES = 700

NOW = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
"""Microseconds since 1970 (UTC) on the server's clock at the beginning of the statement."""

LATER = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', SYSDATE(6))"
"""The same at the moment of evaluation: in an update, after the row is locked. The session's time zone is UTC."""

# `fx_key` has one row for each key. Its elements are in the table for its kind, under an `id` that is never reused.
# Text is stored as bytes, because a collation would treat different keys as equal. Scores are bytes that sort like the
# numbers, because DOUBLE has no infinity here.
_TABLES = f"""
fx_meta (one TINYINT PRIMARY KEY, version INT NOT NULL)

fx_key (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, ns VARBINARY(64) NOT NULL,
  k VARBINARY({MOST_KEY_BYTES}) NOT NULL, kind TINYINT NOT NULL, v LONGBLOB, expire BIGINT,
  n BIGINT NOT NULL DEFAULT 0, lo BIGINT NOT NULL DEFAULT 0, hi BIGINT NOT NULL DEFAULT 0,
  seq BIGINT NOT NULL DEFAULT 0, UNIQUE KEY fx_name (ns, k), KEY fx_expire (expire))

fx_list (id BIGINT NOT NULL, pos BIGINT NOT NULL, v LONGBLOB NOT NULL, PRIMARY KEY (id, pos))

fx_job (id BIGINT NOT NULL, job BIGINT NOT NULL, until BIGINT NOT NULL, v LONGBLOB NOT NULL, PRIMARY KEY (id, job))

fx_map (id BIGINT NOT NULL, f VARBINARY({MOST_MEMBER_BYTES}) NOT NULL, v LONGBLOB NOT NULL, PRIMARY KEY (id, f))

fx_set (id BIGINT NOT NULL, m VARBINARY({MOST_MEMBER_BYTES}) NOT NULL, PRIMARY KEY (id, m))

fx_sorted (id BIGINT NOT NULL, m VARBINARY({MOST_MEMBER_BYTES}) NOT NULL, score BINARY(8) NOT NULL,
  PRIMARY KEY (id, m), KEY fx_score (id, score, m))

fx_stream (id BIGINT NOT NULL, ms BIGINT NOT NULL, seq BIGINT NOT NULL, v LONGBLOB NOT NULL, PRIMARY KEY (id, ms, seq))

fx_page (id BIGINT NOT NULL, page BIGINT NOT NULL, v BLOB NOT NULL, PRIMARY KEY (id, page))

fx_gate (k VARBINARY({MOST_NAME_BYTES}) NOT NULL PRIMARY KEY, tat BIGINT NOT NULL)

fx_lease (k VARBINARY({MOST_NAME_BYTES}) NOT NULL PRIMARY KEY, token VARBINARY(64) NOT NULL, expire BIGINT NOT NULL)

fx_garbage (id BIGINT NOT NULL PRIMARY KEY, kind TINYINT NOT NULL)
"""


def _create(tables: str) -> tuple[str, ...]:
    # In other formats of rows, which a server can have as its default, a key has at most 767 bytes.
    names = tables.strip().removeprefix("fx_").split("\nfx_")
    return tuple(f"CREATE TABLE IF NOT EXISTS fx_{table} ENGINE=InnoDB ROW_FORMAT=DYNAMIC" for table in names)


TABLES = (*_create(_TABLES), "INSERT IGNORE INTO fx_meta (one, version) VALUES (1, 1)")
"""Statements that create the tables of version 1. Sessions may repeat them, and may run them at the same time."""

UPGRADES = (
    (
        *_create(
            f"fx_log (k VARBINARY({MOST_NAME_BYTES}) NOT NULL PRIMARY KEY, until BIGINT NOT NULL, v BLOB NOT NULL)"
        ),
        "UPDATE fx_meta SET version = 2 WHERE version = 1",
    ),
)
"""For each version from 2 on, statements that upgrade the tables of the previous one. They may be repeated too."""

OF_KIND = (
    *((), (), ("fx_list",), ("fx_list", "fx_job"), ("fx_map",), ("fx_set",), ("fx_sorted",), ("fx_stream",)),
    *(("fx_page",), ("fx_page",)),
)
"""The same by kind."""

"""The command ``sessions``: shows keys, values and deadlines of a backend, and removes expired data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flexcache_rs._command_group import add_group
from flexcache_rs._terminal import complain, printable, tell

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from flexcache_rs.sessions.sync import Session


def add_to(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
) -> None:
    """Add the command to the program's."""
    actions = add_group(
        commands,
        "sessions",
        summary="look at the keys and values of a session's backend, and remove what has expired",
        description="Tools for the data of flexcache_rs.sessions, which a URL names, such as disk:///var/cache/app.",
    )
    described: list[tuple[str, Callable[[argparse.Namespace, Session], int], str]] = [
        ("keys", _keys, "print the keys"),
        ("get", _get, "print the value of a key"),
        ("ttl", _ttl, "print how many seconds a key has left, or that it never expires"),
        ("purge", _purge, "remove what is left of keys that have expired"),
    ]
    for name, run, what in described:
        action = actions.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".", allow_abbrev=False)
        action.add_argument(
            "url", metavar="URL", help="such as disk:///directory, redis://host or mysql://host/database"
        )
        if name == "keys":
            action.add_argument("--match", metavar="PATTERN", help="only keys that match a pattern with *, ? and [...]")
        elif name in ("get", "ttl"):
            action.add_argument("key", metavar="KEY")
        action.add_argument("--namespace", default="", help="namespace of the session (default: none)")
        action.set_defaults(run=_with_session, step=run)
    action = actions.add_parser(
        "migrate",
        help="convert a database that PyCache has written",
        description="Replace a database that PyCache has written by a database of sessions. The old one is kept "
        "beside it as FILE.pycache. If the command is interrupted, the old database is unchanged, and the next call "
        "continues at the same place.",
        allow_abbrev=False,
    )
    action.add_argument("file", metavar="FILE", help="the database of PyCache")
    action.add_argument(
        "--to", metavar="FILE", help="write the new database to this file, and do not change the old one"
    )
    action.add_argument(
        "--allow",
        metavar="CLASS",
        action="append",
        default=[],
        help="a class that pickles may use, including its module",
    )
    action.add_argument("--skip-unreadable", action="store_true", help="skip keys that cannot be migrated")
    action.set_defaults(run=_migrate)


def _with_session(options: argparse.Namespace) -> int:
    from flexcache_rs.sessions import SessionError
    from flexcache_rs.sessions._arguments import parse_url
    from flexcache_rs.sessions._backends import SCHEMES
    from flexcache_rs.sessions.sync import connect

    try:
        url = parse_url(options.url, SCHEMES)
        if url.scheme == "memory":
            complain("flexcache sessions: the data of memory:// exists in one process only")
            return 1
        if url.scheme in ("disk", "sqlite"):
            database = Path(url.place) / "sessions.db" if url.scheme == "disk" else Path(url.place)
            if not database.is_file():
                complain(f"flexcache sessions: there is no database {database}")
                return 1
        with connect(options.url, namespace=options.namespace) as session:
            status: int = options.step(options, session)
            return status
    except (SessionError, ValueError, NotImplementedError, ImportError, OSError) as error:
        complain(f"flexcache sessions: {error}")
        return 1


def _keys(options: argparse.Namespace, session: Session) -> int:
    for key in session.keys(options.match):
        tell(printable(key))
    return 0


def _absent(key: str) -> int:
    complain(f"flexcache sessions: there is no key {key!r}")
    return 1


def _get(options: argparse.Namespace, session: Session) -> int:
    if not session.exists(options.key):
        return _absent(options.key)
    tell(repr(session.get(options.key)))
    return 0


def _ttl(options: argparse.Namespace, session: Session) -> int:
    try:
        left = session.ttl(options.key)
    except KeyError:
        return _absent(options.key)
    tell("never expires" if left is None else f"{left:.3f}")
    return 0


def _purge(_options: argparse.Namespace, session: Session) -> int:
    tell(f"{session.purge(2**62)} keys removed")
    return 0


def _migrate(options: argparse.Namespace) -> int:
    from flexcache_rs.pycache.migrate import migrate
    from flexcache_rs.sessions import SessionError

    if "://" in options.file:
        complain("flexcache sessions: FILE must be the name of a file, not a URL")
        return 1
    try:
        done = migrate(options.file, options.to, allow=options.allow, skip_unreadable=options.skip_unreadable)
    except (SessionError, ValueError, OSError) as error:
        complain(f"flexcache sessions: {error}")
        return 1
    kept = "" if done.backup is None else f"; the old database is {done.backup}"
    tell(f"{done.keys} keys migrated, {done.expired} had expired, {len(done.skipped)} skipped{kept}")
    for key, why in done.skipped.items():
        complain(f"skipped {key!r}: {why}")
    return 0

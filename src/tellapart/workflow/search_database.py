"""The database of a search: its address without what is secret in it, opened, and what it raises in words."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tellapart.errors import StorageError, UsageError

TABLES = 3
"""How often the tables are asked for."""
BEAT, SILENCE = 30, 180
"""Seconds between two signs of life of a trial, and after how many without one it counts as lost."""


def shown(url: str) -> str:
    """A database's address without what is secret in it: it may be written down."""
    address = _address(url)
    kept = {key: value for key, value in address.query.items() if "pass" not in key}
    parts = {"host": address.host, "port": address.port, "database": address.database, "query": kept}
    return address.create(address.drivername, address.username, **parts).render_as_string(hide_password=False)


def _address(url: str) -> Any:
    """The parsed URL. Raises UsageError, which does not repeat it: a password may stand in it."""
    optuna_at_hand()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    hint = "Use postgresql://USER@HOST/DATABASE or sqlite:///FILE.db."
    try:
        address = make_url(url)
    except (ArgumentError, ValueError):
        raise UsageError("What --storage was given is not the address of a database.", hint) from None
    kind = address.drivername.split("+")[0]
    if kind not in ("postgresql", "postgres", "sqlite"):
        raise UsageError(f"--storage cannot be of the kind '{kind}'.", hint)
    return address if kind == "sqlite" else address.set(drivername="postgresql+psycopg")


def optuna_at_hand() -> Any:
    """The library, which an extra installs, told to keep its log lines to itself. Raises UsageError."""
    try:
        import optuna
    except ImportError as error:
        raise UsageError("`search` needs optuna.", "python3 -m pip install 'tellapart[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@contextmanager
def database(url: str) -> Iterator[Any]:
    """Optuna's storage at this address; what it raises inside becomes a StorageError without the password."""
    storage = _opened(url)
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield storage
    except (SQLAlchemyError, StorageInternalError) as error:
        raise _unusable(url, error) from None
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _opened(url: str) -> Any:
    optuna, address = optuna_at_hand(), _address(url)
    from sqlalchemy.exc import SQLAlchemyError

    plain = address.render_as_string(hide_password=False)
    waiting = {"connect_args": {"timeout": 60}} if address.drivername.startswith("sqlite") else {}
    for attempt in range(TABLES):
        try:
            made = optuna.storages.RDBStorage(plain, engine_kwargs={"pool_pre_ping": True, **waiting})
            made.heartbeat_interval, made.grace_period = BEAT, SILENCE
            return made
        except ImportError as error:
            raise UsageError("PostgreSQL needs psycopg.", "python3 -m pip install 'tellapart[postgresql]'") from error
        except (SQLAlchemyError, RuntimeError) as error:
            if attempt == TABLES - 1:
                raise _unusable(url, error) from None
            time.sleep(0.3)  # two processes may have made the tables at once
    raise AssertionError


def _unusable(url: str, error: Exception) -> StorageError:
    hint = "`tellapart search --resume NAME` goes on when it can be used again."
    return StorageError(f"The database {shown(url)} cannot be used: {_reason(error, url)}", hint)


def _reason(error: Exception, url: str) -> str:
    """The first line of what the database said."""
    cause = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
    text = (str(cause).strip().splitlines() or [type(error).__name__])[0]
    for secret in {_address(url).password, *(v for k, v in _address(url).query.items() if "pass" in k)} - {None, ""}:
        text = text.replace(str(secret), "…")
    return f"{text.rstrip('.')}."

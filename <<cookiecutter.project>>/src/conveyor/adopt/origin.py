"""Read `data.source`: the rows at a URL, the output of a command, or the result of a query."""

from __future__ import annotations

import datetime
import os
import re
import shlex
import subprocess
import sys
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from conveyor.adopt.sniff import packed
from conveyor.core import params
from conveyor.core.errors import Misuse
from conveyor.core.frozen import shown
from conveyor.core.git import bounded
from conveyor.core.project import Project
from conveyor.data import source

KEY = "data.source in params.yaml"
SHELLS = ("sh", "bash", "dash", "zsh")
FOR_A_SHELL = re.compile(r"^([|&;]+|\d?[<>].*|~/.*|[A-Z_]+=.*)$|;$|\$[A-Za-z_{(]")
SECRETS = ("GITHUB_TOKEN", "ACTIONS_RUNTIME_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "LEDGER_KEY")  # no command's
PLAIN = (str, bool, int, float, datetime.date, datetime.time)
CONNECT = 15  # seconds for a server to answer at all
MINUTES = (
    30  # for a command or a query to end: one that waits for something would keep the lock of the build folder for ever
)


def where(asked: params.Source) -> str:
    """A source in words, for messages: a command by its program, a database without user and query."""
    if asked.url:
        return asked.url.partition("?")[0]  # what follows may be a secret
    if asked.command:
        return f"`{asked.command.split()[0]}`"
    parts = urlsplit(asked.sql or "")
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def ask(project: Project, asked: params.Source, newest: pd.Timestamp | None) -> dict[str, bytes]:
    """All that the source answers, as files of ``source.fetch``.

    Args:
        newest: the newest time of the data that are there; the query gets it as :since, a command as SINCE.

    Raises:
        Misuse: the source does not answer, or ends with an error: half an answer is none.
    """
    if asked.url:
        return source.fetch(asked.url, project.root, KEY)
    if asked.command:
        return {"": _of_command(project.root, asked.command, newest)}
    return {"": _of_query(project, asked, newest)}


def _of_command(root: Path, command: str, newest: pd.Timestamp | None) -> bytes:
    variables = {name: value for name, value in os.environ.items() if name not in SECRETS}
    words = _words(command)
    if newest is not None:
        variables["SINCE"] = newest.isoformat()
    try:
        done = bounded(words, root, None, variables, 60 * MINUTES)
    except subprocess.TimeoutExpired:
        mend = "nothing was changed, mend it, or let your own job write a file for data.source.url"
        raise Misuse(f"data.source.command: did not end within {MINUTES} minutes, and was ended; {mend}") from None
    except OSError as error:
        raise Misuse(f"data.source.command: {words[0]}: {error.strerror}; mend it in params.yaml") from None
    if done.returncode:
        lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        said = lines[-1].strip()[:200] if lines else "it said nothing"
        how = f"exited with {done.returncode}" if done.returncode > 0 else f"was ended by signal {-done.returncode}"
        raise Misuse(f"data.source.command: {how}: {said}; nothing was changed, mend that and run it again")
    if not done.stdout.strip():
        raise Misuse("data.source.command: wrote nothing; where there are no new rows it has to write the header alone")
    return done.stdout


def _words(command: str) -> list[str]:
    """A command as words. `python` is the one that runs this, with its libraries.

    Raises:
        Misuse: a quote has no end, or a word is for a shell.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Misuse(f"data.source.command: {str(error).lower()}; mend it in params.yaml") from None
    if PurePosixPath(words[0]).name not in SHELLS:
        odd = next((word for word in words if FOR_A_SHELL.search(word)), None)
        if odd is not None:
            mend = "write it as sh -c '...', or put it into a script"
            raise Misuse(f"data.source.command: {shown(odd)} is for a shell, and none runs the command; {mend}")
    return [sys.executable, *words[1:]] if words[0] in ("python", "python3") else words


def _of_query(project: Project, asked: params.Source, newest: pd.Timestamp | None) -> bytes:
    """The answer to a query, as Parquet. Nothing is committed."""
    import sqlalchemy
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    given: dict[str, Any] = {}
    try:
        url = sqlalchemy.make_url(asked.sql or "")
        query = sqlalchemy.text(asked.query or "")
        if "since" in query.compile().params:
            if newest is None:
                raise Misuse("data.source.query: names :since, and data.time is null; name a column there, or drop it")
            given["since"] = _bound(url.get_backend_name(), newest)
        if project.environment.source_password:
            url = url.set(password=project.environment.source_password)
        options: dict[str, Any] = {}
        if url.get_backend_name() == "postgresql":
            settings = f"-c timezone=UTC -c default_transaction_read_only=on -c statement_timeout={MINUTES}min"
            options = {"connect_timeout": CONNECT, "options": settings}
        elif url.get_backend_name() == "sqlite":
            file = project.root / (url.database or "")
            if not file.is_file():  # it would be made
                raise Misuse(f"data.source.sql: {url.database}: no such file; mend it in params.yaml")
            url = url.set(database=str(file))
        engine = sqlalchemy.create_engine(url, connect_args=options, hide_parameters=True)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        mend = "add the driver to requirements/run.in, then `make lock` and `make setup`"
        raise Misuse(f"data.source.sql: {' '.join(str(error).split())}; {mend}") from None
    except (ArgumentError, SQLAlchemyError, ValueError) as error:
        mend = "write it as postgresql+psycopg://user@host/database"
        raise Misuse(f"data.source.sql: {str(error).splitlines()[0][:200]}; {mend}") from None
    try:
        with engine.connect() as connection:
            answer = connection.execute(query, given)
            if not answer.returns_rows:
                raise Misuse("data.source.query: returns no rows; write a SELECT")
            names, rows = list(answer.keys()), answer.fetchall()
    except SQLAlchemyError as error:
        # The line of the driver: the library's own would quote the query. Drivers name host and user, and no password.
        lines = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
        mend = "check data.source in params.yaml, SOURCE_PASSWORD and the server; nothing was changed"
        raise Misuse(f"data.source.sql: {lines[0].strip()[:200]}; {mend}") from None
    finally:
        engine.dispose()
    return packed(_table(names, rows))


def _bound(backend: str, newest: pd.Timestamp) -> Any:
    """A time as a database compares it. SQLite has texts: a day comes before each form of a time of that day."""
    return newest.strftime("%Y-%m-%d") if backend == "sqlite" else newest.to_pydatetime()


def _cell(value: Any) -> Any:
    """A value as a file of rows could hold it. Ids, lists and the like become text, a decimal without value a gap."""
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    return value if value is None or isinstance(value, PLAIN) else str(value)


def _table(names: list[str], rows: Any) -> Any:
    import pyarrow as pa

    if twice := [name for name in names if names.count(name) > 1]:
        raise Misuse(f"data.source.query: answers column {twice[0]!r} twice; name one of them otherwise, by AS")
    columns = []
    for number, name in enumerate(names):
        try:
            columns.append(pa.array([_cell(row[number]) for row in rows]))
        except (pa.ArrowException, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:100]
            mend = "CAST it to one type in the query"
            raise Misuse(f"data.source.query: column {name!r} cannot be used ({reason}); {mend}") from None
    return pa.table(columns, names=names)

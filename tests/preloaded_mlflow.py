"""The last import of a warm process: what MLflow works out anew in each process and for each project is done here.

It takes long to find which package brings which module, to make the tables of a new database by dozens of migrations,
to read all migrations for the name of the last one, and to prepare its classes for a database. Forks of a process that
has imported this know all of it, and copy the tables where they would make them. A command that is a new interpreter
does it by itself, as it does for users.
"""

import gc
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.store.db import utils
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore as Registry
from mlflow.store.tracking.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore as Tracking
from mlflow.utils import requirements_utils

make_tables, REVISION = utils._initialize_tables, utils._get_latest_schema_revision()
utils._get_latest_schema_revision = lambda: REVISION

with TemporaryDirectory() as _folder:
    _file = Path(_folder) / "tables.db"
    _engine = utils.create_sqlalchemy_engine_with_retry(f"sqlite:///{_file}")
    make_tables(_engine)
    _engine.dispose()
    TABLES = _file.read_bytes()
    for _store in (Tracking(f"sqlite:///{_file}", _folder), Registry(f"sqlite:///{_file}")):
        _store.engine.dispose()


def copy_tables(engine) -> None:
    """As `make_tables` would leave them, in an empty SQLite file."""
    if engine.dialect.name != "sqlite":
        return make_tables(engine)
    source, connection = sqlite3.connect(":memory:"), engine.raw_connection()
    try:
        source.deserialize(TABLES)
        source.backup(connection.driver_connection)
    finally:
        connection.close()
        source.close()


utils._initialize_tables = copy_tables
requirements_utils._init_packages_to_modules_map()

# Else the first collection in each fork goes through all that the libraries made, and copies the memory of it.
gc.collect()
gc.freeze()

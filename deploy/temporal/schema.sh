#!/bin/sh
# One-off step before the Temporal server: sets up both schemas, or brings them up to date.
set -eu
SQL_PASSWORD="$(cat /run/secrets/temporal_password)"
export SQL_PASSWORD

for pair in temporal:temporal temporal_visibility:visibility; do
    export SQL_DATABASE="${pair%%:*}"
    temporal-sql-tool setup-schema -v 0.0
    temporal-sql-tool update-schema --schema-name "postgresql/v12/${pair##*:}"
done

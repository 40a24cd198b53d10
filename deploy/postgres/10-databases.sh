#!/bin/sh
# Run by the PostgreSQL image at the first start of its volume: our roles, none a superuser, and our databases.
set -eu

psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set temporal_password="$(cat /run/secrets/temporal_password)" \
    --set accord_password="$(cat /run/secrets/accord_password)" <<'SQL'
CREATE ROLE temporal LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB PASSWORD :'temporal_password';
CREATE ROLE accord LOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB PASSWORD :'accord_password';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
CREATE DATABASE accord OWNER accord;
REVOKE CONNECT ON DATABASE temporal FROM PUBLIC;
REVOKE CONNECT ON DATABASE temporal_visibility FROM PUBLIC;
REVOKE CONNECT ON DATABASE accord FROM PUBLIC;
SQL

#!/bin/sh
# Starts the Temporal server of the official image with its password from a file.
set -eu
POSTGRES_PWD="$(cat /run/secrets/temporal_password)"
export POSTGRES_PWD
exec /etc/temporal/entrypoint.sh

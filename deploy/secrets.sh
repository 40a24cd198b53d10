#!/bin/sh
# Generates the secrets of docker-compose.yml, once: what exists is kept.
# The folder is closed to others; the files in it are readable, because containers read them as users of their own.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
sealing_key() { printf '1:'; head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'; }
keep() {
    if [ ! -s "secrets/$1" ]; then
        printf '%s' "$2" > "secrets/$1"
        chmod 444 "secrets/$1"
        echo "made deploy/secrets/$1"
    fi
}
api_keys() {
    echo '[keys]'
    for role in storefront service warehouse finance ops inventory commerce auditor; do
        echo "$role = \"acc_dev_$(hex 6)_$(hex 32)\""
    done
}

keep postgres_password "$(hex 24)"
keep temporal_password "$(hex 24)"
keep accord_password "$(hex 24)"
keep accord_database_url "postgresql+psycopg://accord:$(cat secrets/accord_password)@postgres:5432/accord"
keep key_pepper "$(hex 32)"
keep vault_keys "$(sealing_key)"
keep cursor_keys "$(sealing_key)"
keep api_keys "$(api_keys)"

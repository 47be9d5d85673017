#!/usr/bin/env bash
# `make secrets`: writes .env and every password that is needed, each to its own file that only its owner can read.
# Existing files stay, so running it again is safe; a deleted file gets a new password, which the next
# `docker compose up -d` sets.
set -euo pipefail
cd "$(dirname "$0")/.."
secrets=${LAB_SECRETS:-docker/secrets}

# the containers run as the owner of the files: you, or a separate account if you are root
uid=$(id -u) gid=$(id -g)
if [ "$uid" -eq 0 ]; then uid=10001 gid=10001; fi

umask 077
mkdir -p "$secrets"

new_password() { LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 32 || true; }

# keep NAME: write standard input to the secret NAME, unless it exists
keep() {
    if [ -s "$secrets/$1" ]; then cat >/dev/null; else cat >"$secrets/$1"; fi
}

new_password | keep flask_secret_key
new_password | keep postgres_password
for role in mlflow lab dashboard; do
    echo "*:*:*:$role:$(new_password)" | keep "pgpass_$role"  # libpq's format: host:port:database:role:password
done
for user in admin worker reader; do
    printf '[mlflow]\nmlflow_tracking_username = %s\nmlflow_tracking_password = %s\n' "$user" "$(new_password)" \
        | keep "mlflow_$user"  # the format of ~/.mlflow/credentials
done
{ echo "*:*:*:postgres:$(cat "$secrets/postgres_password")"; cat "$secrets"/pgpass_{mlflow,lab,dashboard}; } \
    >"$secrets/pgpass_migrate"
find "$secrets" -type f -exec chmod 600 {} +
if [ "$(id -u)" -eq 0 ]; then chown -R "$uid:$gid" "$secrets"; fi

if [ ! -e .env ]; then
    cat >.env <<ENV
# Written by \`make secrets\`; docs/SERVICE.md lists the other settings. Do not put passwords here.
LAB_UID=$uid
LAB_GID=$gid
ENV
fi
ln -sfn ../.env docker/.env  # where compose looks with -f docker/compose.yaml

echo "The passwords are in $secrets: mlflow_admin is for you, mlflow_reader for people who only look."
echo "Next: docker compose up -d --wait"

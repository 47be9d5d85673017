#!/usr/bin/env bash
# `make user NAME=ann`: creates accounts in MLflow and in PostgreSQL for a person who submits and trains. Both passwords
# are written to a folder to hand over. Running it again is safe, and replaces the password of each deleted file.
# `make remove-user NAME=ann` removes the accounts.
set -euo pipefail
cd "$(dirname "$0")/.."
action=$1
name=${NAME:?give a name: make $action NAME=ann}
if ! [[ $name =~ ^[a-z][a-z0-9_.-]{0,31}$ ]]; then
    echo "'$name' is not a valid account name: lower-case letters, digits and _ . -, a letter first, at most 32" >&2
    exit 1
fi
people=${LAB_SECRETS:-docker/secrets}/people folder=$people/$name

if [ "$action" = remove-user ]; then
    docker compose run --rm -T migrate remove-user "$name" </dev/null
    rm -rf "$folder"
    exit
fi

umask 077
fresh=
if [ ! -e "$folder" ]; then fresh=1; mkdir -p "$folder"; fi
trap 'if [ $? -ne 0 ] && [ "$fresh" ]; then rm -rf "$folder"; fi' EXIT
new_password() { LC_ALL=C tr -dc 'A-Za-z0-9' </dev/urandom | head -c 32 || true; }
if [ ! -s "$folder/pgpass" ]; then echo "*:*:*:$name:$(new_password)" >"$folder/pgpass"; fi
if [ ! -s "$folder/credentials" ]; then
    printf '[mlflow]\nmlflow_tracking_username = %s\nmlflow_tracking_password = %s\n' "$name" "$(new_password)" \
        >"$folder/credentials"
fi
{ cut -d: -f5 "$folder/pgpass"; sed -n 's/^mlflow_tracking_password = //p' "$folder/credentials"; } \
    | docker compose run --rm -T migrate user "$name"
echo "Hand $folder over to $name; docs/SERVICE.md explains how to use it (From a laptop)."

#!/usr/bin/env bash
# `make restore FROM=backups/…`: restores a backup into an empty stack, on this machine or another, and starts it.
# A backup never replaces anything: a stack that has studies or runs is refused.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${FROM:?choose a backup: make restore FROM=backups/…}
(cd "$folder" && sha256sum --check --quiet SHA256SUMS)

docker compose up --detach --wait postgres
docker compose run --rm migrate

count() { docker compose exec -T postgres psql --username=postgres --tuples-only --no-align "$1" --command="$2"; }
studies=$(count lab 'SELECT count(*) FROM studies') runs=$(count mlflow 'SELECT count(*) FROM runs')
if [ "$studies" -ne 0 ] || [ "$runs" -ne 0 ]; then
    echo "There are $studies studies and $runs runs here, and a backup replaces nothing." >&2
    echo "To restore alongside, set COMPOSE_PROJECT_NAME=restored and other ports in .env. To discard all that is here:" >&2
    echo "docker compose down --volumes" >&2
    exit 1
fi

docker compose stop worker dashboard mlflow
for database in lab mlflow; do
    echo "database $database"
    docker compose exec -T postgres pg_restore --username=postgres --dbname="$database" --role="${database}_owner" --no-owner \
        --no-acl --clean --if-exists --single-transaction --exit-on-error <"$folder/$database.dump"
done
echo "artifacts"
docker compose run --rm --no-deps -T --entrypoint tar mlflow --extract --directory=/var/lib/mlflow <"$folder/artifacts.tar"
# brings schemas of an older version up to date, and sets the passwords of this machine
docker compose up --detach --wait
# a backup has MLflow's users, but not PostgreSQL's roles: people whose passwords are here get theirs again
for person in "${LAB_SECRETS:-docker/secrets}"/people/*/; do
    if [ -d "$person" ]; then NAME=$(basename "$person") docker/user.sh user; fi
done

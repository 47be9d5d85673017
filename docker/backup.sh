#!/usr/bin/env bash
# `make backup`: both databases and the artifacts into a new folder below backups/, while everything runs.
# Studies first, then runs, then artifacts: what is made meanwhile is at most too new, and a trial that looks unfinished
# is continued in the run that it has.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${TO:-backups/$(date -u +%Y-%m-%dT%H-%M-%SZ)}
if [ -e "$folder" ]; then echo "$folder is there already; name another: make backup TO=…" >&2; exit 1; fi

umask 077
unfinished=$folder.unfinished
trap 'rm -rf "$unfinished"' EXIT
mkdir -p "$unfinished"
for database in lab mlflow; do
    echo "database $database"
    docker compose exec -T postgres pg_dump --username=postgres --format=custom "$database" >"$unfinished/$database.dump"
done
echo "artifacts"
docker compose exec -T mlflow tar --create --directory=/var/lib/mlflow . >"$unfinished/artifacts.tar"
(cd "$unfinished" && sha256sum -- * >SHA256SUMS)
mv "$unfinished" "$folder"
du -sh "$folder"

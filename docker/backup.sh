#!/usr/bin/env bash
# `make backup`: saves both databases and the artifacts to a new folder in backups/, while everything runs.
# `make backup KEEP=7`, for cron: then deletes all but the newest seven backups whose names are dates.
# Studies first, then runs, then artifacts: whatever is created in the meantime is at worst too new, and a trial that
# looks unfinished is continued in its run.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${TO:-backups/$(date -u +%Y-%m-%dT%H-%M-%SZ)}
keep=${KEEP:-}
if [ -e "$folder" ]; then echo "$folder already exists; choose another: make backup TO=…" >&2; exit 1; fi
if [ "$keep" ] && ! [[ $keep =~ ^[1-9][0-9]*$ ]]; then echo "KEEP=$keep: the number of backups to keep must be 1 or more" >&2; exit 1; fi

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

if [ "$keep" ]; then
    # names sort by date; what a killed backup left behind is deleted too, once it is a day old
    cd "$(dirname "$folder")"
    shopt -s nullglob
    dated=([0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]-[0-9][0-9]-[0-9][0-9]Z)
    for ((number = 0; number < ${#dated[@]} - keep; number++)); do
        echo "deleting ${dated[number]}"
        rm -rf -- "${dated[number]}"
    done
    find . -maxdepth 1 -name '*Z.unfinished' -mtime +0 -exec rm -rf -- {} +
fi

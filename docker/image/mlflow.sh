#!/bin/sh
# The tracking server. One process, because several share a socket, which delays every request by about 40 ms; to
# scale, run more containers. No password is in its arguments or in `docker inspect`: PostgreSQL's comes from
# PGPASSFILE.
set -eu
MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat /run/secrets/flask_secret_key)
export MLFLOW_FLASK_SERVER_SECRET_KEY PYTHONPATH=/opt/lab
if [ "${LAB_LOG_FORMAT:-text}" = json ]; then export MLFLOW_UVICORN_OPTS="--log-config /opt/lab/uvicorn.yaml"; fi

# Its names: inside, on this machine, and those added in .env. Without workspaces every user, even a reader, could
# create experiments.
exec python /opt/lab/server.py server --host 0.0.0.0 --port 5000 --workers 1 \
    --app-name basic-auth --enable-workspaces \
    --allowed-hosts "mlflow:5000,localhost:*,127.0.0.1:*,[[]::1]:*${LAB_HOSTS:+,$LAB_HOSTS}" \
    ${LAB_ORIGINS:+--cors-allowed-origins "$LAB_ORIGINS"} \
    --backend-store-uri postgresql+psycopg://mlflow@database/mlflow \
    --artifacts-destination "$LAB_ARTIFACTS"

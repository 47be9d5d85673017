"""Makes both databases ready before anything uses them: roles, databases, newest schemas, MLflow's users.

Every `docker compose up` runs it. What is there already is left alone, but for passwords: the ones in the secret
files are put into force. Two at once wait for each other.
"""

import configparser
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

HOST = "database"
SECRETS = Path("/run/secrets")
MLFLOW = f"postgresql+psycopg://mlflow@{HOST}/mlflow"
STUDIES = f"postgresql+psycopg://lab@{HOST}/lab"
LOCK = 0x6C6162  # any number that nobody else locks

# a worker trains what anybody has submitted, and so may write to every experiment; nobody else's rights change
WORKER_ROLE = "worker"
WORKER_PERMISSIONS = {"workspace": "USE", "experiment": "MANAGE", "registered_model": "MANAGE"}


def main() -> None:
    """Do all of it, in order; every step says what it does."""
    with alone() as server:
        passwords = read_passwords()
        for role in ("mlflow", "lab", "dashboard"):
            make_role(server, role, passwords[role])
        for database in ("mlflow", "lab"):
            make_database(server, database)
        say("schema of MLflow's database")
        run("mlflow", "db", "upgrade", MLFLOW)
        run(sys.executable, "-m", "mlflow.server.auth", "db", "upgrade", "--url", MLFLOW)
        say("schema of the studies' database")
        upgrade_studies()
        let_dashboard_read(server)
        make_users()
    say("done")


def say(text: str) -> None:
    """Print at once: somebody waits for it."""
    print(f"migrate: {text}", flush=True)


def run(*command: str) -> None:
    """Run a command; end with its output if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}\nmigrate: {' '.join(command)} failed; nothing that was stored is lost")


@contextmanager
def alone() -> Iterator[psycopg.Connection]:
    """Yield a superuser's connection, once nobody else migrates."""
    with psycopg.connect(host=HOST, user="postgres", dbname="postgres", autocommit=True) as server:
        server.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        yield server


def read_passwords() -> dict[str, str]:
    """Return each role's password, from the file that libpq reads them from."""
    lines = (SECRETS / "pgpass_migrate").read_text().splitlines()
    return {role: password for _, _, _, role, password in (line.split(":", 4) for line in lines)}


def make_role(server: psycopg.Connection, role: str, password: str) -> None:
    """Create `role` where it is not there, and set its password, which travels and is logged only as a hash."""
    name = sql.Identifier(role)
    if not server.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone():
        say(f"role {role}")
        server.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    hashed = server.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    server.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, hashed.decode()))


def make_database(server: psycopg.Connection, role: str) -> None:
    """Create the database of `role`, of the same name, which nobody else may enter."""
    name = sql.Identifier(role)
    if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [role]).fetchone():
        say(f"database {role}")
        server.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
    server.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))


def upgrade_studies() -> None:
    """Bring Optuna's tables to their newest schema, or create them."""
    with psycopg.connect(host=HOST, user="postgres", dbname="lab") as studies:
        (tables,) = studies.execute("SELECT to_regclass('public.version_info')").fetchone()
    if tables:
        run("optuna", "storage", "upgrade", "--storage", STUDIES)
    else:
        from lab.study import open_storage  # seconds of imports

        open_storage(STUDIES)


def let_dashboard_read(server: psycopg.Connection) -> None:
    """Let the role `dashboard` read the studies, and nothing else, tables of later versions too."""
    server.execute("GRANT CONNECT ON DATABASE lab TO dashboard")
    server.execute("ALTER ROLE dashboard SET default_transaction_read_only = on")
    with psycopg.connect(host=HOST, user="postgres", dbname="lab", autocommit=True) as studies:
        studies.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO dashboard")
        studies.execute(
            "ALTER DEFAULT PRIVILEGES FOR ROLE lab IN SCHEMA public GRANT SELECT ON TABLES TO dashboard"
        )


def make_users() -> None:
    """Create MLflow's users `admin`, `worker` and `reader`, with the passwords of the secret files."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore  # seconds of imports

    store = SqlAlchemyStore()
    store.init_db(MLFLOW)
    for secret in ("mlflow_admin", "mlflow_worker", "mlflow_reader"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(SECRETS / secret)
        account = parser["mlflow"]
        name, password = account["mlflow_tracking_username"], account["mlflow_tracking_password"]
        if not store.has_user(name):
            say(f"MLflow user {name}")
            store.create_user(name, password, is_admin=secret == "mlflow_admin")
        elif not store.authenticate_user(name, password):
            say(f"new password of MLflow user {name}")
            store.update_user(name, password=password)
    if WORKER_ROLE not in {role.name for role in store.list_roles(["default"])}:
        role = store.create_role(WORKER_ROLE, "default", "Trains: may write to every experiment and model")
        for kind, permission in WORKER_PERMISSIONS.items():
            store.add_role_permission(role.id, kind, "*", permission)
        store.assign_role_to_user(store.get_user("worker").id, role.id)


if __name__ == "__main__":
    main()

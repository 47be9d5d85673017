"""Prepare both databases before anything uses them: roles, databases, current schemas, MLflow's users.

Every `docker compose up` runs it. Each step describes the desired state and can be repeated, so the next run repairs
what one that died, or an older version, left behind. Passwords come from the secret files. Two at once take turns.

`migrate.py user ann` gives a person an account in both databases, with the two passwords on its standard input, one
per line; `migrate.py remove-user ann` removes it.
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
LOCK = 0x6C6162  # any number that nothing else locks

# Tables belong to roles that cannot log in, so nobody can drop one. Trainers have no DELETE on the study tables: a
# study is only ever added to.
TRAINERS = "trainers"
READ, TRAIN, KEEP = "SELECT", "SELECT, INSERT, UPDATE", "SELECT, INSERT, UPDATE, DELETE"
# The largest share of PostgreSQL's connections that each role can take, so that none starves another.
SHARES = {"mlflow": 0.3, "lab": 0.5, "dashboard": 0.1}
PERSON_SHARE = 0.2

# Trainers may write to every experiment and model, because a worker trains what anyone has submitted; only the creator
# of one may delete it or grant permissions on it.
WORKER_ROLE = "worker"
WORKER_PERMISSIONS = {"workspace": "USE", "experiment": "EDIT", "registered_model": "EDIT"}
ACCOUNTS = ("admin", "worker", "reader")


def main(arguments: list[str]) -> None:
    """Migrate, or do what `arguments` ask for; every step prints what it does."""
    with alone() as server:
        match arguments:
            case []:
                migrate(server)
            case ["user", name]:
                add_person(server, name, *sys.stdin.read().split())
            case ["remove-user", name]:
                remove_person(server, name)
            case _:
                sys.exit(__doc__)
    say("done")


def migrate(server: psycopg.Connection) -> None:
    """Prepare everything, in order."""
    passwords = read_passwords()
    for role, share in SHARES.items():
        make_role(server, role, passwords[role], share)
    make_group(server, TRAINERS)
    for database in ("mlflow", "lab"):
        make_database(server, database)
    server.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")  # they exist on every server
    say("schema of the MLflow database")
    run("mlflow", "db", "upgrade", owners_url("mlflow"))
    run(sys.executable, "-m", "mlflow.server.auth", "db", "upgrade", "--url", owners_url("mlflow"))
    say("schema of the study database")
    upgrade_studies()
    say("grants")
    grant("mlflow", "mlflow", KEEP)
    grant("lab", TRAINERS, TRAIN)
    grant("lab", "dashboard", READ)
    server.execute(sql.SQL("GRANT {} TO lab").format(sql.Identifier(TRAINERS)))
    server.execute("ALTER ROLE dashboard SET default_transaction_read_only = on")
    make_users()


def say(text: str) -> None:
    """Print without buffering, because someone is watching."""
    print(f"migrate: {text}", flush=True)


def run(*command: str) -> None:
    """Run a command; exit with its output if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}\nmigrate: {' '.join(command)} failed; no stored data is lost")


@contextmanager
def alone() -> Iterator[psycopg.Connection]:
    """Yield a superuser's connection, once no other process migrates."""
    with connection("postgres") as server:
        server.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        yield server


def connection(database: str) -> psycopg.Connection:
    """Return a superuser's connection to a database, on which each statement is a transaction."""
    return psycopg.connect(host=HOST, user="postgres", dbname=database, autocommit=True)


def owner(database: str) -> str:
    """Return the role that owns a database and its tables."""
    return f"{database}_owner"


def owners_url(database: str) -> str:
    """Return the address of a database for a superuser acting as its owner."""
    return f"postgresql+psycopg://postgres@{HOST}/{database}?options=-crole%3D{owner(database)}"


def read_passwords() -> dict[str, str]:
    """Return each role's password, from libpq's password file."""
    lines = (SECRETS / "pgpass_migrate").read_text().splitlines()
    return {role: password for _, _, _, role, password in (line.split(":", 4) for line in lines)}


def exists(server: psycopg.Connection, role: str) -> bool:
    """Return whether `role` exists."""
    return server.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None


def make_role(server: psycopg.Connection, role: str, password: str, share: float) -> None:
    """Create `role` if it does not exist, and set its password, which is sent and logged only as a hash."""
    name = sql.Identifier(role)
    if not exists(server, role):
        say(f"role {role}")
        server.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    hashed = server.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    most = int(share * int(server.execute("SHOW max_connections").fetchone()[0]))
    change = sql.SQL("ALTER ROLE {} LOGIN PASSWORD {} CONNECTION LIMIT {}")
    server.execute(change.format(name, hashed.decode(), most))


def make_group(server: psycopg.Connection, role: str) -> None:
    """Create `role`, which cannot log in, if it does not exist."""
    if not exists(server, role):
        server.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))


def make_database(server: psycopg.Connection, name: str) -> None:
    """Create a database, closed to every role without a grant, and give everything in it to its owner.

    In earlier versions the role of the same name owned it.
    """
    database, keeper, former = sql.Identifier(name), sql.Identifier(owner(name)), sql.Identifier(name)
    make_group(server, owner(name))
    if not server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
        say(f"database {name}")
        server.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, keeper))
    server.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    server.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, keeper))
    with connection(name) as inside:
        inside.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(former, keeper))
        inside.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def upgrade_studies() -> None:
    """Bring Optuna's tables to their current schema, or create them."""
    with connection("lab") as studies:
        (tables,) = studies.execute("SELECT to_regclass('public.version_info')").fetchone()
    if tables:
        run("optuna", "storage", "upgrade", "--storage", owners_url("lab"))
    else:
        from lab.study import open_storage  # seconds of imports

        open_storage(owners_url("lab"))


def grant(database: str, role: str, rights: str) -> None:
    """Let `role` connect to a database and use `rights` on its tables, including those of later versions."""
    name, keeper, may = sql.Identifier(role), sql.Identifier(owner(database)), sql.SQL(rights)
    later = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA public GRANT").format(keeper)
    with connection(database) as inside:
        inside.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(sql.Identifier(database), name))
        inside.execute(sql.SQL("GRANT {} ON ALL TABLES IN SCHEMA public TO {}").format(may, name))
        inside.execute(sql.SQL("{} {} ON TABLES TO {}").format(later, may, name))
        if rights != READ:  # new rows take their ids from sequences
            inside.execute(sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(name))
            inside.execute(sql.SQL("{} USAGE ON SEQUENCES TO {}").format(later, name))


def open_users():
    """Return MLflow's user store."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore  # seconds of imports

    store = SqlAlchemyStore()
    store.init_db(owners_url("mlflow"))
    return store


def make_users() -> None:
    """Create MLflow's users `admin`, `worker` and `reader`, and the trainers' role."""
    store = open_users()
    for account in ACCOUNTS:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(SECRETS / f"mlflow_{account}")
        found = parser["mlflow"]
        name, password = found["mlflow_tracking_username"], found["mlflow_tracking_password"]
        make_user(store, name, password, is_admin=account == "admin")
    let_train(store, "worker")


def make_user(store, name: str, password: str, is_admin: bool = False) -> None:
    """Create an MLflow user if it does not exist, and set its password."""
    if not store.has_user(name):
        say(f"MLflow user {name}")
        store.create_user(name, password, is_admin=is_admin)
    elif not store.authenticate_user(name, password):
        say(f"new password for MLflow user {name}")
        store.update_user(name, password=password)


def let_train(store, name: str) -> None:
    """Give a user the trainers' role, with exactly its permissions."""
    roles = {role.name: role for role in store.list_roles(["default"])}
    role = roles.get(WORKER_ROLE) or store.create_role(WORKER_ROLE, "default", "Trains: may write everywhere")
    held = {}
    for one in store.list_role_permissions(role.id):
        if one.resource_pattern == "*" and WORKER_PERMISSIONS.get(one.resource_type) == one.permission:
            held[one.resource_type] = one.permission
        else:
            store.remove_role_permission(one.id)
    for kind in WORKER_PERMISSIONS.keys() - held.keys():
        store.add_role_permission(role.id, kind, "*", WORKER_PERMISSIONS[kind])
    user = store.get_user(name)
    if role.id not in {one.id for one in store.list_user_roles(user.id)}:
        store.assign_role_to_user(user.id, role.id)


def add_person(server: psycopg.Connection, name: str, for_database: str, for_mlflow: str) -> None:
    """Give a person a PostgreSQL role and an MLflow user that may train, but not delete what others created."""
    refuse_own(server, name)
    if not exists(server, name):  # in one statement: a half-created one would look like the service's own
        create = sql.SQL("CREATE ROLE {} NOLOGIN IN ROLE {}")
        server.execute(create.format(sql.Identifier(name), sql.Identifier(TRAINERS)))
    make_role(server, name, for_database, PERSON_SHARE)
    store = open_users()
    make_user(store, name, for_mlflow)
    let_train(store, name)


def remove_person(server: psycopg.Connection, name: str) -> None:
    """Remove a person's accounts and end their connections; their studies and runs stay."""
    refuse_own(server, name)
    role = sql.Identifier(name)
    if exists(server, name):
        server.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(role))
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [name])
        server.execute(sql.SQL("DROP ROLE {}").format(role))
        say(f"role {name} removed")
    store = open_users()
    if store.has_user(name):
        store.delete_user(name)
        say(f"MLflow user {name} removed")


def refuse_own(server: psycopg.Connection, name: str) -> None:
    """Refuse the names of the service's own accounts, and any name before the service exists."""
    if not exists(server, TRAINERS):
        sys.exit("migrate: start the service first: docker compose up -d --wait")
    members = (
        "SELECT 1 FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = %s)"
        " AND roleid = (SELECT oid FROM pg_roles WHERE rolname = %s)"
    )
    is_person = name not in SHARES and server.execute(members, [name, TRAINERS]).fetchone()
    if name in ACCOUNTS or name.startswith("pg_") or (exists(server, name) and not is_person):
        sys.exit(f"migrate: '{name}' is an account of the service itself; choose another name")


if __name__ == "__main__":
    main(sys.argv[1:])

"""The manifests in docs/kubernetes are valid, belong together, and have no secrets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from lab.cli import main

FOLDER = Path(__file__).parents[2] / "docs" / "kubernetes"
KUBERNETES = ("1.28", "1.37")  # the oldest and the newest that it is checked for


def objects(name: str) -> dict[str, Any]:
    """The objects of a manifest by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))}


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(version: str) -> None:
    for each in objects("workers.yaml").values():
        assert kubernetes_validate.validate(each, version, strict=True) == version


def test_the_worker_takes_its_arguments() -> None:
    (container,) = objects("workers.yaml")["Deployment"]["spec"]["template"]["spec"]["containers"]
    command, *options = container["args"]
    result = CliRunner().invoke(main, [command, *options, "--help"])  # parsed before help is shown
    assert result.exit_code == 0
    assert {each for each in options if each.startswith("--")} <= set(re.findall(r"--[\w-]+", result.output))
    (port,) = container["ports"]
    assert options[options.index("--metrics") + 1].endswith(f":{port['containerPort']}")


def test_what_refers_to_each_other_has_the_same_name() -> None:
    workers, keda = objects("workers.yaml"), objects("keda.yaml")
    deployment, scaled = workers["Deployment"], keda["ScaledObject"]["spec"]
    pod = deployment["spec"]["template"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert (
        pod["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]
        == workers["ConfigMap"]["metadata"]["name"]
    )
    mounts = {each["name"] for each in pod["spec"]["containers"][0]["volumeMounts"]}
    assert mounts == {each["name"] for each in pod["spec"]["volumes"]}
    assert scaled["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    (trigger,) = scaled["triggers"]
    assert trigger["authenticationRef"]["name"] == keda["TriggerAuthentication"]["metadata"]["name"]
    storage = urlsplit(workers["ConfigMap"]["data"]["LAB_STORAGE"])
    there = trigger["metadata"]
    assert (there["host"], there["port"], there["dbName"]) == (
        storage.hostname,
        str(storage.port),
        storage.path[1:],
    )
    workers_each = pod["spec"]["containers"][0]["args"][2]
    assert there["targetQueryValue"] == workers_each


def test_secrets_are_only_named_and_the_readme_creates_them() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in sorted(FOLDER.glob("*.yaml")))
    named = set(re.findall(r"name: (lab-(?:postgres|mlflow)[\w-]*), key: (\w+)", text))
    assert named == {
        ("lab-postgres", "password"),
        ("lab-mlflow", "username"),
        ("lab-mlflow", "password"),
        ("lab-postgres-reader", "password"),
    }
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for secret, key in named:
        assert re.search(rf"create secret generic {secret} .*--from-literal={key}=", readme), secret
    assert not re.search(r"://[^/@\s]*:[^/@\s]*@", text)
    assert "Secret" not in objects("workers.yaml").keys() | objects("keda.yaml").keys()

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.engines.profiles import Profile, find_profile
from lab.errors import ConfigError, LabError

Files = Callable[[str, str], None]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Return what writes lab.yaml and engines.yaml; empty text is no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def write(here: str = "", home: str = "") -> None:
        if here:
            Path("lab.yaml").write_text(here)
        if home:
            Path("config/lab").mkdir(parents=True)
            Path("config/lab/engines.yaml").write_text(home)

    return write


def faults(on: str | None, given: dict[str, Any] | None = None, job: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(ConfigError, match=r".") as caught:
        find_profile(on, given, job)
    return [str(fault) for fault in caught.value.faults]


def test_this_machine_unless_told_otherwise(files: Files) -> None:
    files("not: [read", "")
    assert find_profile(None) == Profile("local", "local", {})
    given = {"workers": 2, "workers_per_gpu": None, "gpu_memory": 6 * 10**9}
    assert find_profile(None, given).options == {"workers": 2, "gpu_memory": 6 * 10**9}
    assert not find_profile(None).is_cluster


def test_every_option_of_submitit_has_its_own_name(files: Files) -> None:
    files("""
gpu:
  engine: slurm
  workers: 8
  partition: 01
  time: 1-12:00:00
  setup: [module load cuda, ". venv/bin/activate"]
  teardown: rm -rf /scratch/me
  mem: 16GB
  gpus-per-worker: 1
  cpus_per_task: 4
  exclusive: true
  stderr_to_stdout: true
  python: apptainer exec image.sif python
  additional_parameters: {reservation: course, no-kill: true}
""")
    profile = find_profile("gpu")
    assert (profile.name, profile.engine, profile.file) == ("gpu", "slurm", "lab.yaml")
    assert profile.is_cluster
    assert profile.options == {
        "workers": 8,
        "partition": "01",  # text as written
        "time": 2160,
        "setup": ["module load cuda", ". venv/bin/activate"],
        "teardown": ["rm -rf /scratch/me"],
        "mem": "16GB",
        "gpus_per_worker": 1,
        "cpus_per_task": 4,
        "exclusive": True,
        "stderr_to_stdout": True,
        "python": "apptainer exec image.sif python",
        "additional_parameters": {"reservation": "course", "no-kill": True},
    }


def test_the_command_line_replaces_what_a_profile_says(files: Files) -> None:
    files("gpu: {engine: slurm, time: 4h, partition: a, workers: 8, setup: [a], cpus_per_task: wrong}")
    given = {"workers": 2, "time": "90m", "partition": "007", "gpus_per_worker": None}
    options = find_profile("gpu", given, ("cpus-per-task=2", "setup=b: c # d", "mem=8")).options
    assert options == {
        "time": 90,
        "partition": "007",
        "workers": 2,
        "setup": ["b: c # d"],
        "cpus_per_task": 2,
        "mem": "8",
    }
    assert faults("slurm", {"workers": 1}, ("cpus_per_task=[1",)) == [
        "--job cpus_per_task: while parsing a flow sequence expected ',' or ']', but got '<stream end>'"
    ]


def test_rays_options(files: Files) -> None:
    files(
        "", "half: {engine: ray, num_gpus: 0.5, resources: {big: 1}, runtime_env: {pip: [x]}, address: auto}"
    )
    profile = find_profile("half", {"workers": 4}, ("num_cpus=2",))
    assert profile.options == {
        "num_gpus": 0.5,
        "resources": {"big": 1},
        "runtime_env": {"pip": ["x"]},
        "address": "auto",
        "workers": 4,
        "num_cpus": 2,
    }
    assert find_profile("ray", {"workers": 1, "gpus_per_worker": 0.25}).options["num_gpus"] == 0.25


def test_this_folder_comes_before_the_home(files: Files) -> None:
    files("a: {engine: slurm, workers: 1}", "{a: {engine: ray, workers: 2}, b: {engine: ray, workers: 3}}")
    assert find_profile("a").engine == "slurm"
    assert find_profile("b").options == {"workers": 3}


def test_an_engine_can_have_a_profile_of_its_name(files: Files) -> None:
    files("{slurm: {time: 4h, workers: 3}, ray: {engine: slurm}}")
    assert find_profile("slurm").options == {"time": 240, "workers": 3}
    assert faults("ray") == [
        "lab.yaml:1: ray.engine: the profile ray is the engine ray; give a profile of another engine another name"
    ]


def test_submitits_local_executor_is_no_cluster(files: Files) -> None:
    files("try: {engine: slurm, cluster: local, workers: 2}")
    assert not find_profile("try").is_cluster


def test_a_cluster_needs_a_number_of_workers(files: Files) -> None:
    files("gpu: {engine: slurm}")
    expected = "--on gpu needs the maximum number of workers: --workers N, or `workers: N` in its profile"
    assert faults("gpu") == [expected]


def test_unknown_names(files: Files) -> None:
    files("gpu: {engine: slum}\nnone: {time: 4h}\nlist: [a]", "big: {engine: ray}")
    assert faults("gqu")[0].startswith(
        "--on gqu: no such profile or engine. Did you mean 'gpu'? Known: local, slurm, ray, gpu, none, list, big. "
        "Profiles are in lab.yaml or "
    )
    assert faults("gpu") == [
        "lab.yaml:1: gpu.engine: unknown engine 'slum'. Did you mean 'slurm'? Known: local, slurm, ray"
    ]
    assert faults("none") == ["lab.yaml:2: none: needs `engine`: one of local, slurm, ray"]
    assert faults("list") == ["lab.yaml:3: list: must be a mapping, as in {engine: slurm, time: 4h}"]


def test_a_file_without_profiles(files: Files) -> None:
    files("- slurm")
    assert faults("slurm") == ["lab.yaml: must hold profiles, as in gpu: {engine: slurm, time: 4h}"]


def test_everything_wrong_is_told_at_once_with_its_line(files: Files) -> None:
    files("""bad:
  engine: slurm
  workers: 0
  partitoin: x
  cpus_per_task: two
  timeout_min: 3
  address: auto
  nodes: 2
  gres: gpu:1
  gpus_per_worker: 2
  time: 4 hours
  setup: {a: b}
""")
    assert faults("bad", {}, ("use_srun=1",)) == [
        "lab.yaml:3: bad.workers: must be greater than or equal to 1, but got 0",
        "lab.yaml:4: bad.partitoin: Slurm has no such option. Did you mean 'partition'?",
        "lab.yaml:5: bad.cpus_per_task: must be a whole number, but got 'two'",
        "lab.yaml:6: bad.timeout_min: Slurm has no such option. Did you mean 'time'?",
        "lab.yaml:7: bad.address: is an option of Ray, not of Slurm",
        "lab.yaml:8: bad.nodes: must be 1: a worker is one task on one node, but got 2; --workers says how many",
        "lab.yaml:10: bad.gpus_per_worker: gpus_per_worker and gres both ask for GPUs; keep one of them",
        "lab.yaml:11: bad.time: must be a time such as 4h, 90m, 1h30m, 2d or one of Slurm's: 90 (minutes), 1:30:00, "
        "1-12:00:00, but got '4 hours'",
        "lab.yaml:12: bad.setup: must be text or a list of texts, but got {'a': 'b'}",
        "--job use_srun: must be true or false, but got 1",
    ]


def test_an_option_that_nothing_resembles_has_a_place_for_it(files: Files) -> None:
    (fault,) = faults("slurm", {"workers": 1}, ("zzz=1",))
    assert fault.startswith(
        "--job zzz: Slurm has no such option; other options of sbatch go into additional_parameters: {NAME: VALUE}. "
        "It takes account, "
    )


@pytest.mark.parametrize(
    ("on", "option", "value", "said"),
    [
        (None, "gpus_per_worker", 1, "--workers-per-gpu says how workers share the GPUs of this machine"),
        (None, "partition", "gpu", "it needs --on slurm"),
        (None, "time", "4h", "it needs --on slurm"),
        (None, "address", "auto", "it needs --on ray"),
        ("slurm", "workers_per_gpu", 2, "--gpus-per-worker says how many"),
        ("slurm", "gpu_memory", 8, "--gpus-per-worker says how many"),
        ("slurm", "address", "auto", "it is Ray's"),
        ("ray", "partition", "gpu", "Ray has no partitions; choose nodes with --job resources="),
        ("ray", "time", "4h", "Ray has no time limits"),
        ("ray", "gpu_memory", 8, "--gpus-per-worker 0.5 lets two workers share one"),
    ],
)
def test_options_of_another_engine(
    files: Files, on: str | None, option: str, value: object, said: str
) -> None:
    (fault,) = faults(on, {"workers": 1, option: value})
    assert fault.startswith(f"--{option.replace('_', '-')}: does not apply to ")
    assert said in fault


@pytest.mark.parametrize("text", ["a", "a=", "=b"])
def test_a_job_option_is_a_key_and_a_value(text: str, files: Files) -> None:
    assert faults("slurm", {"workers": 1}, (text,)) == [
        f"--job takes KEY=VALUE, e.g. --job cpus_per_task=4, but got {text!r}"
    ]


def test_job_options_need_an_engine(files: Files) -> None:
    assert faults(None, {}, ("mem=4GB",)) == [
        "--job mem: does not apply to this machine: it sets options of Slurm or Ray, and needs --on"
    ]


def test_without_submitit_there_is_a_command_to_install_it(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab.engines import engine_keys

    engine_keys._keys.cache_clear()
    for module in [name for name in sys.modules if name.partition(".")[0] == "submitit"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(LabError, match=r"^Slurm needs submitit, .*: pip install 'lab\[slurm\]'$"):
        find_profile("slurm", {"workers": 1})

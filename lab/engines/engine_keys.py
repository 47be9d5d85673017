"""What each engine can be told: the keys of its profiles, and what the options of the command line mean to it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Optional, get_type_hints

from pydantic import BeforeValidator, ByteSize, ConfigDict, Field, TypeAdapter, ValidationError

from lab.config.reading.document import brief
from lab.engines.wall_time import minutes
from lab.errors import ConfigError, Fault
from lab.extras import require
from lab.registry import nearest

__all__ = ["ENGINES", "Entry", "checked", "key_of", "takes_only_text"]

ENGINES: Final = ("local", "slurm", "ray")

_NAMES: Final = {"local": "this machine", "slurm": "Slurm", "ray": "Ray"}
_Count = Annotated[int, Field(ge=1)]
_Amount = Annotated[float, Field(ge=0)]
_Texts = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
_Minutes = Annotated[int, BeforeValidator(minutes)]

_LOCAL: Final[Mapping[str, Any]] = {"workers": _Count, "workers_per_gpu": _Count, "gpu_memory": ByteSize}
_RAY: Final[Mapping[str, Any]] = {
    "workers": _Count,
    "workers_per_gpu": _Count,
    "address": str,
    "num_gpus": Annotated[float, Field(ge=0, le=1)],
    "num_cpus": _Amount,
    "resources": dict[str, _Amount],
    "runtime_env": dict[str, Any],
}
_SLURM: Final[Mapping[str, Any]] = {  # besides submitit's own
    "workers": _Count,
    "gpus_per_worker": Annotated[int, Field(ge=0)],
    "cluster": Literal["slurm", "local"],
    "python": str,
    "time": _Minutes,
}
_OWN: Final = {"local": _LOCAL, "ray": _RAY, "slurm": {*_SLURM, "partition"}}
_ONE_TASK: Final = ("nodes", "ntasks_per_node")
_GPU_KEYS: Final = ("gpus_per_node", "gpus_per_task", "num_gpus", "gres")

# what sbatch, submitit's AutoExecutor and other launchers call the same
_ALSO_CALLED: Final[Mapping[str, Mapping[str, str]]] = {
    "local": {"jobs": "workers", "n_jobs": "workers"},
    "slurm": {
        **dict.fromkeys(("timeout_min", "timeout", "walltime", "time_limit"), "time"),
        **dict.fromkeys(("mem_gb", "memory", "mem_per_node"), "mem"),
        **dict.fromkeys(("gpus", "gpu", "num_gpu"), "gpus_per_worker"),
        **dict.fromkeys(("cpus", "num_cpus", "cpus_per_worker"), "cpus_per_task"),
        "tasks_per_node": "ntasks_per_node",
        "queue": "partition",
        "name": "job_name",
        "jobs": "workers",
    },
    "ray": {
        **dict.fromkeys(("gpus", "gpus_per_worker", "num_gpu"), "num_gpus"),
        **dict.fromkeys(("cpus", "cpus_per_task"), "num_cpus"),
    },
}
# options of the command line that do not apply, and what does
_INSTEAD: Final[Mapping[str, Mapping[str, str]]] = {
    "local": {
        "gpus_per_worker": "--workers-per-gpu says how workers share the GPUs of this machine",
        "time": "it needs --on slurm, or --on with a Slurm profile of yours",
        "partition": "it needs --on slurm, or --on with a Slurm profile of yours",
        "address": "it needs --on ray, or --on with a Ray profile of yours",
        "job": "it sets options of Slurm or Ray, and needs --on",
    },
    "slurm": {
        "workers_per_gpu": "each job has its GPUs to itself; --gpus-per-worker says how many it asks for",
        "gpu_memory": "each job has its GPUs to itself; --gpus-per-worker says how many it asks for",
        "address": "it is Ray's; Slurm is found through its own commands",
    },
    "ray": {
        "time": "Ray has no time limits",
        "partition": "Ray has no partitions; choose nodes with --job resources='{NAME: 1}'",
        "gpu_memory": "Ray counts GPUs, not their memory; --gpus-per-worker 0.5 lets two workers share one",
    },
}


@dataclass(frozen=True)
class Entry:
    """A value that a profile or the command line gives.

    Args:
        key: of a profile.
        value: as YAML reads it.
        written: the same, in which numbers are the text that was written.
        fault: returns what is wrong with it, and where it is, from a message.
        option: its name on the command line with underscores; empty if it is in a file.
    """

    key: str
    value: Any
    written: Any
    fault: Callable[[str], Fault]
    option: str = ""


def key_of(engine: str, option: str) -> str:
    """Return the key of a profile that an option of the command line sets."""
    return "num_gpus" if (engine, option) == ("ray", "gpus_per_worker") else option.replace("-", "_")


def takes_only_text(engine: str, key: str) -> bool:
    """Return whether a key takes text as it is written, so that `001` is no number."""
    return _keys(engine).get(key) in (str, Optional[str], _Texts)  # noqa: UP045  # what submitit says


def checked(engine: str, entries: Iterable[Entry]) -> dict[str, Any]:
    """Return the values by key, of the type that the engine takes; of one key the last one counts.

    Raises:
        ConfigError: every unknown key, with the most similar one, and every value of the wrong type.
    """
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for entry in {entry.key: entry for entry in entries}.values():
        try:
            value = _value(engine, entry)
        except ValueError as error:
            faults.append(entry.fault(str(error)))
            continue
        if value is not None:
            values[entry.key] = value
            faults += [entry.fault(clash) for clash in _clashes(engine, entry.key, values)]
    if faults:
        raise ConfigError(faults)
    return values


def _value(engine: str, entry: Entry) -> Any:
    """Return the value of an entry in its type; raise ValueError with what is wrong."""
    instead = _INSTEAD[engine].get(entry.option)
    if instead:
        raise ValueError(f"does not apply to {_NAMES[engine]}: {instead}")
    keys = _keys(engine)
    if entry.key not in keys:
        raise ValueError(_unknown(engine, entry.key))
    raw = entry.written if takes_only_text(engine, entry.key) else entry.value
    try:
        return TypeAdapter(keys[entry.key], config=ConfigDict(strict=True)).validate_python(raw)
    except ValidationError as error:
        raise ValueError(f"{_rule(error)}, but got {brief(raw)}") from None


def _clashes(engine: str, key: str, values: Mapping[str, Any]) -> Iterable[str]:
    """Yield why a value cannot be together with those before it, or with how lab places workers."""
    if engine == "slurm":
        if key in _ONE_TASK and values[key] != 1:
            yield f"must be 1: a worker is one task on one node, but got {values[key]}; --workers says how many"
        gpus = [name for name in ("gpus_per_worker", *_GPU_KEYS) if name in values]
        if key in gpus and len(gpus) > 1 and "gpus_per_worker" in gpus:
            yield f"{' and '.join(gpus)} both ask for GPUs; keep one of them"
    if (
        engine == "ray"
        and key in ("workers_per_gpu", "num_gpus")
        and {"workers_per_gpu", "num_gpus"} <= set(values)
    ):
        yield "num_gpus and workers_per_gpu both say how workers share GPUs; keep one of them"


@functools.cache
def _keys(engine: str) -> Mapping[str, Any]:
    """Return the keys of an engine's profiles, besides `engine`, with their types."""
    if engine != "slurm":
        return _LOCAL if engine == "local" else _RAY
    slurm = require("submitit.slurm.slurm", "slurm", "Slurm")
    types = get_type_hints(slurm._make_sbatch_string)
    return {**{name: _ours(types[name]) for name in slurm._get_default_parameters()}, **_SLURM}


def _ours(kind: Any) -> Any:
    """Return a type of submitit's; where it takes a list of texts, one text is a list of one."""
    return _Texts if "List[str]" in str(kind) or "Iterable[str]" in str(kind) else kind


def _unknown(engine: str, key: str) -> str:
    keys = _keys(engine)
    near = _ALSO_CALLED[engine].get(key)
    other = next((_NAMES[other] for other, own in _OWN.items() if key in own), "")
    if other and not near:
        return f"is an option of {other}, not of {_NAMES[engine]}"
    near = near or nearest(key, keys)
    if near:
        return f"{_NAMES[engine]} has no such option. Did you mean '{near}'?"
    hint = (
        "; other options of sbatch go into additional_parameters: {NAME: VALUE}" if engine == "slurm" else ""
    )
    return f"{_NAMES[engine]} has no such option{hint}. It takes {', '.join(sorted(keys))}"


def _rule(error: ValidationError) -> str:
    rule = str(error.errors()[0]["msg"])
    for theirs, ours in (
        ("Input should be", "must be"),
        ("a valid dictionary", "a mapping"),
        ("a valid list", "text or a list of texts"),
        ("a valid string", "text"),
        ("a valid integer", "a whole number"),
        ("a valid boolean", "true or false"),
        ("Value error, ", ""),
    ):
        rule = rule.replace(theirs, ours)
    return "must be an amount of memory such as 6GB" if "byte" in error.errors()[0]["type"] else rule

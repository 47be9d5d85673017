"""Tables of runs that other programs export."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.errors import ConfigError, TrackingError
from lab.tracking import ForeignStudy, read_runs

WANDB = """Name,State,Created,Runtime,lr,optimizer,accuracy,loss
calm-lake-1,finished,2026-01-01,12,0.01,adam,0.91,0.31
wild-moon-2,crashed,2026-01-01,3,0.1,sgd,,NaN
new-dawn-3,running,2026-01-01,3,0.1,sgd,0.2,0.9
"""
NEPTUNE = "sys/id,sys/failed,parameters/lr,metrics/acc,monitoring/cpu\nA-1,False,0.1,0.5,3\nA-2,True,0.2,,\n"


def read(tmp_path: Path, text: str, *metrics: str, monitor: str | None = None) -> ForeignStudy:
    file = tmp_path / "runs.csv"
    file.write_text(text)
    return read_runs(file, metrics, monitor)


def test_columns_without_a_prefix_are_settings_unless_they_are_named(tmp_path: Path) -> None:
    found = read(tmp_path, WANDB, "accuracy", "loss", monitor="accuracy")
    first, second = found.runs  # the third has not ended
    assert (first.name, first.outcome) == ("calm-lake-1", "completed")
    assert first.params == {"lr": "0.01", "optimizer": "adam"}
    assert first.metrics == {"accuracy": 0.91, "loss": 0.31}
    assert (second.outcome, second.metrics) == ("failed", {})
    assert (found.monitor, found.maximize) == ("accuracy", True)


def test_prefixes_say_what_a_column_is(tmp_path: Path) -> None:
    found = read(tmp_path, NEPTUNE)
    assert found.monitor == "acc"
    assert [(run.key, run.params, run.metrics, run.outcome) for run in found.runs] == [
        ("A-1", {"lr": "0.1"}, {"acc": 0.5}, "completed"),
        ("A-2", {"lr": "0.2"}, {}, "failed"),
    ]


def test_what_a_file_does_not_say_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"Which columns of runs\.csv are metrics\? Name each with --metric"
    ):
        read(tmp_path, WANDB)
    with pytest.raises(ConfigError, match=r"Which metric compares the runs\? .*--monitor: accuracy, loss"):
        read(tmp_path, WANDB, "accuracy", "loss")
    with pytest.raises(ConfigError, match=r"has no column 'acuracy'\. Did you mean 'accuracy'\?"):
        read(tmp_path, WANDB, "acuracy")
    with pytest.raises(TrackingError, match=r"runs\.csv has no rows; a header and a row for each run"):
        read(tmp_path, "a,b\n")
    with pytest.raises(TrackingError, match=r"none\.csv cannot be read as CSV: .*No such file"):
        read_runs(tmp_path / "none.csv")


JSON = """{"id": "a1", "name": "calm-lake-1", "state": "finished", "user": "ana", "created_at": "2026-01-01",
"config": {"lr": 0.01, "sizes": [3, 5], "net": {"depth": 2}, "_wandb": {"cli": "0.2"}},
"summary": {"accuracy": 0.91, "_step": 9, "_wandb": {"runtime": 5}}}
{"id": "b2", "name": "wild-moon-2", "state": "crashed", "config": {"lr": 0.1, "dropout": null},
"summary": {"loss": NaN}}
{"id": "c3", "name": "new-dawn-3", "state": "running", "config": {"lr": 0.1}, "summary": {"accuracy": 0.2}}
""".replace(",\n", ", ")


@pytest.mark.parametrize("name", ["runs.jsonl", "runs.JSON"])
def test_json_has_an_object_for_each_run(tmp_path: Path, name: str) -> None:
    lines = JSON.strip().splitlines()
    (tmp_path / name).write_text(JSON if name == "runs.jsonl" else f"[{','.join(lines)}]")
    found = read_runs(tmp_path / name, monitor="accuracy")
    first, second = found.runs  # the third has not ended
    assert (first.key, first.name, first.outcome) == ("a1", "calm-lake-1", "completed")
    assert first.params == {"lr": "0.01", "sizes": "[3, 5]", "net/depth": "2"}
    assert first.metrics == {"accuracy": 0.91}
    assert (second.key, second.params, second.metrics, second.outcome) == ("b2", {"lr": "0.1"}, {}, "failed")


def test_flat_json_is_read_like_a_table(tmp_path: Path) -> None:
    (tmp_path / "runs.json").write_text('[{"Name": "one", "lr": 0.1, "accuracy": 0.5}]')
    (run,) = read_runs(tmp_path / "runs.json", ["accuracy"]).runs
    assert (run.name, run.params, run.metrics) == ("one", {"lr": "0.1"}, {"accuracy": 0.5})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'lr': 1}", r"cannot be read as JSON, an object for each run, .*: Expecting property name"),
        ("[1, 2]", r"has something else where an object for each run is expected"),
        ("", r"has nothing where an object for each run is expected"),
    ],
)
def test_json_that_has_no_runs_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "runs.jsonl").write_text(text)
    with pytest.raises(TrackingError, match=message):
        read_runs(tmp_path / "runs.jsonl")


@pytest.mark.parametrize(
    "text", ["", " ", "nan", "None", "null", "N/A", "na", "<NA>", "-", "inf", "-Infinity"]
)
def test_infinities_and_common_words_for_no_value_are_none(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, f"params.lr,metrics.acc\n0.1,{text}\n0.2,0.5\n")
    assert [run.metrics for run in found.runs] == [{}, {"acc": 0.5}]


@pytest.mark.parametrize("text", ["91 %", "0,9", "True", "high"])
def test_a_metric_that_is_no_number_is_an_error(tmp_path: Path, text: str) -> None:
    said = re.escape(
        "runs.csv, line 3, column 'metrics.acc': a metric is a number, or nothing where a run has none, but got "
        f"{text!r}"
    )
    with pytest.raises(TrackingError, match=said):
        read(tmp_path, f'params.lr,metrics.acc\n0.1,0.5\n0.2,"{text}"\n')
    with pytest.raises(
        TrackingError, match=r"line 2, column 'optimizer': a metric is a number, .* got 'adam'"
    ):
        read(tmp_path, WANDB, "optimizer")
    (tmp_path / "runs.json").write_text('[{"metrics": {"acc": 0.5}}, {"metrics": {"acc": [1]}}]')
    with pytest.raises(TrackingError, match=r"runs\.json, run 2, column 'metrics/acc': .*but got '\[1\]'"):
        read_runs(tmp_path / "runs.json")


def test_texts_in_a_summary_are_no_metrics_unless_named(tmp_path: Path) -> None:
    run = '{"config": {"lr": 0.1}, "summary": {"acc": 0.5, "note": "fine", "net": {"_type": "graph-file"}}}'
    (tmp_path / "runs.jsonl").write_text(f"\n{run}\n")
    (found,) = read_runs(tmp_path / "runs.jsonl").runs
    assert (found.params, found.metrics) == ({"lr": "0.1"}, {"acc": 0.5})
    for given in ({"metrics": ["summary/note"], "monitor": "acc"}, {"monitor": "note"}):
        with pytest.raises(TrackingError, match=r"line 2, column 'summary/note': a metric is a number"):
            read_runs(tmp_path / "runs.jsonl", **given)
    found = read(tmp_path, "config.lr,summary.acc,summary.note\n0.1,0.5,fine\n").runs[0]
    assert (found.params, found.metrics) == ({"lr": "0.1"}, {"acc": 0.5})


def test_values_beyond_the_header_are_an_error_in_any_row(tmp_path: Path) -> None:
    with pytest.raises(
        TrackingError,
        match=r"more values than its header has columns: line 3 has 4 values, the header 2 columns",
    ):
        read(tmp_path, "params.lr,metrics.acc\n0.1,0.5\n0.2,0,5,x\n")


def test_a_broken_line_of_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text('{"metrics": {"acc": 0.5}}\n\n{"metrics": {"acc": "a\u2028b"}\n')
    with pytest.raises(TrackingError, match=r"Expecting ',' delimiter: line 3 column 27$"):
        read_runs(tmp_path / "runs.jsonl")
    (tmp_path / "runs.json").write_text('[{"metrics": {"acc": 0.5}},\n{"metrics" 1}]')
    with pytest.raises(TrackingError, match=r"Expecting ':' delimiter: line 2 column 12 "):
        read_runs(tmp_path / "runs.json")


# as MLflow's UI writes it: all values are quoted, and an apostrophe guards those that a spreadsheet would compute
DOWNLOAD = """Start Time,Duration,Run ID,Name,Source Type,Source Name,User,Status,lr,accuracy,gain
2026-01-01 10:00:00,1.2min,a1,calm-lake-1,LOCAL,train.py,ana,FINISHED,0.1,0.91,'-0.5
2026-01-01 11:00:00,3.0s,b2,wild-moon-2,LOCAL,train.py,ana,FAILED,0.2,,
2026-01-01 12:00:00,,c3,new-dawn-3,LOCAL,train.py,ana,RUNNING,0.3,0.2,0.1
"""


def test_the_download_of_mlflows_ui(tmp_path: Path) -> None:
    found = read(tmp_path, DOWNLOAD, "accuracy", "gain", monitor="accuracy")
    assert [(run.key, run.name, run.outcome, run.params, run.metrics) for run in found.runs] == [
        ("a1", "calm-lake-1", "completed", {"lr": "0.1"}, {"accuracy": 0.91, "gain": -0.5}),
        ("b2", "wild-moon-2", "failed", {"lr": "0.2"}, {}),
    ]


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_the_index_of_a_pandas_table_is_no_setting(tmp_path: Path, index: str) -> None:
    """`mlflow.search_runs().to_csv("runs.csv")` writes one."""
    text = f"{index},run_id,experiment_id,status,artifact_uri,start_time,metrics.acc,params.lr,tags.mlflow.runName\n"
    (run,) = read(tmp_path, f"{text}0,a1,1,FINISHED,/x,2026-01-01,0.5,0.1,calm-lake-1\n").runs
    assert (run.key, run.name, run.params, run.metrics) == ("a1", "calm-lake-1", {"lr": "0.1"}, {"acc": 0.5})


def test_preempted_runs_of_wandb_have_no_result(tmp_path: Path) -> None:
    (run,) = read(tmp_path, "State,lr,acc\npreempted,0.1,0.5\npreempting,0.2,0.4\n", "acc").runs
    assert (run.outcome, run.params) == ("killed", {"lr": "0.1"})

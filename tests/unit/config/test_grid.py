"""Grid files: what they mean, and every way in which one can be wrong."""

from __future__ import annotations

import pickle
import re
import textwrap
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import lab.config
from lab.config import (
    Budget,
    check_files,
    load_grid,
    load_needs,
    parse_config,
    parse_grid,
    parse_overrides,
    parse_value,
)
from lab.config.constraint import parse_constraint
from lab.errors import ConfigError

GRIDS = Path(__file__).parents[3] / "grids"

FULL = """
name: digits_models
description: Which net?
base:
  dataset: digits
  depth: 2
grid:
  lr: [0.001, 0.01]
  optimizer: [Adam, SGD]
  momentum: [0.5, 0.9]
  net:
    plain: {activation: ReLU}
    normed: {activation: gelu, norm: batch}
when:
  momentum: {optimizer: sgd}
exclude:
  - {optimizer: sgd, lr: 0.001, net: [plain]}
  - {activation: gelu, momentum: [0.9]}
constraints:
  - params <= 150_000
repeats: 2
epochs: 10
patience: null
budget: {trials: 5, seconds: 60}
"""


def grid_of(text, **kwargs):
    return parse_grid(textwrap.dedent(text), "g.yaml", **kwargs)


def test_everything_a_file_says():
    grid = parse_grid(FULL, "any.yaml")
    assert (grid.name, grid.description, grid.file) == ("digits_models", "Which net?", "any.yaml")
    assert grid.base == {"dataset": "digits", "depth": 2, "epochs": 10, "patience": None}
    assert grid.space.size == 2 * (1 + 2) * 2 * 2
    assert grid.budget == Budget(trials=5, seconds=60)
    assert [str(constraint) for constraint in grid.constraints] == ["params <= 150000"]
    assert grid.text == FULL
    config = grid.config(grid.space.at(1))
    assert (config.lr, config.optimizer, config.activation, config.seed) == (0.001, "adam", "relu", 1)
    assert (config.epochs, config.patience) == (10, None)
    assert grid.label(grid.space.at(grid.space.size - 1)) == "lr=0.01 sgd momentum=0.9 normed seed=1"


def test_excluded_says_why():
    grid = parse_grid(FULL, "any.yaml")
    reasons = {grid.label(point): grid.excluded(point) for point in grid.space}
    assert reasons["lr=0.001 sgd momentum=0.5 plain seed=0"] == "excluded: optimizer=sgd, lr=0.001, net=plain"
    assert reasons["lr=0.01 sgd momentum=0.9 normed seed=0"] == "excluded: activation=gelu, momentum=0.9"
    assert reasons["lr=0.01 adam normed seed=0"] is None  # no momentum there
    assert sum(reason is not None for reason in reasons.values()) == 2 * (2 + 2)


def test_a_base_alone_is_one_cell():
    grid = grid_of("base: {epochs: 3}")
    assert (grid.name, grid.space.size, grid.label(grid.space.at(0))) == ("g", 1, "g")
    assert grid.config(grid.space.at(0)).epochs == 3


def test_empty_sections_are_as_good_as_none():
    assert grid_of("base:\ngrid:\nwhen:\nexclude:\n").space.size == 1


def test_a_scalar_is_one_candidate_and_an_empty_variant_is_the_base():
    grid = grid_of("grid: {lr: 0.1, net: {plain: , wide: {width: 64}}}")
    assert [grid.label(point) for point in grid.space] == ["lr=0.1 plain", "lr=0.1 wide"]


def test_seeds():
    assert [c["seed"] for c in grid_of("base: {seed: 5}\nrepeats: 3").space] == [5, 6, 7]
    assert [c["seed"] for c in grid_of("repeats: [9, 4]").space] == [9, 4]
    assert dict(grid_of("repeats: 1").space.at(0)) == {}


def test_lists_as_candidates():
    grid = grid_of("grid: {dense: [[], [120, 84]], kernel_size: [3, [5, 3]]}\nexclude: [{dense: [120, 84]}]")
    labels = [grid.label(point) for point in grid.space if not grid.excluded(point)]
    assert labels == ["dense=none kernel_size=3", "dense=none kernel_size=5,3"]


def test_labels_stay_clear_where_two_dimensions_share_a_value():
    grid = grid_of("grid: {activation: [relu, gelu], dense_activation: [gelu, none], norm: [none]}")
    assert grid.label(grid.space.at(0)) == "relu dense_activation=gelu norm=none"
    assert grid.label(grid.space.at(3)) == "activation=gelu dense_activation=none norm=none"


def test_conditions_on_the_default_on_a_preset_and_on_a_field_of_variants():
    assert grid_of("grid: {weight_decay: [0, 1]}\nwhen: {weight_decay: {optimizer: Adam}}").space.size == 2
    text = "base: {preset: lenet}\ngrid: {momentum: [0, 0.5]}\nwhen: {momentum: {optimizer: sgd}}"
    assert grid_of(text).space.size == 2
    text = "grid: {n: {a: {norm: batch}, b: {}}, dropout: [0.1, 0.2]}\nwhen: {dropout: {norm: none}}"
    assert grid_of(text).space.size == 3


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            "grid: {preset: [lenet, cerberus], gamma: [0.5, 1]}\nwhen: {gamma: {optimizer: adam}}",
            "when.gamma",
        ),
        ("grid: {preset: [lenet, cerberus]}\nexclude: [{optimizer: adam}]", "exclude[0]"),
        ("grid: {net: {a: {preset: lenet}, b: {width: 8}}}\nexclude: [{optimizer: adam}]", "exclude[0]"),
        (
            "grid: {net: {a: {preset: lenet}, b: {optimizer: adam}}}\nexclude: [{optimizer: adam}]",
            "exclude[0]",
        ),
        (
            "search: {space: {preset: [lenet, cerberus], gamma: {low: 0.1, high: 1, when: {optimizer: adam}}}}\n"
            "budget: {trials: 3}",
            "search.space.gamma.when",
        ),
        (
            "grid: {preset: [lenet, cerberus]}\nreported: [{cells: {optimizer: adam}, test_accuracy: 0.9}]",
            "reported[0].cells",
        ),
        (
            "grid: {preset: [lenet, cerberus]}\nclaims: [{claim: x, cells: {optimizer: adam}, below: 0.9}]",
            "claims[0].cells",
        ),
        (
            "grid: {preset: [lenet, cerberus]}\n"
            "claims: [{claim: x, cells: {preset: lenet}, beats: {optimizer: adam}}]",
            "claims[0].beats",
        ),
    ],
)
def test_nothing_can_look_at_what_a_varied_preset_sets(text, place):
    message = f"{place}.optimizer: optimizer depends on the preset, which varies; use the preset instead"
    with pytest.raises(ConfigError, match=re.escape(message)):
        grid_of(text)


def test_what_no_varied_preset_sets_can_be_looked_at():
    for text in (
        "grid: {preset: [cnn1, cnn2], gamma: [0.5, 1]}\nwhen: {gamma: {optimizer: adam}}",
        "grid: {preset: [lenet, cerberus], optimizer: [adam, sgd], gamma: [0.5, 1]}\n"
        "when: {gamma: {optimizer: adam}}",
    ):
        assert grid_of(text).space.size > 2


def test_overrides_lie_over_the_base():
    grid = grid_of(
        "base: {lr: 1}\nepochs: 9\nrepeats: 2", overrides={"epochs": 3, "dataset": "MNIST", "seed": 4}
    )
    assert grid.base == {"lr": 1.0, "epochs": 3, "dataset": "mnist", "seed": 4}
    assert grid.overrides == {"epochs": 3, "dataset": "mnist", "seed": 4}
    assert [point["seed"] for point in grid.space] == [4, 5]


def test_overrides_of_what_varies_and_of_nothing():
    overrides = {"lr": 1, "norm": "none", "seed": 1, "epoch": 3, "width": 0}
    text = "grid: {lr: [1, 2], net: {a: {norm: batch}}}\nrepeats: [1, 2]"
    with pytest.raises(ConfigError, match=r"--set lr: the grid varies lr") as caught:
        grid_of(text, overrides=overrides)
    lines = str(caught.value).splitlines()
    assert lines[1] == "--set norm: 'net' varies norm; remove it from the file, or leave out --set norm"
    assert lines[2].startswith("--set seed: 'repeats' varies seed")
    assert lines[3] == "--set epoch: unknown setting. Did you mean 'epochs'?"
    assert lines[4] == "--set width: must be greater than or equal to 1, but got 0"


def test_a_contradiction_through_an_override_names_it():
    with pytest.raises(ConfigError, match=r"^--set monitor: val_fraction=0 leaves no validation images"):
        grid_of("base: {val_fraction: 0, monitor: train_loss}", overrides={"monitor": "val_loss"})


def test_config_names_the_cell():
    grid = grid_of("grid: {val_fraction: [0.1, 0], net: {a: {monitor: val_loss}}}")
    with pytest.raises(
        ConfigError, match=r"g.yaml: monitor: .*\(in the cell val_fraction=0.0, net=a, monitor="
    ):
        grid.config(grid.space.at(1))


def test_a_million_cells_cost_nothing():
    values = ", ".join(str(i / 1000) for i in range(1, 101))
    grid = grid_of(
        f"grid: {{lr: [{values}], weight_decay: [{values}], label_smoothing: [{values}]}}\nrepeats: 10"
    )
    assert grid.space.size == 10_000_000
    assert grid.label(grid.space.at(9_999_999)).endswith("seed=9")


MALFORMED = [
    ("- 1", 1, "", "a grid file is a mapping with keys such as base and grid, but got [1]"),
    ("grd: {}", 1, "grd", "unknown key. Did you mean 'grid'?"),
    ("name: A b", 1, "name", "must match pattern"),
    ("name: ../x", 1, "name", "must match pattern"),
    ("description: 3", 1, "description", "must be text, but got 3; put it in quotes"),
    ("base: [1]", 1, "base", "must be a mapping, but got [1]"),
    ("base:\n  lr: x", 2, "base.lr", "must be a valid number, but got 'x'"),
    ("base:\n  lrr: 1", 2, "base.lrr", "unknown setting. Did you mean 'lr'?"),
    ("base:\n  optimizer: adamm", 2, "base.optimizer", "Unknown optimizer 'adamm'. Did you mean 'adam'?"),
    ("base:\n  preset: lenet5", 2, "base.preset", "Unknown preset 'lenet5'. Did you mean 'lenet'?"),
    (
        "base: {lr: 1}\n\ngrid:\n  lr:\n  - 0.1\n  - 1\n  - -1",
        7,
        "grid.lr[2]",
        "must be greater than 0, but got -1",
    ),
    ("grid:\n  lr: [1e-3, 0.001]", 2, "grid.lr[1]", "0.001 is listed twice; grid.lr[0] is the same"),
    ("grid:\n  activation:\n  - relu\n  - ReLU", 4, "grid.activation[1]", "relu is listed twice"),
    ("grid:\n  lr: []", 2, "grid.lr", "has no candidates"),
    ("grid:\n  lr:", 2, "grid.lr", "has no candidates"),
    ("grid:\n  net: {}", 2, "grid.net", "has no candidates"),
    ("grid:\n  lrr: [1]", 2, "grid.lrr", "unknown setting. Did you mean 'lr'?"),
    ("grid:\n  lr: {a: {lr: 1}}", 2, "grid.lr", "is a setting and takes a list of values"),
    ("grid:\n  filters: [6, 16]", 2, "grid.filters", "each candidate is itself a list"),
    ("grid:\n  lr: [{a: 1}]", 2, "grid.lr[0]", "must be a valid number, but got {'a': 1}"),
    ("grid:\n  my net: {a: {lr: 1}}", 2, "grid.my net", "the name of variants may have letters"),
    ("grid:\n  net:\n    a: 3", 3, "grid.net.a", "must be a mapping of settings, but got 3"),
    ("grid:\n  net:\n    a: {lr: 0}", 3, "grid.net.a.lr", "must be greater than 0, but got 0"),
    ("grid:\n  net:\n    '': {lr: 1}", 3, "grid.net", "a label has 1 to 100 printable characters"),
    ("grid:\n  net:\n    a: {}\n    b: {}", 4, "grid.net.b", "sets the same values as 'a'"),
    ("grid:\n  lr: [1]\n  net:\n    a: {lr: 2}", 3, "grid.net", "sets lr, which 'lr' sets too"),
    ("when:\n  lr: {optimizer: sgd}", 2, "when.lr", "the grid has no 'lr'"),
    ("grid: {lr: [1]}\nwhen:\n  lr:\n    optimzer: sgd", 4, "when.lr.optimzer", "Did you mean 'optimizer'?"),
    ("grid: {lr: [1]}\nwhen:\n  lr:\n    optimizer: sgd", 4, "when.lr.optimizer", "sgd matches nothing"),
    ("grid: {lr: [1]}\nwhen:\n  lr:\n    optimizer: sdg", 4, "when.lr.optimizer", "Unknown optimizer 'sdg'"),
    (
        "grid: {lr: [1], depth: [1]}\nwhen:\n  lr: {depth: 1}\n  depth: {lr: 1}",
        2,
        "when",
        "circular conditions",
    ),
    (
        "grid: {preset: [lenet, conv3], lr: [1]}\nwhen:\n  lr: {optimizer: adam}",
        3,
        "when.lr.optimizer",
        "depends on",
    ),
    ("exclude:\n- {}", 2, "exclude[0]", "is empty and would exclude every cell"),
    ("exclude:\n- 3", 2, "exclude[0]", "must be a mapping, but got 3"),
    ("grid: {lr: [1]}\nexclude:\n- lr: [1, 2]", 3, "exclude[0].lr", "2.0 matches nothing: lr is 1.0"),
    ("grid: {net: {a: {}}}\nexclude:\n- net: b", 3, "exclude[0].net", "b matches nothing: net is a"),
    ("exclude:\n- nett: b", 2, "exclude[0].nett", "unknown key"),
    ("constraints: params <= 3", 1, "constraints", "must be a valid list"),
    ("constraints:\n- params 3", 2, "constraints[0]", "must be a name, one of <= < >= > == !=, and a number"),
    ("constraints:\n- parms <= 3", 2, "constraints[0]", "unknown name 'parms'. Did you mean 'params'?"),
    ("constraints:\n- params <= many", 2, "constraints[0]", "must compare with a number, but got 'many'"),
    ("constraints:\n- params <= true", 2, "constraints[0]", "must compare with a number, but got 'true'"),
    ("constraints:\n- norm == 3", 2, "constraints[0]", "unknown name 'norm'"),
    (
        "constraints:\n- freeze <= 2",
        2,
        "constraints[0]",
        "freeze is not always a number; use `exclude`",
    ),
    ("repeats: 0", 1, "repeats", "must be a number from 1 to 10,000 or a list of seeds, but got 0"),
    ("repeats: true", 1, "repeats", "but got True"),
    ("repeats: []", 1, "repeats", "but got []"),
    ("repeats: 1_000_000_000", 1, "repeats", "but got 1000000000"),
    ("repeats: [1, 2, 1]", 1, "repeats[2]", "the seed 1 is listed twice"),
    ("repeats: [x]", 1, "repeats[0]", "must be a valid integer, but got 'x'"),
    ("grid: {seed: [1, 2]}\nrepeats: 3", 2, "repeats", "'seed' already sets the seed"),
    ("base: {seed: 9223372036854775807}\nrepeats: 2", 2, "repeats", "must be less than"),
    ("base: {epochs: 3}\nepochs: 4", 2, "epochs", "base sets epochs too (line 1); keep one of them"),
    ("epochs: 0", 1, "epochs", "must be greater than or equal to 1, but got 0"),
    ("patience: never", 1, "patience", "must be a valid integer, but got 'never'"),
    ("budget: 3", 1, "budget", "must be a mapping, but got 3"),
    ("budget: {trials: 0}", 1, "budget.trials", "must be greater than or equal to 1, but got 0"),
    ("budget: {secs: 3}", 1, "budget.secs", "Did you mean 'seconds'? Known: trials, seconds"),
    ("budget: {seconds: .inf}", 1, "budget.seconds", "must be a finite number"),
    (
        "base:\n  val_fraction: 0\n  monitor: val_loss",
        3,
        "base.monitor",
        "val_fraction=0 leaves no validation images",
    ),
    ("base: {filters: [3, 4]}\ngrid:\n  depth: [3]", 3, "grid.depth", "depth=3 contradicts filters=3,4"),
    ("a: 1\na: 2", 2, "a", "the key 'a' is given twice; the first is on line 1"),
]


@pytest.mark.parametrize(
    ("text", "line", "key", "message"), MALFORMED, ids=[repr(row[0])[:40] for row in MALFORMED]
)
def test_malformed(text, line, key, message):
    with pytest.raises(ConfigError, match=r"g\.yaml:") as caught:
        parse_grid(text, "g.yaml")
    fault = caught.value.faults[0]
    assert (fault.file, fault.line) == ("g.yaml", line)
    assert fault.key.startswith(key)
    assert message in fault.message


def test_a_value_that_is_given_twice_is_reported_once():
    with pytest.raises(ConfigError, match="5 matches nothing: kernel_size is 3") as caught:
        grid_of("grid: {lr: [1]}\nwhen: {lr: {kernel_size: [5, 5]}}")
    assert len(caught.value.faults) == 1
    assert len(caught.value.faults) == 1


def test_all_faults_of_a_file_at_once():
    text = """\
        nam: x
        base: {lrr: 1, epochs: 0}
        grid:
          lr: [1, 1]
          nothing: [2]
        when: {depth: {lr: 3}}
        exclude: [{lr: 7}]
        constraints: [params < x]
        repeats: -1
        budget: {trials: x}
    """
    with pytest.raises(ConfigError, match=r"g\.yaml") as caught:
        grid_of(text)
    assert [fault.line for fault in caught.value.faults] == [1, 2, 2, 4, 5, 6, 7, 8, 9, 10]


def test_a_file_name_that_is_no_study_name(tmp_path):
    path = tmp_path / "My Grid.yaml"
    path.write_text("grid: {lr: [1]}")
    with pytest.raises(ConfigError, match=r"name: the file name 'My Grid' cannot be the study's name"):
        load_grid(path)


def test_check_files_tells_the_faults_of_all(tmp_path):
    good, bad, worse = (tmp_path / name for name in ("good.yaml", "bad.yaml", "worse.yaml"))
    good.write_text("grid: {lr: [1]}")
    bad.write_text("x: 1")
    worse.write_text("[")
    assert [grid.name for grid in check_files([good, good])] == ["good", "good"]
    with pytest.raises(ConfigError, match=r"(?s)bad.yaml:1: x: unknown key.*worse.yaml:"):
        check_files([good, bad, worse])


@pytest.mark.parametrize(
    ("text", "facts", "reason"),
    [
        ("params <= 150_000", {"params": 150_000}, None),
        ("params<=150_000", {"params": 186_378}, "params <= 150000 must hold, but params is 186378"),
        ("mult_adds > 1e6", {"mult_adds": 10}, "mult_adds > 1000000.0 must hold, but mult_adds is 10"),
        ("depth != 3", {"depth": 3}, "depth != 3 must hold, but depth is 3"),
        ("momentum >= 0.5", {"momentum": None}, None),
        ("kernel_size < 5", {"kernel_size": (3, 5)}, "kernel_size < 5 must hold, but kernel_size is 5"),
        ("epochs == 3", {"epochs": 3}, None),
    ],
)
def test_constraints(text, facts, reason):
    assert parse_constraint(text).violated(facts) == reason


def test_a_constraint_without_its_fact_is_not_passed_over():
    with pytest.raises(KeyError, match=r"params"):
        parse_constraint("params < 3").violated({})


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_grids(path):
    grid = load_grid(path)
    assert grid.name == path.stem
    assert grid.description
    labels = {grid.label(point) for point in grid.space}
    hashes = {grid.config(point).cell_hash for point in grid.space}
    assert len(labels) == len(hashes) == grid.space.size


def test_cell_counts_of_shipped_grids():
    assert load_grid(GRIDS / "quickstart.yaml").space.size == 24
    assert load_grid(GRIDS / "cifar10_models.yaml").space.size == 24


def test_docstring_example_is_a_grid():
    example = lab.config.grid.__doc__.split("An example::")[1]
    assert grid_of(example).name == "digits_models"


def test_a_grid_file_can_be_resumed_from_its_text():
    grid = parse_grid(FULL, "any.yaml")
    assert parse_grid(grid.text, "any.yaml") == grid
    assert pickle.loads(pickle.dumps(grid)) == grid


def test_public_names_are_sorted_and_there():
    assert lab.config.__all__ == sorted(lab.config.__all__)
    assert all(hasattr(lab.config, name) for name in lab.config.__all__)
    assert parse_value is lab.config.parse_value


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 10**20),
        st.floats(),
        st.sampled_from(["sgd", "adam", "relu", "lenet", "params <= 3", "none", "x", ""]),
        st.text(max_size=5),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["lr", "optimizer", "net", "preset", "dense", "seed", "x"]), inner, max_size=3
        ),
    ),
    max_leaves=12,
)
KEYS = st.sampled_from([*lab.config.GridFile.model_fields, "other"])


@given(st.dictionaries(KEYS, PLAIN, max_size=5))
def test_any_mapping_is_a_grid_or_a_config_error(raw):
    text = yaml.safe_dump(raw, allow_unicode=True)
    try:
        grid = parse_grid(text, "fuzz.yaml")
    except ConfigError:
        return
    for point in islice(grid.space, 20):
        assert grid.space.at(grid.space.index(point)) == point
        grid.label(point)
        grid.excluded(point)


@given(
    st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace")))
)
def test_any_file_is_a_grid_or_a_config_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(data)
    with suppress(ConfigError):
        load_grid(path)


def test_reported_figures_stand_beside_the_cells():
    grid = grid_of("""
        report: F. one factor
        grid: {lr: [0.1, 0.2], net: {a: {width: 4}, b: {width: 8}}}
        reported:
          - {cells: {lr: 0.1, net: [a, b]}, test_accuracy: 0.97, note: in one epoch}
          - {test_accuracy: [0.4, 0.6]}
          - {cells: {net: b}, outcome: not_converged}
    """)
    first, ranged, ended = grid.reported
    assert (grid.report, first.test_accuracy, first.note) == ("F. one factor", 0.97, "in one epoch")
    assert (ranged.test_accuracy, ended.outcome) == ((0.4, 0.6), "not_converged")
    assert [first.matches(grid.space, point) for point in grid.space] == [True, True, False, False]
    assert [ended.matches(grid.space, point) for point in grid.space] == [False, True, False, True]
    assert all(ranged.matches(grid.space, point) for point in grid.space)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{cells: {lr: 0.1}}", "must give either test_accuracy or outcome"),
        ("{test_accuracy: 97.2}", "must be a fraction from 0 to 1"),
        ("{test_accuracy: [0.6, 0.4]}", "the lower one first"),
        ("{cells: {lr: 0.3}, test_accuracy: 0.9}", "matches nothing: lr is 0.1, 0.2"),
        ("{cells: {lrr: 0.1}, test_accuracy: 0.9}", "unknown key.*Did you mean 'lr'"),
        ("{accuracy: 0.9}", "unknown key.*test_accuracy"),
    ],
)
def test_wrong_figures_of_a_report(entry, message):
    with pytest.raises(ConfigError, match=message):
        grid_of(f"grid: {{lr: [0.1, 0.2]}}\nreported: [{entry}]")


def pairs_of(claim):
    return [(str(a), str(b)) for a, b in claim.pairs]


def test_a_claim_is_one_comparison_for_each_value_of_its_sides():
    beats, every, restricted, rising, below = grid_of("""
        grid: {lr: [0.1, 0.2, 0.3], net: {a: {width: 4}, b: {width: 8}, c: {width: 16}}}
        claims:
          - {claim: B beats A, cells: {net: b}, beats: {net: a}, note: by far}
          - {claim: B is the best, cells: {net: b}, same_as: {net: [a, c]}, within: 0.01}
          - {claim: at low rates, cells: {net: b, lr: [0.1, 0.2]}, beats: {lr: [0.1, 0.2], net: a}}
          - {claim: rates help, cells: {net: [a, b]}, rising: {lr: [0.1, 0.3, 0.2]}}
          - {claim: C learns nothing, cells: {net: c}, below: 0.2}
    """).claims
    assert (beats.text, beats.says, beats.note) == ("B beats A", "beats", "by far")
    assert pairs_of(beats) == [("net=b", "net=a")]
    assert (pairs_of(every), every.limit) == ([("net=b", "net=a"), ("net=b", "net=c")], 0.01)
    assert pairs_of(restricted) == [("net=b, lr=0.1|0.2", "lr=0.1|0.2, net=a")]
    assert pairs_of(rising) == [
        ("net=a|b, lr=0.3", "net=a|b, lr=0.1"),
        ("net=a|b, lr=0.2", "net=a|b, lr=0.3"),
    ]
    assert (str(below.cells), below.limit, below.pairs) == ("net=c", 0.2, ())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "{claim: A, cells: {lr: 0.1}}",
            "must have one of beats, same_as, no_better_than, rising, below, outcome",
        ),
        ("{claim: A, below: 0.1, outcome: diverged}", "must have one of beats"),
        ("{cells: {lr: 0.1}, beats: {lr: 0.2}}", "claim.*Field required"),
        ("{claim: A, beats: {lr: 0.2}}", "must name the cells on both sides, under cells and under beats"),
        (
            "{claim: A, cells: {lr: 0.1}, same_as: {lr: 0.2}}",
            "same_as needs within, the difference that does not matter",
        ),
        (
            "{claim: A, cells: {lr: 0.1}, beats: {lr: 0.2}, within: 0.1}",
            "within only goes with same_as and no_better_than, not with beats",
        ),
        ("{claim: A, rising: {lr: 0.1}}", "rising: needs two values or more, in order"),
        ("{claim: A, rising: {lr: [0.1, 0.2], depth: [1, 2]}}", "must have one key under rising"),
        ("{claim: A, below: 20}", "below: must be less than 1"),
        ("{claim: A, cells: {lr: 0.3}, below: 0.2}", "cells.lr.*matches nothing: lr is 0.1, 0.2"),
        ("{claim: A, cells: {lr: 0.1}, beats: {lr: 0.3}}", "beats.lr.*matches nothing: lr is 0.1, 0.2"),
        ("{claim: A, outcom: diverged}", "unknown key.*Did you mean 'outcome'"),
    ],
)
def test_wrong_claims(entry, message):
    with pytest.raises(ConfigError, match=message):
        grid_of(f"grid: {{lr: [0.1, 0.2]}}\nclaims: [{entry}]")


def only(grid_text, **choice):
    return load_only(grid_text, {name: texts.split(",") for name, texts in choice.items()})


def load_only(text, choice):
    return grid_of(text, only=choice)


def test_only_keeps_the_cells_that_it_names():
    text = "grid: {lr: [0.1, 0.2, 0.3], net: {a: {width: 4}, b: {width: 8}}}"
    grid = only(text, lr="0.1,0.3", net="b")
    kept = [dict(point) for point in grid.space if grid.excluded(point) is None]
    assert kept == [{"lr": 0.1, "net": "b"}, {"lr": 0.3, "net": "b"}]
    assert "not among --only" in grid.excluded(grid.space.at(0))


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ({"net": ["a,b"]}, ["a,b"]),
        ({"net": ["a, b,"]}, ["a", "b"]),
        ({"net": ["a", "a,b"]}, ["a", "a,b"]),
        ({"filters": ["4,8;"]}, []),
        ({"filters": ["4;6,16"]}, ["a", "a,b", "b"]),
    ],
)
def test_only_takes_several_values_or_a_whole_label(choice, kept):
    text = "grid: {net: {a: {lr: 0.1}, 'a,b': {lr: 0.2}, b: {lr: 0.3}}, filters: [[4], [6, 16]]}"
    if not kept:
        with pytest.raises(ConfigError, match="--only filters: 4,8 matches nothing"):
            load_only(text, choice)
        return
    grid = load_only(text, choice)
    assert list(dict.fromkeys(p["net"] for p in grid.space if grid.excluded(p) is None)) == kept


def test_only_reports_all_that_is_wrong():
    with pytest.raises(ConfigError, match="--only lr") as caught:
        load_only("grid: {lr: [0.1], depth: [1, 2]}", {"lr": ["abc", "x,"], "depth": [",", "7"]})
    assert [str(fault) for fault in caught.value.faults] == [
        "--only lr: must be a valid number, but got 'abc'",
        "--only lr: must be a valid number, but got 'x'",
        "--only depth: 7 matches nothing: depth is 1, 2",
    ]
    with pytest.raises(ConfigError, match="--only lr: has no value"):
        load_only("grid: {lr: [0.1]}", {"lr": [","]})


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"lrr": "1"}, "--only lrr: not a dimension of the grid.*Did you mean 'lr'"),
        ({"lr": "7"}, "--only lr: .*matches nothing"),
    ],
)
def test_only_must_name_what_is_there(choice, message):
    with pytest.raises(ConfigError, match=message):
        only("grid: {lr: [0.1, 0.2]}", **choice)


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(textwrap.dedent(text))
        return tmp_path

    return write


def test_needed_studies_come_first_and_train_on_the_same_data_as_long(folder):
    path = folder(
        a="grid: {lr: [0.1]}",
        b="needs: a.yaml\ngrid: {lr: [0.2]}",
        c="needs: [b.yaml, a.yaml]\ngrid: {lr: [0.3]}",
    )
    overrides = {"dataset": "mnist", "epochs": 3, "batch_size": 8, "repeats": 2, "name": "d"}
    needed = load_needs(load_grid(path / "c.yaml", overrides))
    assert [grid.name for grid in needed] == ["a", "b"]
    assert [dict(grid.overrides) for grid in needed] == [{"dataset": "mnist", "epochs": 3}] * 2


def test_a_needed_study_that_varies_what_is_set_says_so(folder):
    path = folder(a="grid: {epochs: [1, 2]}", b="needs: a.yaml\ngrid: {lr: [0.2]}")
    with pytest.raises(
        ConfigError, match=r"a\.yaml: --set epochs: the grid varies epochs; .*\(b needs this study\)"
    ):
        load_needs(load_grid(path / "b.yaml", {"epochs": 3}))


def test_overrides_of_the_files_own_keys():
    text = "repeats: 5\nbudget: {seconds: 60}\ngrid: {lr: [0.1, 0.2]}"
    overrides = {
        "name": "other",
        "repeats": 1,
        "max_retries": 0,
        "max_failures": 2,
        "budget.trials": 1,
        "budget.seconds": None,
    }
    grid = grid_of(text, overrides=overrides)
    assert (grid.name, grid.space.size, grid.max_retries, grid.max_failures) == ("other", 2, 0, 2)
    assert grid.budget == Budget(trials=1)
    assert grid.overrides == overrides
    assert grid_of(text, overrides={"repeats": [7, 8]}).space.size == 4


@pytest.mark.parametrize(
    ("text", "size"),
    [("6GB", 6 * 10**9), ("1.5 GiB", 3 * 2**29), ("24000000000", 24 * 10**9), ("null", None)],
)
def test_gpu_memory_in_bytes(text: str, size: int | None) -> None:
    grid = grid_of(f"gpu_memory: {text}\ngrid: {{lr: [0.1, 0.2]}}")
    assert grid.gpu_memory == size
    assert (
        grid_of("grid: {lr: [0.1, 0.2]}", overrides=parse_overrides({"gpu_memory": text})).gpu_memory == size
    )


def test_gpu_memory_changes_no_cell() -> None:
    plain, sized = (grid_of(f"{key}grid: {{lr: [0.1]}}") for key in ("", "gpu_memory: 6GB\n"))
    assert plain.config(plain.space.at(0)).cell_hash == sized.config(sized.space.at(0)).cell_hash


@pytest.mark.parametrize("text", ["six", "6 parsecs", "-6GB", "true", "[6GB]", "1.5", "nan", "''"])
def test_gpu_memory_that_is_no_amount(text: str) -> None:
    rule = r"g\.yaml:2: gpu_memory: must be an amount of memory such as 6GB, but got "
    with pytest.raises(ConfigError, match=rule):
        grid_of(f"grid: {{lr: [0.1]}}\ngpu_memory: {text}")


@pytest.mark.parametrize("text", ["0", "0GB", "6"])
def test_gpu_memory_that_is_too_little(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r":2: gpu_memory: must be at least 1MB, with its unit, such as 6GB"
    ):
        grid_of(f"grid: {{lr: [0.1]}}\ngpu_memory: {text}")
    with pytest.raises(ConfigError, match=r"^--set gpu_memory: must be at least 1MB.* but got '?" + text):
        grid_of("grid: {lr: [0.1]}", overrides=parse_overrides({"gpu_memory": text}))


def test_wrong_values_of_the_files_own_keys_name_the_option():
    overrides = {"name": "A b", "repeats": 0, "max_retries": -1, "budget.trials": 0, "budget.epochs": 3}
    with pytest.raises(ConfigError, match="--set") as caught:
        grid_of("grid: {lr: [0.1, 0.2]}\nrepeats: 0", overrides=overrides)
    places = [(fault.file, fault.key) for fault in caught.value.faults]
    assert {("", f"--set {key}") for key in overrides if key != "budget.epochs"} <= set(places)


def test_a_study_cannot_need_itself(folder):
    path = folder(a="needs: b.yaml\ngrid: {lr: [0.1]}", b="needs: a.yaml\ngrid: {lr: [0.2]}")
    with pytest.raises(ConfigError, match=r"cannot need itself: a.yaml -> b.yaml -> a.yaml"):
        load_needs(load_grid(path / "a.yaml"))


def test_a_needed_file_must_be_there(folder):
    path = folder(a="needs: missing.yaml\ngrid: {lr: [0.1]}")
    with pytest.raises(ConfigError, match=r"there is no grid file missing.yaml in this folder"):
        load_needs(load_grid(path / "a.yaml"))


def test_contradictions_are_found_beside_all_other_faults():
    text = (
        "base:\n  depth: 3\n  filters: [6, 16]\n  optimzer: adam\n  val_fraction: 0\n"
        "grid:\n  lr: [0.1, x]\n  monitor: [train_loss, val_loss]\n  dropout: [0.1, [0.1, 0.2]]\n"
        "budget: {trial: 3}\nexclude:\n- {dropout: 0.1, monitor: val_loss}\n"
    )
    with pytest.raises(ConfigError, match="contradicts") as caught:
        parse_grid(text, "g.yaml")
    assert [(fault.line, fault.key) for fault in caught.value.faults] == [
        (2, "base.depth"),
        (4, "base.optimzer"),
        (7, "grid.lr[1]"),
        (8, "grid.monitor"),
        (9, "grid.dropout"),
        (10, "budget.trial"),
    ]


def test_contradictions_of_several_cells_come_at_once():
    with pytest.raises(ConfigError, match="no validation images") as caught:
        grid_of("base: {val_fraction: 0, depth: 1}\ngrid:\n  monitor: [val_loss]\n  filters: [[1, 2], [3]]")
    assert [fault.key for fault in caught.value.faults] == ["base.depth", "grid.monitor"]


@pytest.mark.parametrize(
    "text",
    [
        "base: {filtres: [6, 16, 32], kernel_size: [3, 3, 3]}",  # a field that is meant may make it right
        "base: {architecture: resnet17, pool: [1, 1, 1]}",
        "base: {preset: lenett, dropout: [0.1, 0.1, 0.1]}",
        "base: {dense: x, dropout: [0.1, 0.1]}",
        "base: {val_fraction: 0}\ngrid: {net: {a: {monitor: trainloss}}}",
        "grid: {depth: [1, 2], kernel_size: [[3, 3]]}\nexclude: [{depht: 1}]",  # which cells are meant?
        "base: {lrr: 1}\nsearch: {space: {depth: [1, 2], kernel_size: [[3, 3]]}}\nbudget: {trials: 2}",
    ],
)
def test_no_contradiction_is_made_up_from_a_value_that_is_wrong(text):
    with pytest.raises(ConfigError, match=r"g\.yaml:") as caught:
        parse_grid(text, "g.yaml")
    assert len(caught.value.faults) == 1


def test_one_configuration_tells_faults_and_contradictions_at_once():
    with pytest.raises(ConfigError, match="contradicts") as caught:
        parse_config({"lr": "x", "depth": 3, "filters": [1, 2], "pool": [1]})
    assert [fault.key for fault in caught.value.faults] == ["lr", "depth", "pool"]


def test_folds_are_a_dimension() -> None:
    grid = grid_of("base: {folds: 3}\ngrid: {fold: [0, 1, 2], lr: [0.1, 0.01]}")
    assert [grid.config(point).fold for point in grid.space] == [0, 0, 1, 1, 2, 2]

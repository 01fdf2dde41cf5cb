"""Configs: what a person may write, and what they are told when it is wrong."""

import copy
import inspect
import json
import re
import tomllib

import pytest
from pydantic import ValidationError

from convax import model
from convax.model import ARCHITECTURES, LAYERS
from convax.training.config import choices, errors
from convax.training.config.files import read_source, shipped_configs
from convax.training.config.schema import (
    Config,
    ConfigError,
    json_schema,
    load_config,
    to_toml,
    validate,
)

SHIPPED = sorted(shipped_configs())
PARSED = {name: tomllib.loads(text) for name, text in shipped_configs().items()}


def raw(name: str) -> dict:
    return copy.deepcopy(PARSED[name])


def key_paths(table, path=()):
    """Every key of a config, tables and list items included."""
    items = table.items() if isinstance(table, dict) else enumerate(table)
    for key, value in items:
        if isinstance(table, dict):
            yield (*path, key)
        if isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict)):
            yield from key_paths(value, (*path, key))


def parent_of(config, path):
    for key in path[:-1]:
        config = config[key]
    return config


def dotted(path):
    return ".".join(map(str, path))


def kind_of(name, path):
    """What decides how a key is checked: where it stands, and in which of the tables for there."""
    table = parent_of(PARSED[name], path)
    tag = next((table[key] for key in ("name", "source", "type") if key in table), None)
    return tuple(key for key in path if isinstance(key, str)), tag


# Of all shipped configs, each kind of key once.
EVERY_KEY = list(
    {
        kind_of(name, path): (name, path)
        for name in reversed(SHIPPED)
        for path in reversed(list(key_paths(raw(name))))
    }.values()
)
ADAM = {
    **{"name": "adam", "learning_rate": 1e-3, "b1": 0.9, "b2": 0.999},
    **{"eps": 1e-8, "weight_decay": 0.0},
}
AFFINE = {"degrees": 1.0, "translate": [0.1, 0.1], "scale": [0.9, 1.1], "shear": [1.0, 1.0]}
SEGMENTATION = {
    "task": "segmentation",
    "data": {
        **{"source": "masks", "path": "x", "images": "i", "masks": "m", "mask_kind": "classes"},
        **{"classes": ["a", "b"], "size": [8, 8], "channels": 1, "validation": 0, "test": 0},
    },
    "early_stopping": {"metric": "mean_iou"},
}
EMBEDDING = {
    "task": "embedding",
    "loss": {"name": "triplet_batch_hard", "margin": 0.2},
    "early_stopping": {"metric": "recall_at_1"},
}
OPTIONAL = {  # configs do without
    *(("augment",), ("augment", "flip"), ("augment", "translate")),
    *(("augment", "zoom"), ("augment", "color"), ("ema",), ("ema", "warmup")),
    *(("input", "normalize"), ("optimizer", "groups"), ("optimizer", "clip_norm")),
    *(("init_from",), ("init_from", "target"), ("init_from", "skip")),
    *(("training", "evaluate_every"), ("proposals", "most"), ("proposals", "side")),
}
# Without these there are as many maps, or sizes of anchors, as by default: not as the others say.
TIED = {("model", "stages"), ("model", "rpn"), ("model", "rpn", "anchor_sizes")}


def has_default(config, path):
    """Whether a network or layer has a value of its own for a keyword."""
    table = parent_of(config, path)
    function = (ARCHITECTURES | LAYERS).get(table.get("name", table.get("type")))
    tied = path in TIED and "rpn" in config["model"]
    if path[:2] in (("model", "rpn"), ("model", "roi")):
        return not tied
    if path[0] != "model" or function is None or path[-1] in ("name", "type") or tied:
        return False
    parameter = inspect.signature(function).parameters[path[-1]]
    return parameter.default is not inspect.Parameter.empty


IDS = [f"{name}:{dotted(path)}" for name, path in EVERY_KEY]


def complaint(config) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(config, "my.toml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("my.toml: ") for line in lines)
    return [line.removeprefix("my.toml: ") for line in lines]


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_are_valid_and_say_what_they_are(name):
    load_config(name)
    assert shipped_configs()[name].startswith("# ")


@pytest.mark.parametrize(("name", "path"), EVERY_KEY, ids=IDS)
def test_removing_any_key_is_an_error_that_names_it(name, path):
    config = raw(name)
    optional = path in OPTIONAL or has_default(config, path)
    del parent_of(config, path)[path[-1]]
    if optional:
        assert validate(config, "my.toml")
        return
    lines = complaint(config)
    assert len(lines) <= 2
    assert ("anchor_sizes" if path in TIED else path[-1]) in lines[0]


@pytest.mark.parametrize(("name", "path"), EVERY_KEY, ids=IDS)
def test_misspelling_any_key_is_one_error_that_suggests_it(name, path):
    config = raw(name)
    table = parent_of(config, path)
    wrong = path[-1] + "_"
    table[wrong] = table.pop(path[-1])
    lines = complaint(config)
    assert len(lines) <= 2
    assert f"{dotted((*path[:-1], wrong))}: unknown key; did you mean '{path[-1]}'?" in lines


@pytest.mark.parametrize("value", [object, [], {}, "", -1, float("nan"), True], ids=repr)
@pytest.mark.parametrize(("name", "path"), EVERY_KEY, ids=IDS)
def test_mistyping_any_key_is_an_error_that_names_it(name, path, value):
    config = raw(name)
    written = parent_of(config, path)[path[-1]]
    if value is object:
        value = 5 if isinstance(written, (str, list, dict)) else "five"
    if isinstance(value, bool) and isinstance(written, bool):
        pytest.skip("it is the other of two, or the same")
    if (
        isinstance(value, list)
        and isinstance(written, list)
        and path[-1] in ("hidden", "dilations")
    ):
        pytest.skip("without hidden layers it is softmax regression")
    if value == {} and path[-1] in ("roi", "svm"):
        pytest.skip("its keys have defaults")
    if value == [] and path[-1] == "groups":
        pytest.skip("as many as are written when there is none")
    if value == -1 and path[-1] == "layer_scale":
        pytest.skip("any number may stand at the beginning")
    parent_of(config, path)[path[-1]] = value
    if isinstance(value, str) and path[-1] in ("path",):
        pytest.skip("any text is a path")
    lines = complaint(config)
    assert any(line.startswith(dotted(path)) for line in lines), lines


def test_every_type_of_error_that_mistyping_causes_has_words_of_its_own():
    told = {"extra_forbidden", "missing", "union_tag_not_found", "union_tag_invalid"}
    seen, complete = set(), choices.complete(Config)
    for name, path in EVERY_KEY:
        for value in (5, "five", [], {}, "", -1, float("nan"), True):
            config = raw(name)
            parent_of(config, path)[path[-1]] = value
            try:
                complete.model_validate(config)
            except ValidationError as error:
                seen |= {item["type"] for item in error.errors()}
    assert len(seen) > 10
    assert seen - told <= errors.COMPLAINTS.keys()


def test_all_problems_are_reported_at_once():
    config = raw("lenet5-mnist")
    config["training"] |= {"epochs": "six", "batch_size": 0}
    config["optimiser"] = config.pop("optimizer")
    config["data"]["path"] = 3
    lines = complaint(config)
    assert lines == [
        'data.path: should be a valid string; got 3; write "3"',
        "training.batch_size: should be greater than 0; got 0",
        "training.epochs: should be a valid number; got 'six'",
        "optimiser: unknown key; did you mean 'optimizer'?",
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"model": {"name": "lenet"}},
            "model.name: should be one of .*; got 'lenet'; did you mean 'le",
        ),
        (
            {"model": {"layer_scale": 1e-6}},  # which no suggestion of 'layers' should hide
            'model.name: missing; write model.name = one of "lenet5"',
        ),
        ({"model": {}}, 'model.name: missing; write model.name = one of "lenet5"'),
        (
            {"model": {"name": "lenet5", "activation": "rely", "pool": "max"}},
            "model.activation: should",
        ),
        (
            {
                "optimizer": {
                    "name": "sgd",
                    "learning_rate": 0.1,
                    "momentum": 0.9,
                    "nesterov": True,
                    "weight_decay": -1.0,
                }
            },
            "optimizer.weight_decay: sgd: weight_decay is out of range: got -1.0",
        ),
        (
            {"data": {"source": "folder", "path": "x", "channels": True, "validation": 1}},
            "data.channels: should be a valid integer; got True",
        ),
        (  # tables of options within the table of an architecture
            {"model": {"name": "faster_rcnn", "backbone": "small", "rpn": {"nms_tresh": 0.5}}},
            "model.rpn.nms_tresh: unknown key; did you mean 'nms_thresh'",
        ),
        (
            {"model": {"name": "mask_rcnn", "backbone": "small", "roi": {"nms_thresh": 1.5}}},
            r"model.roi.nms_thresh: roi: bad nms_thresh: got 1.5, need a number in \[0, 1\]",
        ),
        (
            {"model": {"name": "mask_rcnn", "backbone": "small", "roi": {"output_size": "7"}}},
            "model.roi.output_size: should be a valid integer; got '7'",
        ),
        (
            {"input": {"size": [8, 8], "fit": "pad", "normalize": {"mean": [123.7], "std": [1.0]}}},
            r"input.normalize.mean.0: should be less than or equal to 1; got 123.7",
        ),
        (
            {"input": {"size": [8, 8], "fit": "pad", "normalize": "image"}},
            r"input.normalize: should be 'standard', 'mean' or 'imagenet'; got 'image'",
        ),
        (
            {"input": {"size": [8, 8], "fit": "pad", "normalize": {"mean": [0.5], "std": []}}},
            r"input.normalize.std: should .* at least 1",
        ),
        ({"model": {"layers": [{"type": "cnv"}]}}, r"model.layers.0.type: .*did you mean 'conv'"),
        (
            {"model": {"layers": [{"type": "conv", "features": 3}]}},
            r"model.layers.0.window: missing; write model.layers.0.window = integer or a list of int",
        ),
        (
            {"model": {"layers": [{"type": "conv", "features": 3, "window": "x"}]}},
            r"model.layers.0.window: should be a valid integer or should be a valid list; got 'x'",
        ),
        (
            {"optimizer": {"name": "sgd", "learning_rate": 0.1, "nesterov": True}},
            "optimizer.momentum: missing; write optimizer.momentum = 0.0, say",
        ),
        (
            {
                "schedule": {
                    "name": "onecycle",
                    "warmup": 1.5,
                    "div_factor": 25.0,
                    "final_div_factor": 1e4,
                }
            },
            "schedule.warmup: onecycle: .*1.5",
        ),
        ({"model": {"layers": []}}, "model.layers: "),
        (
            {"optimizer": {"name": "adan", "learning_rate": 1.0}},
            "optimizer.name: .*did you mean 'adam'",
        ),
        (
            {"optimizer": {"name": "sgd", "learning_rate": 0.0}},
            "optimizer.learning_rate: should be gr",
        ),
        (
            {"optimizer": {"name": "sgd", "learning_rate": 0.1, "b1": 0.9}},
            "optimizer.b1: unknown key; known here: name, .*learning_rate",
        ),
        (
            {"training": {"batch_size": 3}},
            r"training: needs epochs, steps or length \(of several, the shortest counts\)",
        ),
        (
            {"training": {"batch_size": 3, "epochs": 1, "evaluate_every": "often"}},
            "training.evaluate_every: should be a duration such as .*; got 'often'",
        ),
        (
            {"training": {"batch_size": 3, "epochs": 1, "evaluate_every": "0%"}},
            "training.evaluate_every: should be a duration",
        ),
        (
            {"task": "segmentation"},
            'data: \'digits\' is data with classes: need task = "classification" or "embedding"; got',
        ),
        (
            {"task": "embedding"},
            'loss: \'softmax_cross_entropy\' is no loss for task = "embedding"; need one of "arcface"',
        ),
        (
            {"early_stopping": {"metric": "mean_iou"}},
            "early_stopping: early_stopping.metric is 'mean_iou', which is not a metric of task = \"classif",
        ),
        (
            {"task": "segment"},
            "task: should be 'classification', .*'detection' or 'instance_segmentation'; got 'segment'",
        ),
        ({"augment": {"flip": "sometimes"}}, "augment.flip: should be a valid boolean or "),
        (
            {"augment": {"crop": {"scale": [0.5, 1.5], "ratio": [1.0, 1.0]}}},
            "augment.crop.scale: should be fractions of the image's area, at most 1.0; got",
        ),
        (
            {"augment": {"crop": {"scale": [0.5, 1.0], "ratio": [2.0, 1.0]}}},
            "augment.crop.ratio: should be the two ends of a range above 0, the lower one first; g",
        ),
        (
            {"augment": {"crop": {"scale": [0.5, 1.0]}}},
            r"augment.crop.ratio: missing; write .*0.75",
        ),
        (
            {"augment": {"mixup": {}}},
            "augment.mixup.alpha: missing; write augment.mixup.alpha = 0.2",
        ),
        (
            {"ema": {"decay": 0.99999999}},
            "ema.decay: in float32, in which training computes: should be less than 1; got 1.0$",
        ),
        (
            {"optimizer": ADAM | {"b2": 0.99999999}},
            "optimizer.b2: in float32, .*: adam: b2 is out of range: got 1.0, need",
        ),
        (
            {"data": {"source": "digits", "validation": 0.99999999, "test": 0}},
            "data.validation: in float32, .*: should be a valid integer or .* less than 1; g",
        ),
        (
            {"augment": {"affine": AFFINE | {"shear": [89.9999999999, 0.0]}}},
            "augment.affine.shear.0: in float32, .*: should be less than 90; got 90.0",
        ),
        (
            {"model": {"layers": [{"type": "dropout", "rate": 0.99999999}]}},
            "model.layers.0.rate: in float32, .*: dropout: bad rate: got 1.0",
        ),
        ({"augment": {"mixupp": {}}}, "augment.mixupp: unknown key; did you mean 'mixup'?"),
        (
            {"augment": {"padding_mode": "reflect"}},
            "augment.padding_mode: padding_mode has no effect",
        ),
        (
            {"augment": {"policy": {"num_ops": 2, "magnitude": 31}}},
            "augment.policy.magnitude: should be less than or equal to 30 or .*'random'; got 31",
        ),
        (
            {"augment": {"policy": {"num_ops": 2, "magnitude": 3, "operations": ["rotat"]}}},
            "augment.policy.operations.0: should be 'identity', .* or 'equalize'; got 'rotat'",
        ),
        ({"augment": {"cutout": {"size": 0}}}, "augment.cutout.size: should be greater than 0"),
        (
            {"augment": {"affine": {"degrees": 200.0}}},
            "augment.affine.degrees: should be less than",
        ),
        (
            SEGMENTATION | {"data": SEGMENTATION["data"] | {"colors": [[0, 0, 0]]}},
            "data.colors: colors has 1 and classes 2: write one color for each class",
        ),
        (
            SEGMENTATION | {"data": SEGMENTATION["data"] | {"colors": [[1, 2, 3], [1, 2, 3]]}},
            r"data.colors: colors has \[1, 2, 3\] twice; write another color",
        ),
        (
            SEGMENTATION | {"data": SEGMENTATION["data"] | {"colors": [[1, 2], [1, 2, 256]]}},
            "data.colors.0: should .*at least 3",
        ),
        (
            SEGMENTATION | {"data": SEGMENTATION["data"] | {"ignored_colors": [[1, 2, 3]]}},
            "data.ignored_colors: ignored_colors needs colors, one for each class; write them too",
        ),
        (
            SEGMENTATION
            | {
                "data": SEGMENTATION["data"] | {"colors": 2 * [[1, 2, 3]], "mask_kind": "instances"}
            },
            'data.colors: colors tell classes and no objects apart; need mask_kind = "classes"',
        ),
        (
            SEGMENTATION | {"augment": {"mixup": {"alpha": 0.2}}},
            "augment: augment.mixup would make pi",
        ),
        (
            EMBEDDING | {"augment": {"mixup": {"alpha": 0.2}}},
            "augment: augment.mixup would make im",
        ),
        (
            EMBEDDING | {"augment": {"cutmix": {"alpha": 1.0, "probability": 0.5}}},
            'augment: augment.cutmix would make images of two classes, .*; got task = "embedding"',
        ),
        (
            {"early_stopping": {"target": 99.0}},
            r"early_stopping.target: target accuracy should lie in \[0, 1\]",
        ),
        (
            {"early_stopping": {"patience": 0}},
            "early_stopping.patience: should be greater than 0; got 0",
        ),
        (
            {"data": {"source": "digits", "validation": 1.5, "test": 0}},
            "data.validation: should be",
        ),
        ({"input": {"size": [32], "fit": "pad"}}, "input.size: "),
        ({"schedule": "constant"}, "schedule: should be a table; got 'constant'"),
        ({"seed": 1.5}, "seed: should be a valid integer"),
        ({"init_from": "x"}, "init_from: should be a table; got 'x'"),
        (
            {"init_from": {}},
            'init_from: needs path, of a run or a file of weights, or pretrained, e.g. "resnet18"',
        ),
        ({"init_from": {"paht": "x"}}, "init_from.paht: unknown key; did you mean 'path'?"),
        (
            {"init_from": {"path": "x", "checkpoint": "first"}},
            "init_from.checkpoint: should be 'best' or 'last'; got 'first'",
        ),
    ],
)
def test_config_error_names_key_complaint_and_remedy(change, expected):
    lines = complaint(raw("lenet5-digits") | change)
    assert re.match(expected, lines[0]), lines


def test_overrides_go_through_the_same_validation():
    config = load_config(
        "lenet5-mnist", ["training.epochs=2", "model.activation=tanh", 'optimizer.name = "adam"']
    )
    assert (config.training.epochs, config.model.activation) == (2, "tanh")
    assert config.optimizer.name == "adam"
    with pytest.raises(ConfigError, match=r"training.epoch: unknown key; did you mean 'epochs'"):
        load_config("lenet5-mnist", ["training.epoch=2"])


def test_a_config_reaches_the_options_of_the_operations():
    layers = """[{type="conv", features=4, window=3, padding="FULL", kernel_init="ones"},
        {type="gelu", approximate=true}, {type="lp_pool", window=2, p="inf", padding="FULL"},
        {type="global_avg_pool", keepdims=true}, {type="flatten"}, {type="dense", features=3}]"""
    config = load_config("lenet5-digits", [f"model={{layers={layers}}}"])
    net = model.build(config.model.model_dump(exclude_none=True), 3)
    rows = {row.path: row.out_shape for row in model.summarize(net, (8, 8, 1)).rows}
    assert rows["conv1"] == (10, 10, 4) and rows["lp_pool1"] == (6, 6, 4)
    assert rows["global_avg_pool1"] == (1, 1, 4)


@pytest.mark.parametrize("name", ["2024", "1e3", "2024-01-01", "10:30:00", "true", "inf"])
def test_an_override_is_text_where_nothing_else_would_do(name):
    """A shell takes the quotes from around a name that looks like a number."""
    assert load_config("lenet5-mnist", [f"data.path={name}"]).data.path == name
    with pytest.raises(ConfigError, match=r"seed: should be a valid integer"):
        load_config("lenet5-mnist", ["seed=1e3", f"data.path={name}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.path=[2024]", r"data\.path: should be a valid string; got \[2024\]$"),
        (
            "init_from={path=2024}",
            r'init_from\.path: should be a valid string; got 2024; write "2024"$',
        ),
        ("seed='3'", r"seed: should be a valid integer; got '3'; write 3 without quotes$"),
        (
            "optimizer.eps='1e-8'",
            r"should be a valid number; got '1e-8'; write 1e-8 without quotes",
        ),
        ("training.evaluate_every=2", r"should be a duration such as .*; got '2'$"),
        (
            f"training.length={'9' * 400} steps",
            r"should be a duration of at most 1e\+15 of a unit; got",
        ),
    ],
)
def test_numbers_and_text_are_told_apart(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config("lenet5-mnist", [override])


def test_an_override_makes_a_table_that_was_not_there_and_reaches_into_lists(tmp_path):
    assert load_config("lenet5-digits", ["early_stopping.patience=3"]).early_stopping.patience == 3
    file = tmp_path / "own.toml"
    config = raw("lenet5-digits") | {"model": {"layers": [{"type": "dense", "features": 3}]}}
    file.write_text(to_toml(validate(config, "")))
    changed = load_config(file, ["model.layers.0.features=7"])
    assert changed.model.layers[0].features == 7


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", r"--set epochs: write --set key=value"),
        ("=3", r"--set =3: write --set key=value"),
        ("seed.x=3", r"--set seed.x=3: 'seed' is a value, not a table"),
        ("input.size.5=3", r"--set input.size.5=3: '5' is not an index below 2"),
        ("input.size.\u00b2=3", r"'\u00b2' is not an index below 2"),
    ],
)
def test_override_that_is_wrong_is_rejected(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config("lenet5-digits", [override])


def test_source_that_cannot_be_read_is_rejected(tmp_path):
    with pytest.raises(ConfigError, match=r"lenet5-mnst: no such .*did you mean 'lenet5-mnist'"):
        load_config("lenet5-mnst")
    with pytest.raises(ConfigError, match=r"cannot be read as a config: Is a directory"):
        load_config(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary.toml: .* not a UTF-8 text file"):
        load_config(binary)
    broken = tmp_path / "broken.toml"
    broken.write_text("seed = \n")
    with pytest.raises(ConfigError, match=r"broken.toml: not valid TOML: .*line 1"):
        load_config(broken)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_resolved_config_is_a_config(name, tmp_path):
    config = load_config(name)
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config))
    assert load_config(file) == config


def test_json_schema_names_every_table_and_choice():
    schema = json.dumps(json_schema())
    for word in ("lenet5", "max_pool", "adamw", "onecycle", "patience", "digits", "learning_rate"):
        assert f'"{word}"' in schema


def test_validation_leaves_its_input_alone():
    config = raw("lenet5-digits")
    before = copy.deepcopy(config)
    validate(config, "")
    assert config == before


def test_read_source_prefers_nothing_over_a_shipped_name():
    assert read_source("lenet5-digits") == ("lenet5-digits", shipped_configs()["lenet5-digits"])

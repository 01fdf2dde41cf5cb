"""The tables of data with boxes, and what of them a config may not combine."""

import tomllib

import pytest

from convax.training.config import schema
from convax.training.config.files import shipped_configs
from convax.training.config.schema import ConfigError, Input, load_config
from convax.training.config.sources import MadeScenes, Masks

MASKS = {
    **{"source": "masks", "path": "x", "images": "i", "masks": "m", "size": [8, 8], "channels": 3},
    **{"validation": 0, "test": 0},
}


@pytest.mark.parametrize(
    ("labels", "kind", "classes", "match"),
    [
        ("boxes", "classes", ["a"], r'mask_kind = "classes" tells no objects apart'),
        ("instances", "instances", ["background", "a"], r"classes: the background is no object"),
        ("mask", "classes", ["a"], r"classes: need two or more, the background first"),
        ("boxes", "instances", ["a"], None),
        ("mask", "instances", ["background", "a"], None),
    ],
)
def test_masks_have_a_background_where_they_are_no_objects(labels, kind, classes, match):
    table = Masks.model_validate(MASKS | {"mask_kind": kind, "classes": classes})
    why = table.unfit_for(labels)
    assert why is None if match is None else match.strip() in (why or "")


def test_a_segmentation_of_one_class_is_refused():
    with pytest.raises(ConfigError, match=r"data.classes: need two or more.*\"segmentation\""):
        load_config("unet-pennfudan", ['data.classes=["pedestrian"]'])


@pytest.mark.parametrize(
    ("size", "fit", "match"),
    [
        ([8, 8], "pad", r'input.fit = "pad" has no effect on boxes'),
        ([8, 9], "letterbox", r"input.size = \[8, 9\] and data.size = \[8, 8\]: boxes are in"),
    ],
)
def test_boxes_are_in_pixels_of_what_the_network_sees(size, fit, match):
    data = Masks.model_validate(MASKS | {"mask_kind": "instances", "classes": ["a"]})
    with pytest.raises(ValueError, match=match):
        schema._check_canvas(data, Input(size=size, fit=fit))
    schema._check_canvas(data, Input(size=[8, 8], fit="letterbox"))


TABLES = {
    "coco": {"annotations": "a.json", "size": [8, 8], "channels": 3, "validation": 0},
    "voc": {"size": [8, 8], "channels": 3, "validation": 0.1, "clip": True},
    "yolo": {"size": [8, 8], "channels": 1, "validation": 0, "objects": 4, "crowded": "largest"},
    "scenes": {"size": [64, 64], "objects": 4, "train": 9, "validation": 2, "test": 1},
}


@pytest.mark.parametrize("source", TABLES)
def test_sources_of_boxes_are_for_tasks_of_boxes(source):
    table = ", ".join(
        f"{k} = {str(v).lower() if v is True else repr(v)}" for k, v in TABLES[source].items()
    )
    with pytest.raises(ConfigError, match=rf"data: '{source}' is data with boxes: need task = "):
        load_config("lenet5-digits", [f'data={{source="{source}", path="x", {table}}}'])


def test_a_scale_of_scenes_has_two_ends():
    with pytest.raises(ValueError, match=r"two ends of a range above 0"):
        MadeScenes.model_validate(
            {"source": "scenes", "path": "x", "scale": [2.0, 1.0], **TABLES["scenes"]}
        )


@pytest.mark.parametrize("source", TABLES)
@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [("size", "8", "should be a valid list"), ("siez", 8, "unknown key; did you mean 'size'")],
)
def test_an_error_names_the_key_of_a_source_of_boxes(source, key, value, complaint):
    raw = tomllib.loads(shipped_configs()["fasterrcnn-scenes"])
    raw["data"] = {"source": source, "path": "x"} | TABLES[source] | {key: value}
    with pytest.raises(ConfigError, match=rf"my.toml: data.{key}: {complaint}"):
        schema.validate(raw, "my.toml")

"""From a folder to a config that trains, for each layout; what is chosen; and every refusal."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convax
from convax.training.config.schema import load_config
from convax.training.data import DataError
from convax.training.experiment import prepare, resolve_data_path
from convax.training.scaffold.draft import draft_config
from tests.training.data.detection.box_files import (
    coco_content,
    write_coco,
    write_images,
    write_voc,
    write_yolo,
)
from tests.training.scaffold.folders import (
    AGES,
    BOAT,
    LAYOUTS,
    SEA,
    save,
    write_classes,
    write_masks,
    write_table,
)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """``written(layout) -> (Draft, file)``: the config of a folder in another one, relative to it."""

    def write(name):
        LAYOUTS[name].write(tmp_path / "data")
        (tmp_path / "configs").mkdir()
        monkeypatch.chdir(tmp_path)
        draft = draft_config(Path("data"), Path("configs/new.toml"))
        monkeypatch.chdir("/")
        file = tmp_path / "configs" / "new.toml"
        file.write_text(draft.text)
        return draft, file

    return write


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_config_of_a_layout_is_ready_to_train(name, written):
    draft, file = written(name)
    config = load_config(file)
    layout = LAYOUTS[name]
    assert (config.task, draft.task, config.data.source) == (
        layout.task,
        layout.task,
        layout.source,
    )
    assert config.data.path.startswith("../data")
    experiment = prepare(resolve_data_path(config, file.parent))
    assert experiment.dataset.train.count
    assert experiment.dataset.validation.count + draft.found.counts["validation"]


# How class folders train docs/tutorial.md shows, and tests/test_first_hour.py.
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "masks" else pytest.mark.slow) for n in LAYOUTS]
)
def test_the_config_of_a_layout_trains(name, written, tmp_path):
    _, file = written(name)
    tiny = (*LAYOUTS[name].tiny, "training.steps=1", "training.batch_size=2")
    run = convax.train(load_config(file, tiny), tmp_path / "run", config_dir=file.parent)
    assert run.info()["result"]["test"]["count"] >= 1


# --------------------------------------------------------------------------------- what is chosen


def drafted(root, task=None):
    """The draft for a folder, and its config as it is read."""
    draft = draft_config(root, root.parent / "new.toml", task)
    return draft, tomllib.loads(draft.text)


def test_each_choice_stands_in_the_config_with_its_reason(tmp_path):
    draft, raw = drafted(write_classes(tmp_path / "photos"))
    assert raw["training"]["batch_size"] == draft.choices["training.batch_size"].value == 8
    line = next(line for line in draft.text.splitlines() if line.startswith("batch_size"))
    assert line.partition("# ")[2] == draft.choices["training.batch_size"].why
    assert draft.text.startswith("# photos: images in class folders.\n#\n# images: 16\n")
    assert raw["optimizer"]["eps"] == 1e-8 and raw["schedule"]["div_factor"] == 25.0  # usual values


def test_parts_of_the_data_are_used_and_missing_ones_are_held_out(tmp_path):
    _, raw = drafted(write_classes(tmp_path / "a"))
    assert (raw["data"]["validation"], raw["data"]["test"]) == (0.2, 0.2)
    for part in ("train", "valid", "test"):
        write_classes(tmp_path / "b" / part)
    _, raw = drafted(tmp_path / "b")
    assert raw["data"]["validation"] == 0 and "test" not in raw["data"]
    _, raw = drafted(write_classes(tmp_path / "c", counts=(100, 100)))
    assert (raw["data"]["validation"], raw["data"]["test"]) == (0.1, 0.2)


@pytest.mark.parametrize(
    ("names", "flip"),
    [
        (("cat", "dog"), True),
        (("0", "1"), False),
        (("left", "right"), False),
        (("six", "nine"), False),
    ],
)
def test_signs_are_not_mirrored(names, flip, tmp_path):
    _, raw = drafted(write_classes(tmp_path / "data", names=names, counts=(2, 2)))
    assert raw["augment"]["flip"] is flip


def test_networks_and_sizes_follow_the_images(tmp_path):
    _, small = drafted(write_classes(tmp_path / "small", counts=(2, 2), size=(28, 28), gray=True))
    assert (small["model"]["name"], small["input"]["size"]) == ("resnet_cifar", [28, 28])
    assert small["data"]["channels"] == 1 and "size" not in small["data"]
    _, large = drafted(write_classes(tmp_path / "large", counts=(2, 2), size=(90, 160)))
    assert (large["model"]["name"], large["model"]["width"]) == ("resnet", 16)
    assert large["data"]["size"] == large["input"]["size"] == [128, 128]
    assert (large["input"]["fit"], large["data"]["channels"]) == ("letterbox", 3)


def test_imbalanced_classes_are_judged_by_the_mean_of_their_recalls(tmp_path):
    draft, raw = drafted(write_classes(tmp_path / "data", counts=(9, 3)))
    assert raw["early_stopping"] == {"metric": "balanced_accuracy"}
    assert "9 to 3 images" in draft.choices["early_stopping.metric"].why
    assert "sampling" not in raw["training"]
    _, raw = drafted(write_classes(tmp_path / "rare", counts=(30, 3)))
    assert raw["training"]["sampling"] == "balanced"
    _, raw = drafted(write_classes(tmp_path / "even", counts=(3, 2)))
    assert "early_stopping" not in raw


def test_rare_classes_of_several_count_more(tmp_path):
    rare = [1] + [0] * 11
    _, raw = drafted(write_table(tmp_path / "data", rare=rare, often=[1, 0] * 6))
    assert raw["loss"]["pos_weight"] == [10.0, 1.0]
    _, raw = drafted(write_table(tmp_path / "even", sea=SEA, boat=BOAT))
    assert "pos_weight" not in raw["loss"]


def test_a_table_is_read_without_its_numbers_of_lines_and_texts(tmp_path):
    draft, raw = drafted(write_table(tmp_path / "data", age=AGES))
    assert (raw["data"]["columns"], raw["data"]["file_column"]) == (["age"], "photo")
    assert draft.remarks == ("columns that are no numbers are left out: taken by",)
    draft, _ = drafted(write_table(tmp_path / "numbered", label=[3, 5, 3, 4]))
    assert draft.remarks[1].startswith("if the numbers in 'label' are those of classes")
    assert raw["augment"]["flip"] is False
    _, raw = drafted(tmp_path / "data" / "labels.csv")
    assert raw["data"]["path"] == str(tmp_path / "data" / "labels.csv")


def test_a_table_of_values_and_classes_needs_a_task(tmp_path):
    write_table(tmp_path / "data", age=AGES, sea=SEA)
    with pytest.raises(DataError, match="write --task regression or --task multilabel"):
        drafted(tmp_path / "data")
    _, raw = drafted(tmp_path / "data", "multilabel")
    assert raw["data"]["columns"] == ["sea"]


@pytest.mark.parametrize(
    ("numbers", "kind", "classes"),
    [
        ((0, 1), "classes", ["background", "object"]),
        ((0, 255), "instances", ["background", "object"]),
        ((0, 2, 1, 255), "classes", ["background", "class 1", "class 2"]),
        (lambda i: range(i + 1), "instances", ["background", "object"]),
        (lambda i: [0, i % 3 + 1], "classes", ["background", "class 1", "class 2", "class 3"]),
    ],
)
def test_what_the_numbers_in_masks_are(numbers, kind, classes, tmp_path):
    _, raw = drafted(write_masks(tmp_path / "data", numbers, count=4))
    assert (raw["data"]["mask_kind"], raw["data"]["classes"]) == (kind, classes)


def test_masks_that_count_objects_do_for_boxes_too(tmp_path):
    write_masks(tmp_path / "data", lambda i: range(i + 1), count=4)
    draft, raw = drafted(tmp_path / "data", "instance_segmentation")
    assert raw["model"]["name"] == "mask_rcnn" and raw["data"]["classes"] == ["object"]
    assert draft.remarks == ("1 image without objects",)
    assert "taken for objects" in drafted(tmp_path / "data")[0].remarks[0]


def test_folders_of_masks_are_known_by_what_is_in_them(tmp_path):
    _, raw = drafted(write_masks(tmp_path / "a", folders=("Photos", "Painted"), count=3))
    assert (raw["data"]["images"], raw["data"]["masks"]) == ("Photos", "Painted")
    write_masks(tmp_path / "b" / "train", folders=("scans", "gt"), count=3)
    for file in (tmp_path / "b" / "train" / "scans").iterdir():
        save(file, (24, 24), gray=True)
    _, raw = drafted(tmp_path / "b")
    assert (raw["data"]["images"], raw["data"]["masks"]) == ("train/scans", "train/gt")
    assert raw["data"]["channels"] == 1


def test_class_folders_of_gray_images_are_no_masks(tmp_path):
    _, raw = drafted(write_classes(tmp_path / "data", names=("3", "8"), gray=True, counts=(3, 3)))
    assert raw["task"] == "classification"


def test_the_files_of_coco_s_splits_are_told_apart_by_their_names(tmp_path):
    import json

    for part in ("train", "valid"):
        write_images(tmp_path / "data" / part)
        content = coco_content()
        for image in content["images"]:
            image["file_name"] = f"{part}/{image['file_name']}"
        (tmp_path / "data" / part / "_annotations.coco.json").write_text(json.dumps(content))
    (tmp_path / "data" / "package.json").write_text("{}")
    draft, raw = drafted(tmp_path / "data")
    assert raw["data"]["annotations"] == "train/_annotations.coco.json"
    assert raw["data"]["validation_annotations"] == "valid/_annotations.coco.json"
    assert (raw["data"]["validation"], draft.found.counts["validation"]) == (0, 3)
    (tmp_path / "data" / "instances_train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="two annotation files of the train images"):
        drafted(tmp_path / "data")


def test_anchors_are_of_the_sides_of_the_objects(tmp_path):
    draft, raw = drafted(write_yolo(tmp_path / "data"))
    (H, W), rpn = raw["input"]["size"], raw["model"]["rpn"]
    assert raw["data"]["size"] == [H, W] and H % 32 == W % 32 == 0
    sides = [side for sizes in rpn["anchor_sizes"] for side in sizes]
    assert sides == sorted(sides) and sides[0] >= 4 and sides[-1] <= max(H, W)
    objects = draft.found.objects
    assert len(objects.sides) == 3 and objects.most == 2
    # Of image a the first box is 17 of 24 pixels high and 10 of 32 wide.
    np.testing.assert_allclose(objects.sides[0], [17 / 24, 10 / 32], rtol=1e-6)


# -------------------------------------------------------------------------------- what is refused


def two_sources(root):
    write_coco(root)
    write_voc(root)


def beside_a_table(root):
    write_classes(root, counts=(2, 2))
    write_table(root, age=AGES)


def unnumbered(root):
    write_masks(root, count=3)
    for file in (root / "masks").iterdir():
        Image.fromarray(np.resize(np.array([0, 900, 2000], np.uint16), (24, 24))).save(file)


def words(root):
    save(root / "a.png")
    (root / "labels.csv").write_text("file,label\na.png,cat\n")


def nothing_there(root):
    write_yolo(root, {"a": [], "b": [(0, (5, 10, 5.5, 10.5), False)], "c": []})


def alone(root):
    save(root / "cat" / "1.png")


def together(root):
    save(root / "1.png")


REFUSED = [
    (lambda root: None, "no such folder; need a folder of images, or a .csv file"),
    (lambda root: root.mkdir(), "not recognized (no images in it); need one folder of images a"),
    (alone, "not recognized (one folder of images, cat/)"),
    (together, "an image outside the class folders"),
    (words, "labels.csv has no numbers beside the images in 'file'"),
    (unnumbered, "the masks have the numbers 0, 900, 2000: need 0 for the background and 1, 2"),
    (nothing_there, "no objects in any image; annotate some"),
    (two_sources, "COCO's boxes (train.json) and Pascal VOC's boxes: leave one of them"),
    (beside_a_table, "write --task regression or --task classification"),
]


@pytest.mark.parametrize(("write", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_not_recognized_is_refused_in_a_line(write, message, tmp_path):
    root = tmp_path / "data"
    write(root)
    with pytest.raises(DataError) as refused:
        drafted(root)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_task_that_the_data_has_no_labels_for(tmp_path):
    write_voc(tmp_path / "data")
    with pytest.raises(DataError, match="need --task \"detection\"; got 'regression'"):
        drafted(tmp_path / "data", "regression")
    write_classes(tmp_path / "photos", counts=(2, 2))
    with pytest.raises(DataError, match="no config is written for --task embedding"):
        drafted(tmp_path / "photos", "embedding")


def test_published_weights_are_for_images_as_a_whole(tmp_path):
    write_masks(tmp_path / "data")
    with pytest.raises(
        DataError, match=r"^--pretrained: for images as a whole, got .* segmentation"
    ):
        draft_config(tmp_path / "data", tmp_path / "new.toml", pretrained="resnet18")


def test_an_archive_has_to_be_unpacked(tmp_path):
    (tmp_path / "photos.zip").write_bytes(b"")
    with pytest.raises(DataError, match="a file; unpack it"):
        drafted(tmp_path / "photos.zip")


def test_a_folder_around_the_data_is_looked_into(tmp_path):
    write_classes(tmp_path / "data" / "photos-2024", counts=(2, 2))
    _, raw = drafted(tmp_path / "data")
    assert raw["data"]["path"] == str(tmp_path / "data" / "photos-2024")


@pytest.mark.parametrize("write", [write_classes, write_masks, write_yolo])
def test_files_that_cannot_be_read_are_left_out(write, tmp_path):
    write(tmp_path / "data")
    images = [f for f in (tmp_path / "data").rglob("*.png") if "masks" not in f.parts]
    file = max(images)
    file.write_bytes(b"no image")
    draft, raw = drafted(tmp_path / "data")
    assert raw["data"]["unreadable"] == "skip"
    name = str(file.relative_to(tmp_path / "data"))
    assert [each.file for each in draft.found.unreadable] == [name]
    assert any(line == "unreadable files, left out: 1" for line in draft.found.lines())
    for file in (tmp_path / "data").rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"can be read|not recognized"):
        drafted(tmp_path / "data")


def test_a_path_that_a_config_cannot_hold(tmp_path):
    write_classes(tmp_path / "caf\udce9", counts=(2, 2))
    with pytest.raises(DataError, match="not UTF-8, which a config cannot hold"):
        drafted(tmp_path / "caf\udce9")
    write_masks(tmp_path / "data", folders=("caf\udce9", "masks"))
    with pytest.raises(DataError, match="not UTF-8, which a config cannot hold"):
        drafted(tmp_path / "data")


def test_odd_names_are_written_as_toml_has_them(tmp_path):
    root = tmp_path / 'a "b" \\c'
    write_masks(root, folders=('im"a\nges', "masks"), count=3)
    _, raw = drafted(root)
    assert (raw["data"]["path"], raw["data"]["images"]) == (str(root), 'im"a\nges')
    write_classes(tmp_path / "bells", names=("ding\a", "dong\x1b[31m"))
    assert r"ding\x07 8, dong\x1b[31m 8" in drafted(tmp_path / "bells")[0].text

"""docs/detection.md: its data, configs, commands, code and error messages, on fewer images."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convax.training.config.schema import load_config
from convax.training.config_data import load_data
from tests.tiny import untrained
from tests.training.data.detection.box_files import xml_of

TEXT = (Path(__file__).parents[1] / "docs" / "detection.md").read_text()
PYTHON, TOML, ERRORS = (
    re.findall(rf"```{kind}\n(.*?)```", TEXT, flags=re.DOTALL)
    for kind in ("python", "toml", "text")
)
COMMANDS = [shlex.split(line, comments=True) for line in re.findall(r"\n    (convax .*)", TEXT)]
SMALLER = """
    data.size=[24,32] input.size=[24,32] model.width=8 model.hidden=8 model.rpn.anchor_sizes=[[6.0,10.0]]
    model.rpn.pre_nms_top_n_train=20 model.rpn.pre_nms_top_n_test=20 model.rpn.post_nms_top_n_train=8
    model.rpn.post_nms_top_n_test=8 model.roi.batch_size_per_image=8 model.roi.score_thresh=0.0
    training.batch_size=4
"""


def set_smaller():
    return [word for key in SMALLER.split() for word in ("--set", key)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the tutorial, with fewer images and a network that has yet to learn.

    How a detector is trained is tested elsewhere, and takes longer than all of this.
    """
    folder = tmp_path_factory.mktemp("tutorial")
    script = PYTHON[0].replace("1, 400)", "1, 10)").replace("1001, 100)", "1001, 6)")
    config = next(block for block in TOML if block.startswith("task ="))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(script, {})
        (folder / "boxes.toml").write_text(config)
        untrained(load_config(folder / "boxes.toml", SMALLER.split()), folder / "runs" / "boxes")
    return folder


@pytest.mark.slow
def test_the_commands_run_as_they_stand(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    done = []
    for _, name, *arguments in COMMANDS:
        if name in ("train", "serve") or "--onnx" in arguments:  # tested elsewhere
            continue
        file = None
        if ">" in arguments:
            *arguments, _, file = arguments
        smaller = set_smaller() if name == "preview-augment" else []
        code, said, problem = command(name, *arguments, *smaller)
        assert (code, problem) == (0, ""), problem
        if file is not None:
            Path(file).write_text(said)
        done.append(name)
    assert {"preview-augment", "evaluate", "report", "predict"} <= set(done)
    assert {c[1] for c in COMMANDS} - set(done) == {"train", "serve"}
    assert Path("boxes-bundle/load.py").exists()
    with Image.open("boxes-augmented.png") as image:
        assert min(image.size) > 300
    page = Path("runs/boxes/report.html").read_text()
    assert all(words in page for words in ("background", "Worst images", "AR small"))
    assert len(list(Path("found").glob("00100?_predicted.png"))) == 6
    heads, *rows = Path("found.csv").read_text().splitlines()
    assert heads == "file,class,score,x1,y1,x2,y2"
    assert len(rows) == len(json.loads(Path("results.json").read_text())) > 20


def test_coco_s_program_finds_the_same_figures_in_the_results(folder, command, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    asked = ("predict", "runs/boxes", "shapes/test", "--out", "found", "--coco", "results.json")
    assert command(*asked)[0] == 0
    results = json.loads(Path("results.json").read_text())
    assert {r["category_id"] for r in results} == {3, 7}
    assert {r["image_id"] for r in results} == set(range(1001, 1007))
    names: dict = {}
    exec(next(block for block in PYTHON if "loadRes" in block), names)
    capsys.readouterr()
    ours = json.loads(command("evaluate", "runs/boxes", "--json")[1])
    ap, ap50, ap75 = names["evaluation"].stats[:3]
    assert 0 < ap < ap50
    assert [ours[name] for name in ("ap", "ap50", "ap75")] == pytest.approx([ap, ap50, ap75])
    assert ours["ar_100"] == pytest.approx(names["evaluation"].stats[8])


def test_what_cannot_be_written_into_results(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    code, _, said = command("predict", "runs/boxes", "shapes/test", "--coco", "no/results.json")
    assert code == 2 and "--coco: got no/results.json, but there is no folder no; make it" in said
    Path("twice").mkdir()
    for name in ("1001.png", "01001.png"):
        (Path("twice") / name).write_bytes(Path("shapes/test/001001.png").read_bytes())
    code, _, said = command("predict", "runs/boxes", "twice", "--out", "twice", "--coco", "r.json")
    assert code == 2 and said.startswith(
        "error: twice/1001.png: left out of r.json: its id there would be 1001, as that of "
        "twice/01001.png; give it another name"
    )
    assert len({json.dumps(r) for r in json.loads(Path("r.json").read_text())}) > 3


def test_the_lines_of_python_say_what_stands_beside_them(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(next(block for block in PYTHON if "convax.load" in block), names)
    found, one, predict = (names[name] for name in ("found", "one", "predict"))
    assert found.boxes.shape == (2, 20, 4) and found.scores.shape == found.classes.shape == (2, 20)
    # The canvas is 24x32, the files are 96x128 and 300x200.
    assert found.boxes[0, :, 2].max() > 64 and found.boxes[1, :, 3].max() > 150
    assert (found.boxes[0] <= [128, 96, 128, 96]).all()
    assert (found.boxes[1] <= [200, 300, 200, 300]).all()
    assert len(one.boxes) == len(names["names"]) and set(names["names"]) <= {"square", "disc"}
    assert (names["sure"].scores >= 0.5).all()
    (_, streamed) = next(predict.stream(["shapes/test/001001.png"]))
    np.testing.assert_allclose(streamed.boxes, found.boxes[0], atol=1e-3)

    canvas = np.zeros((3, 24, 32, 3), np.uint8)
    seen = predict(canvas, threshold=0.4)
    assert seen.boxes.shape == (3, 20, 4) and (seen.boxes <= 32).all()
    assert ((seen.scores >= 0.4) | (seen.classes == -1)).all()
    inside = predict.function(predict.params, predict.state, canvas[:1])
    np.testing.assert_allclose(inside.boxes, predict(canvas).boxes[:1], atol=1e-3)
    with pytest.raises(ValueError, match="threshold: got 2, need 0 to 1"):
        predict(canvas, threshold=2)
    with pytest.raises(ValueError, match=r"of: got classes \(20,\), need \(N, D\)"):
        predict(canvas[0]).of(0)


# ------------------------------------------------------------------------------------ the data


def objects_of(content):
    """The name of each image, and its objects as `box_files` has them."""
    stems = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
    found = {stem: [] for stem in stems.values()}
    for entry in content["annotations"]:
        (x, y, w, h), k = entry["bbox"], entry["category_id"] == 7
        found[stems[entry["image_id"]]].append((int(k), (x, y, x + w, y + h), False))
    return found


def write_others(folder):
    """The data of the tutorial in the two other formats."""
    (folder / "voc" / "ImageSets" / "Main").mkdir(parents=True)
    for part in ("JPEGImages", "Annotations"):
        (folder / "voc" / part).mkdir()
    (folder / "yolo").mkdir()
    (folder / "yolo" / "data.yaml").write_text("names: [square, disc]\n")
    for split in ("train", "test"):
        objects = objects_of(json.loads((folder / "shapes" / f"{split}.json").read_text()))
        sizes = dict.fromkeys(objects, (96, 128))
        (folder / "voc" / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(objects))
        for part in ("images", "labels"):
            (folder / "yolo" / split / part).mkdir(parents=True)
        for stem, its in objects.items():
            image = (folder / "shapes" / split / f"{stem}.png").read_bytes()
            (folder / "voc" / "JPEGImages" / f"{stem}.png").write_bytes(image)
            (folder / "yolo" / split / "images" / f"{stem}.png").write_bytes(image)
            text = (
                xml_of(stem, objects, sizes).replace(">cat<", ">square<").replace(">dog<", ">disc<")
            )
            (folder / "voc" / "Annotations" / f"{stem}.xml").write_text(text)
            lines = (
                f"{k} {(x1 + x2) / 256} {(y1 + y2) / 192} {(x2 - x1) / 128} {(y2 - y1) / 96}"
                for k, (x1, y1, x2, y2), _ in its
            )
            (folder / "yolo" / split / "labels" / f"{stem}.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def formats(folder):
    """The folder, with a config for each format: COCO's, `voc.toml` and `yolo.toml`."""
    write_others(folder)
    config = (folder / "boxes.toml").read_text()
    for source in ("voc", "yolo"):
        table = next(block for block in TOML if f'source = "{source}"' in block)
        changed = re.sub(r"\[data\]\n.*?\n\n", table + "\n", config, flags=re.DOTALL)
        (folder / f"{source}.toml").write_text(changed)
    return folder


def test_the_same_boxes_are_read_from_each_format(formats, monkeypatch):
    monkeypatch.chdir(formats)
    coco, *others = (load_data(load_config(f"{name}.toml")) for name in ("boxes", "voc", "yolo"))
    assert coco.train.count == 9 and coco.test.count == 6
    for other in others:
        assert other.classes == coco.classes == ("square", "disc")
        for name in ("train", "validation", "test"):
            ours, its = getattr(coco, name), getattr(other, name)
            np.testing.assert_array_equal(its.images, ours.images)
            np.testing.assert_array_equal(its.labels.classes, ours.labels.classes)
            np.testing.assert_allclose(its.labels.boxes, ours.labels.boxes, atol=1e-4)


def boxed(change):
    """What changes the boxes of a COCO file."""

    def changed(text):
        content = json.loads(text)
        change(content["annotations"])
        return json.dumps(content)

    return changed


def shares(annotations):
    for entry in annotations:
        entry["bbox"] = [0.1, 0.2, 0.3, 0.4]


def shortened(said):
    """Return what is on standard error, with paths from the current folder on."""
    return said.strip().replace(f"{Path.cwd()}/", "")


DAMAGES = [
    ("boxes", "shapes/train.json", boxed(lambda a: a[0].update(bbox=[60, 40, 90, 70]))),
    ("boxes", "shapes/train.json", boxed(lambda a: a[0].update(bbox=[60, 40, -10, 30]))),
    ("boxes", "shapes/train.json", boxed(shares)),
    ("boxes", "shapes/train.json", lambda text: text.replace("000001.png", "7.png")),
    ("yolo", "yolo/train/labels/000001.txt", lambda text: "0 60 40 30 20"),
    ("voc", "voc/Annotations/000001.xml", lambda text: re.sub(">(square|disc)<", ">sqare<", text)),
]


@pytest.mark.parametrize("which", range(len(DAMAGES)))
def test_errors_are_those_of_the_tutorial(formats, command, monkeypatch, which):
    monkeypatch.chdir(formats)
    name, file, damage = DAMAGES[which]
    whole = Path(file).read_text()
    try:
        Path(file).write_text(damage(whole))
        code, _, said = command("train", f"{name}.toml", "--out", "runs/refused")
    finally:
        Path(file).write_text(whole)
    assert code == 2 and shortened(said) == ERRORS[0].splitlines()[which]


def test_too_many_objects_are_an_error_of_the_tutorial(formats, command, monkeypatch):
    monkeypatch.chdir(formats)
    code, _, said = command(
        "train", "boxes.toml", "--out", "runs/refused", "--set", "data.objects=1"
    )
    assert code == 2 and shortened(said).splitlines()[:2] == ERRORS[0].splitlines()[-2:]

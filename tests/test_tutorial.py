"""docs/tutorial.md: its data, its commands and what they print, with smaller networks."""

from pathlib import Path

import pytest

from tests.replay import recording, replay

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
CLASSES = recording(PAGE, "# The first hour: your own images", "## Masks, boxes and numbers")
SHAPES = recording(PAGE, "## Masks, boxes and numbers", "### Masks")
MASKS = recording(PAGE, "### Masks", "### Boxes")
BOXES = recording(PAGE, "### Boxes", "### What lies in the folder")
SEVERAL_CLASSES = """
    model={layers=[{type="conv",features=4,window=3,stride=2},{type="relu"},{type="flatten"},{type="dense",features=3}]}
    data.size=[16,16] input.size=[16,16] augment.translate=1 training.epochs=1
"""
PIXELS = """
    model={layers=[{type="conv",features=3,window=1}]}
    data.size=[16,16] input.size=[16,16] augment.translate=1 training.epochs=1
"""
DETECTOR = """
    data.size=[24,32] input.size=[24,32] model.width=8 model.hidden=8 model.rpn.anchor_sizes=[[8.0]]
    model.rpn.pre_nms_top_n_train=8 model.rpn.pre_nms_top_n_test=8 model.rpn.post_nms_top_n_train=4
    model.rpn.post_nms_top_n_test=4 model.roi.batch_size_per_image=4 model.roi.score_thresh=0.0
    training.epochs=1
"""
ALL = {"new", "train", "evaluate", "report", "predict", "explain", "export", "verify-bundle"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the data that the scripts of the page make."""
    folder = tmp_path_factory.mktemp("first-hour")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for script in (*CLASSES.scripts, *SHAPES.scripts):
            exec(script, {})
    return folder


@pytest.mark.parametrize(
    ("recorded", "smaller", "name"),
    [
        (CLASSES, SEVERAL_CLASSES, "photos"),
        (MASKS, PIXELS, "masks"),
        pytest.param(BOXES, DETECTOR, "boxes", marks=pytest.mark.slow),
    ],
    ids=["classes", "masks", "boxes"],
)
def test_the_commands_run_as_they_stand(folder, command, monkeypatch, recorded, smaller, name):
    """In order, and print what is shown there: `new` to the letter, the others with other numbers."""
    monkeypatch.chdir(folder)
    done = replay(recorded, command, smaller)
    assert set(done) == ALL
    assert Path(f"runs/my_{name}/report.html").exists()
    assert (Path(done["export"][-1]) / "load.py").exists()


def test_what_is_found_in_boxes_is_as_shown(folder, command, monkeypatch):
    """The part of its recording that takes no training."""
    monkeypatch.chdir(folder)
    assert (
        command("new", "my_boxes", "--out", "another.toml")[1].replace(
            "another.toml", "my_boxes.toml"
        )
        == (BOXES.printed[0])
    )

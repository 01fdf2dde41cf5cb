"""The figures and the table of a run: the numbers behind them by hand, and that they can be drawn."""

import subprocess
import sys
from itertools import pairwise

import jax
import matplotlib
import numpy as np
import pytest
from PIL import Image

from convax import model
from convax.training import data
from convax.training.config.schema import load_config
from convax.training.data.preprocess import Preprocessing
from convax.training.evaluation import Evaluation
from convax.training.experiments.results import results_of
from convax.training.plots import figures
from convax.training.report import figures as report
from convax.training.run.checkpoint import CheckpointError
from convax.training.run.directory import DatasetCard, RunError, create_run, write_json_lines
from convax.training.tasks.classification import figures as report_classification
from convax.training.tasks.classification.figures import Answers
from convax.training.tasks.registry import make_task

# Three classes; 1 and 3 to 5 are wrong, 4 is the surest of them.
PROBABILITIES = np.array(
    [
        [0.9, 0.1, 0.0],
        [0.3, 0.6, 0.1],
        [0.3, 0.5, 0.2],
        [0.2, 0.8, 0.0],
        [0.0, 0.9, 0.1],
        [0.0, 0.8, 0.2],
        [0.1, 0.2, 0.7],
    ],
    np.float32,
)
LABELS = np.array([0, 0, 1, 2, 2, 2, 2], np.int32)
ANSWERS = Answers(PROBABILITIES, LABELS)


def test_confusion_counts_and_shares():
    counts = report_classification.confusion_counts(ANSWERS)
    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 1, 0], [0, 3, 1]])
    shares = report_classification.error_shares(counts)
    expected = [[np.nan, 1 / 2, 0], [0, np.nan, 0], [0, 3 / 4, np.nan]]
    np.testing.assert_allclose(shares, expected)


def test_a_class_without_examples_has_no_errors():
    shares = report_classification.error_shares(np.array([[2, 2], [0, 0]]))
    np.testing.assert_array_equal(shares, [[np.nan, 1 / 2], [0, np.nan]])


def test_worst_confusions():
    counts = report_classification.confusion_counts(ANSWERS)
    assert report_classification.worst_confusions(counts, 5) == [(2, 1, 3), (0, 1, 1)]
    assert report_classification.worst_confusions(counts, 1) == [(2, 1, 3)]
    assert report_classification.worst_confusions(np.diag([4, 5]), 5) == []


def test_worst_mistakes_come_surest_first_and_equals_in_order():
    assert report_classification.worst_mistakes(ANSWERS, 36).tolist() == [4, 3, 5, 1]
    assert report_classification.worst_mistakes(ANSWERS, 2).tolist() == [4, 3]


def test_least_certain_correct_predictions_come_first():
    assert report_classification.least_certain(ANSWERS, 36).tolist() == [2, 6, 0]
    assert report_classification.least_certain(ANSWERS, 1).tolist() == [2]


RECORDS = [
    {"kind": "train", "step": 10, "epoch": 1.0, "loss": 2.0, "accuracy": 0.5}
    | {"learning_rate": 0.1, "images_per_second": 64.0},
    {"kind": "validation", "step": 10, "loss": 1.0, "accuracy": 0.75},
    {"kind": "train", "step": 15, "epoch": 1.5, "loss": 0.02, "accuracy": 1.0}
    | {"learning_rate": 0.2, "images_per_second": 32.0},
    {"kind": "validation", "step": 15, "loss": 1.5, "accuracy": 0.625},
    {"kind": "test", "step": 15, "checkpoint_step": 10, "loss": 1.25, "accuracy": 0.5, "count": 8},
]


def test_series_makes_columns_with_nan_for_missing_figures():
    train = report.series(RECORDS, "train")
    assert {name: column.tolist() for name, column in train.items()} == {
        "step": [10, 15],
        "epoch": [1.0, 1.5],
        "loss": [2.0, 0.02],
        "error": [0.5, 0.0],
        "learning_rate": [0.1, 0.2],
    }
    validation = report.series(RECORDS, "validation")
    assert validation["error"].tolist() == [0.25, 0.375]
    assert np.isnan(validation["learning_rate"]).all()
    assert report.series(RECORDS, "test")["step"].tolist() == [10]  # where the tested ones are from
    assert report.series([], "train")["loss"].shape == (0,)


@pytest.mark.parametrize(
    ("values", "limits"),
    [
        ([0.5, 2.0], None),  # a factor of 4
        ([0.0, np.nan], None),
        ([], None),
        ([0.1, 1.0], (0.05, 1.3)),
        ([0.0, 0.1, 10.0, np.inf, np.nan], (0.05, 13.0)),
    ],
)
def test_log_limits_need_a_factor_of_ten(values, limits):
    found = figures.log_limits(np.array(values))
    assert found == (limits if limits is None else pytest.approx(limits))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.05, 1.3, [0.1, 0.2, 0.5, 1.0]),  # 0.05 itself is too near the end
        (0.004, 3.0, [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]),
        (0.0004, 3.0, [0.001, 0.01, 0.1, 1.0]),
        (2e-13, 3.0, [1e-11, 1e-9, 1e-7, 1e-5, 1e-3, 1e-1]),
    ],
)
def test_log_ticks_are_round_and_few(low, high, ticks):
    assert figures.log_ticks(low, high) == ticks


def test_no_label_is_drawn_over_that_of_zero():
    """In an axis of percents from 0.083 upwards, 0.05 stands right above the end, which is 0."""
    series = {
        "step": np.arange(4),
        "epoch": np.arange(4.0),
        "loss": np.ones(4),
        "error": np.array([0.0, 0.00083, 0.01, 0.5]),
        "learning_rate": np.ones(4),
    }
    nothing = {key: np.zeros(0) for key in series}
    with figures.style():
        figure = figures.curves(
            {"train": series, "validation": nothing, "test": nothing},
            best_step=None,
            title="t",
            subtitle="s",
        )
        figure.canvas.draw()
        labels = [label for label in figure.axes[1].get_yticklabels() if label.get_visible()]
        boxes = sorted(label.get_window_extent().extents.tolist() for label in labels)
        heights = sorted((low, high) for _, low, _, high in boxes)
    assert labels[0].get_text() == "0%" and len(labels) > 3
    assert all(high <= low for (_, high), (low, _) in pairwise(heights))


@pytest.mark.parametrize("shape", [(400, 4), (2000, 2), (4, 400)])
def test_images_of_any_shape_make_figures_of_a_bounded_size(shape):
    with figures.style():
        for figure in (
            figures.mistakes(
                np.zeros((36, *shape, 1), np.uint8), 36 * ["a"], title="", subtitle=""
            ),
            figures.kernels(np.zeros((36, *shape, 1)), title="", subtitle=""),
        ):
            assert max(figure.get_size_inches()) < 30
            (left, right, low, high) = figure.axes[0].images[0].get_extent()
            assert (high - low) / (right - left) == pytest.approx(shape[0] / shape[1])


def test_captions_are_shortened():
    assert report_classification.caption("4", "9", 0.976) == "4 → 9  98%"
    assert report_classification.caption("4", "4", 0.512) == "4  51%"
    long = report_classification.caption(
        "golden retriever\npuppy, asleep", "labrador retriever", 0.5
    )
    assert long == "golden retriever pupp…\n→ labrador retr…  50%"
    assert figures.shortened(" a\n b ", 3) == "a b"


def params_of(net, in_shape):
    """Parameters of the right shapes, every element different."""
    _, shapes, _ = model.init_shapes(net, (1, *in_shape))
    return jax.tree.map(lambda leaf: np.linspace(-1, 1, leaf.size).reshape(leaf.shape), shapes)


def test_first_kernels_are_the_networks_first_however_the_tree_is_sorted():
    stem = model.serial(zeta=model.conv(4, 3), alpha=model.conv(5, 3))
    net = model.serial(
        model.residual(model.identity()), stem, model.flatten(), alpha=model.dense(2)
    )
    params = params_of(net, (8, 8, 3))
    assert list(params["serial1"]) == ["alpha", "zeta"]  # jax sorts the keys of dicts
    path, kernels = report.first_kernels(net, params, (8, 8, 3))
    assert path == "serial1/zeta"
    expected = params["serial1"]["zeta"]["kernel"]
    assert kernels.shape == (4, 3, 3, 3)
    np.testing.assert_array_equal(kernels[1], expected[..., 1].astype(np.float32))


def test_first_kernels_of_a_network_that_stands_inline():
    net = model.match_input_size(model.serial(stem=model.conv(2, 3), up=model.upsample(2)))
    path, kernels = report.first_kernels(net, params_of(net, (8, 8, 1)), (8, 8, 1))
    assert (path, kernels.shape) == ("stem", (2, 3, 3, 1))


def test_first_kernels_of_a_single_layer():
    net = model.conv(2, 3)
    path, kernels = report.first_kernels(net, params_of(net, (8, 8, 1)), (8, 8, 1))
    assert (path, kernels.shape) == ("conv", (2, 3, 3, 1))


def test_first_kernels_of_an_mlp_are_its_columns():
    net = model.mlp(2, hidden=[5], activation="relu")
    params = params_of(net, (4, 3, 2))
    params["dense1"]["kernel"] = np.arange(24 * 5).reshape(24, 5)
    path, kernels = report.first_kernels(net, params, (4, 3, 2))
    assert (path, kernels.shape) == ("dense1", (5, 4, 3, 2))
    # Output 1 weighs row 3, column 2, channel 0 by element (3 * 3 + 2) * 2 + 0 = 22 of its column.
    assert kernels[1, 3, 2, 0] == 22 * 5 + 1


def test_first_kernels_is_none_where_they_are_no_images():
    pooled = model.serial(model.max_pool(2), model.flatten(), model.dense(3))
    assert report.first_kernels(pooled, params_of(pooled, (8, 8, 1)), (8, 8, 1)) is None
    lines = model.serial(model.conv(2, 3), model.flatten(), model.dense(3))  # 1-D
    assert report.first_kernels(lines, params_of(lines, (64, 1)), (64, 1)) is None
    assert report.first_kernels(model.identity(), {}, (8, 8, 1)) is None


CARD = DatasetCard(
    classes=("0", "1"),
    image_shape=(8, 8, 1),
    counts={"train": 64, "validation": 8, "test": 8},
    preprocessing=Preprocessing((32, 32), "resize", (0.3,), (0.4,)),
    fingerprint="",
)


@pytest.fixture
def run(tmp_path):
    """A finished run made by hand: metrics and pointers, no arrays."""
    config = load_config("lenet5-digits", ["training.batch_size=64"])
    made = create_run(config, tmp_path / "by-hand", CARD)
    write_json_lines(made.path / "metrics.jsonl", RECORDS)
    (made.checkpoints / "best").write_text("step-00000010\n")
    (made.checkpoints / "last").write_text("step-00000015\n")
    made.update_info(status="finished", result={"step": 15, "stopped_early": "target reached"})
    return made


def test_a_study_ranks_a_run_by_its_best_checkpoint(run):
    def row():
        (found,) = results_of({"a": (run, {})}, sweep=True)["members"]
        return found["score"], found["validation"]

    assert row() == (0.75, {"step": 10, "loss": 1.0, "accuracy": 0.75})
    # As behind `Task.finalize`, whose result is the best whatever was measured before it.
    (run.checkpoints / "best").write_text("step-00000015\n")
    assert row() == (0.625, {"step": 15, "loss": 1.5, "accuracy": 0.625})
    write_json_lines(run.metrics_file, [RECORDS[3] | {"accuracy": float("nan")}])
    assert report.best_validation(run) is not None
    assert row() == (None, None)


def test_results_table(run):
    assert report.best_validation(run) == RECORDS[1]
    # 10 steps of 64 images at 64 a second, then 5 at 32 a second.
    assert report.training_seconds(run) == 10 * 64 / 64 + 5 * 64 / 32
    assert report.results_table(run) == [
        ("run", str(run.path)),
        ("status", "finished"),
        ("stopped early", "target reached"),
        ("steps", "15 (epoch 1.5)"),
        ("training time", "20.0 s"),
        ("best validation", "accuracy 75.00%, loss 1.0000, at step 10"),
        ("test", "accuracy 50.00%, loss 1.2500, 8 images"),
        ("best checkpoint", str(run.checkpoints / "step-00000010")),
        ("last checkpoint", str(run.checkpoints / "step-00000015")),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(64, "1 min 04 s"), (3599.7, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_duration_is_rounded_for_people(run, seconds, text):
    record = RECORDS[0] | {"images_per_second": 640 / seconds}
    write_json_lines(run.path / "metrics.jsonl", [record])
    assert dict(report.results_table(run))["training time"] == text


def test_results_table_of_a_run_that_has_only_begun(tmp_path):
    begun = create_run(load_config("lenet5-digits"), tmp_path / "begun", CARD)
    assert report.results_table(begun) == [("run", str(begun.path)), ("status", "not finished")]
    assert report.report(begun.path) == []
    begun.log(RECORDS[0])
    assert [path.name for path in report.report(begun.path)] == ["curves.png"]
    assert_figures(begun, ["curves"])


def assert_figures(run, names):
    """These are the files in plots/, and each is a whole image of a sensible size."""
    assert sorted(p.name for p in run.plots.iterdir()) == sorted(f"{n}.png" for n in names)
    for name in names:
        with Image.open(run.plots / f"{name}.png") as image:
            image.load()
            assert image.format == "PNG"
            assert 600 <= image.width <= 2600 and 250 <= image.height <= 2600
            assert len(set(image.convert("L").tobytes())) > 10  # something is on it


def draw(run, net, *, images, labels, classes, right):
    """Draw a run whose network gets the first `right` examples right."""
    K, count = len(classes), len(labels)
    guesses = np.where(np.arange(count) < right, labels, (labels + 1) % K)
    probabilities = np.full((count, K), 0.2 / (K - 1), np.float32)
    probabilities[np.arange(count), guesses] = 0.8
    figures = {"loss": 0.5, "accuracy": right / count}
    size = CARD.preprocessing._replace(size=images.shape[1:3])
    return report.draw(
        run,
        task=make_task(run.config(), len(run.dataset().classes)),
        net=net,
        params=params_of(net, images.shape[1:]),
        evaluation=Evaluation(figures, count, "test", probabilities, {}),
        examples=data.Split(images, labels),
        card=CARD._replace(classes=classes, image_shape=images.shape[1:], preprocessing=size),
    )


def test_report_draws_all_figures_of_a_finished_run(run):
    before = dict(matplotlib.rcParams)
    images = np.arange(50 * 12 * 12, dtype=np.uint32).astype(np.uint8).reshape(50, 12, 12, 1)
    net = model.serial(model.conv(6, 5), model.flatten(), model.dense(10))
    labels = np.arange(50, dtype=np.int32) % 10
    written = draw(run, net, images=images, labels=labels, classes=tuple("0123456789"), right=10)
    assert [p.name for p in written] == [
        "curves.png",
        "confusion.png",
        "mistakes.png",
        "kernels.png",
    ]
    assert_figures(run, ["curves", "confusion", "mistakes", "kernels"])
    assert dict(matplotlib.rcParams) == before


def test_figures_of_two_classes_with_awkward_names_and_one_evaluation(run):
    write_json_lines(run.path / "metrics.jsonl", RECORDS[1:2])
    images = np.zeros((4, 20, 9, 3), np.uint8)
    classes = ("$x^2 猫 " + "very " * 9, "line\nbreak")
    net = model.mlp(2, hidden=[3], activation="relu")
    draw(run, net, images=images, labels=np.array([0, 1, 0, 1]), classes=classes, right=3)
    assert_figures(run, ["curves", "confusion", "mistakes", "kernels"])


def test_figures_of_many_classes_without_mistakes_validation_or_kernels(run):
    write_json_lines(run.path / "metrics.jsonl", [])
    images = np.zeros((40, 8, 8, 2), np.uint8)
    net = model.serial(model.max_pool(2), model.flatten(), model.dense(40))
    classes = tuple(f"class {i}" for i in range(40))
    labels = np.arange(40, dtype=np.int32)
    draw(run, net, images=images, labels=labels, classes=classes, right=40)
    assert_figures(run, ["confusion", "mistakes"])


def words(figure):
    """Every text on the axes and above them."""
    return [t.get_text() for ax in figure.axes for t in ax.texts] + [
        t.get_text() for t in figure.texts
    ]


def test_confusion_matrix_colors_errors_and_writes_counts_while_they_fit():
    counts = report_classification.confusion_counts(ANSWERS)
    shares = report_classification.error_shares(counts)
    with figures.style():
        figure = figures.confusion(counts, shares, "abc", title="run: 43%", subtitle="worst")
    assert words(figure) == ["1", "1", "1", "3", "1", "run: 43%", "worst"]
    (image,) = figure.axes[0].images
    assert image.norm(image.get_array()).mask.diagonal().all()
    assert image.norm.vmax == 3 / 4
    with figures.style():
        many = np.eye(31, dtype=int)
        figure = figures.confusion(
            many, report_classification.error_shares(many), ["x"] * 31, title="", subtitle=""
        )
    assert words(figure) == ["", ""]
    assert figure.axes[0].images[0].norm.vmax == 0.1  # one error in a thousand must not look dark


def test_curves_are_logarithmic_mark_the_best_and_show_a_zero():
    columns = {kind: report.series(RECORDS, kind) for kind in ("train", "validation", "test")}
    with figures.style():
        figure = figures.curves(columns, best_step=10, title="t", subtitle="s")
    loss, error, rate = figure.axes
    assert loss.get_yscale() == "log"  # from 0.02 to 2
    assert error.get_yscale() == "linear"  # from 25% to 50%, and a zero
    lines = {line.get_label(): line for line in error.lines}
    assert lines.keys() == {"best checkpoint", "train", "validation", "test"}
    assert lines["best checkpoint"].get_xdata()[0] == 10
    assert lines["validation"].get_ydata().tolist() == [25.0, 37.5]
    assert lines["test"].get_xydata().tolist() == [[10, 50]]
    assert rate.get_xlabel() == "step  (10 make an epoch)"

    columns["train"]["error"] = np.array([0.02, 0.0])
    with figures.style():
        _, error, _ = figures.curves(columns, best_step=None, title="", subtitle="").axes
    assert error.get_yscale() == "log"
    labels = [label.get_text() for label in error.get_yticklabels()]
    assert labels == ["0%", "2%", "5%", "10%", "20%", "50%"]
    assert error.lines[0].get_ydata().tolist() == [2.0, 1.0]  # zero is drawn at the lower end


def test_kernels_share_one_scale_symmetric_about_zero():
    tiles = np.zeros((2, 2, 2, 1))
    tiles[0, 0, 0], tiles[1, 1, 1] = -2, 1
    with figures.style():
        figure = figures.kernels(tiles, title="", subtitle="")
    assert [image.get_clim() for image in figure.axes[0].images] == [(-2, 2)] * 2
    with figures.style():
        figure = figures.kernels(np.repeat(tiles, 3, axis=-1), title="", subtitle="")
    first, second = (image.get_array() for image in figure.axes[0].images)
    np.testing.assert_allclose(
        [first[0, 0], first[1, 1], second[1, 1]], [[0] * 3, [0.5] * 3, [0.75] * 3]
    )


def test_write_that_fails_leaves_the_old_figure(tmp_path):
    class Failing:
        def savefig(self, path, **_):
            path.write(b"half")
            raise OSError("disk full")

    old = tmp_path / "curves.png"
    old.write_bytes(b"whole")
    with pytest.raises(OSError, match="disk full"):
        figures.write(Failing(), old)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"whole"]


def test_report_of_a_trained_run(copied):
    for checkpoint in ("best", "last"):
        written = report.report(copied.path, checkpoint)
    assert [p.name for p in written] == [
        "curves.png",
        "confusion.png",
        "mistakes.png",
        "kernels.png",
    ]
    assert_figures(copied, ["curves", "confusion", "mistakes", "kernels"])
    table = dict(report.results_table(copied))
    assert table["status"] == "finished"
    assert table["test"].endswith(", 53 images")


def test_report_needs_the_runs_own_data_and_whole_checkpoints(copied):
    arrays = copied.checkpoints / (copied.checkpoints / "best").read_text().strip()
    (arrays / "params.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="damaged"):
        report.report(copied.path)
    copied.write_dataset(copied.dataset()._replace(fingerprint="of other data"))
    with pytest.raises(RunError, match="the data has changed since this run began; restore it"):
        report.report(copied.path)
    with pytest.raises(RunError, match="no such run directory"):
        report.report(copied.path / "nowhere")


@pytest.mark.parametrize(
    ("absent", "split"),
    [((), "test"), (("test",), "validation"), (("test", "validation"), "train")],
)
def test_reported_split_is_the_first_with_examples(absent, split):
    some = data.Split(np.zeros((2, 4, 4, 1), np.uint8), np.zeros(2, np.int32))
    none = data.Split(some.images[:0], some.labels[:0])
    dataset = data.Dataset(some, some, some, ("a", "b"))._replace(**dict.fromkeys(absent, none))
    assert report.reported_split(dataset) == split


def test_matplotlib_is_imported_only_to_draw_and_pyplot_never():
    program = """
import sys
from convax.training.plots import figures as plots
from convax.training.report import figures as report
assert "matplotlib" not in sys.modules
with plots.style():
    columns = {kind: report.series([], kind) for kind in ("train", "validation", "test")}
    plots.curves(columns, best_step=None, title="t", subtitle="s")
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""The page of a run: what stands on it, for each task, whatever its classes are called."""

import re
from html.parser import HTMLParser

import jax
import numpy as np
import pytest

from convax.inference.report import page as report_page
from convax.inference.report.images import kernel_images
from convax.training.config.schema import load_config
from convax.training.evaluation import Evaluation
from convax.training.experiment import prepare
from convax.training.plots.page_parts import html_image
from convax.training.report import figures as reports
from convax.training.run.directory import RunError, create_run
from convax.training.tasks.classification import page as classified_page
from convax.training.tasks.classification.figures import Answers
from convax.training.tasks.confusion import confusion_cells
from convax.training.tasks.segmentation.page import per_class_iou
from tests.browser import browser  # noqa: F401 -- a fixture
from tests.tiny import EMBEDDING, untrained, write_tiny
from tests.training.tasks.test_segmentation import write_scenes

EVIL = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "</svg>{{ 7 * 7 }} & 猫")
ALL = ["Summary", "Curves", "Confusion", "Classes", "Calibration", "Worst mistakes", "First layer"]
ALWAYS = ["Speed and versions", "Config"]


class Outline(HTMLParser):
    """The elements of a page; every one that is opened is closed."""

    VOID = ("meta", "link", "img", "br", "col", "path", "use", "image", "rect")

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.headings, self.words, self.text = [], [], [], [], text
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        elif self.open and self.open[-1] not in ("style",):
            self.words.append(data)

    def attributes(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def outline(text):
    """Its elements, after a look at what holds of every page."""
    found = Outline(text)
    tags = {tag for tag, _ in found.elements}
    assert not tags & {"script", "iframe", "object", "form", "base"}
    for _, attrs in found.elements:
        assert not any(name.startswith("on") for name in attrs)
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("#", "data:")), attrs  # nothing is loaded
    assert all("alt" in attrs for attrs in found.attributes("img"))
    assert len(found.attributes("table")) == len(found.attributes("caption"))
    assert "width=device-width, initial-scale=1" in text
    return found


def test_the_page_of_a_run(copied, command):
    code, out, err = command("report", copied.path)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == str(copied.path / "report.html")
    text = (copied.path / "report.html").read_text()
    page = outline(text)
    assert page.headings == ALL + ALWAYS
    said = " ".join(" ".join(page.words).split())
    accuracy = copied.metrics()[-1]["accuracy"]
    assert f"{accuracy:.2%}" in said and "of 53 test images" in said
    assert 'name = "mlp"' in said
    assert f"jax {jax.__version__}" in said and "images/s (median)" in said
    labels = [attrs["aria-label"] for attrs in page.attributes("div") if "role" in attrs]
    assert [label.partition(" over ")[0] for label in labels[:3]] == [
        "loss",
        "error rate",
        "Learning rate",
    ]
    assert "Expected calibration error" in labels[-1]


def test_a_run_that_was_never_validated_has_its_last_checkpoint_on_the_page(copied):
    (copied.checkpoints / "best").unlink()  # as of a fine-tuning that has only begun
    *_, page = report_page.write_report(copied.path)
    step = int((copied.checkpoints / "last").read_text().rpartition("-")[-1])
    assert f"with the last checkpoint, of step {step}" in outline(page.read_text()).text


def nine_answers():
    """Nine answers of three classes: rows of the confusion matrix 3 1 0, 0 2 1, 0 0 2."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    guesses = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    return Answers(np.eye(3, dtype=np.float32)[guesses], labels)


def test_precision_recall_and_f1_by_hand():
    table = classified_page.per_class(nine_answers(), ["a", "b", "c"])
    assert table.rows == [
        ("a", "100.0%", "75.0%", "85.7%", "4"),  # 3/3, 3/4, 2 * 0.75 / 1.75
        ("b", "66.7%", "66.7%", "66.7%", "3"),  # 2/3, 2/3
        ("c", "66.7%", "100.0%", "80.0%", "2"),  # 2/3, 2/2
    ]
    assert table.last == ("mean", "77.8%", "80.6%", "77.5%", "9")
    never = Answers(np.eye(3, dtype=np.float32)[[0, 0]], np.array([0, 1]))
    table = classified_page.per_class(never, ["a", "b", "c"])
    assert table.rows[1] == ("b", "0.0%", "0.0%", "0.0%", "1")
    assert table.rows[2] == ("c", "–", "–", "–", "0")
    assert table.caption.endswith("counts as precision 0: 'b'; undefined: 'c'")


def test_the_cells_of_a_confusion_matrix():
    counts = np.array([[3, 1, 0], [0, 2, 1], [0, 0, 2]])
    cells = confusion_cells(counts, ["a", "b", "c"])
    assert [cell.count for cell in cells[0]] == [3, 1, 0]
    assert [cell.right for cell in cells[0]] == [True, False, False]
    assert cells[0][1].words == "a taken for b"
    assert cells[1][2].heat == 1.0  # a third of its class: the worst
    assert cells[0][1].heat == pytest.approx((0.25 * 3) ** 0.5, abs=1e-3)
    assert cells[0][2].heat == 0.0
    assert [cell.text for cell in cells[0]] == ["3", "1", "0"]
    shares = confusion_cells(counts, ["a", "b", "c"], shares=True)
    assert [cell.text for cell in shares[0]] == ["75.0%", "25.0%", "0.0%"]


def test_iou_of_each_class():
    counts = np.array([[6, 2, 0], [0, 4, 0], [0, 0, 0]])
    table = per_class_iou(counts, np.array([0.75, 2 / 3, np.nan]), ["a", "b", "c"])
    assert table.rows == [
        ("a", "75.0%", "66.7%"),
        ("b", "66.7%", "33.3%"),
        ("c", "–", "0.0%"),
    ]
    assert table.last == ("mean", "70.8%", "")
    assert table.caption == "Intersection over union of each class; undefined: 'c'"


def classified(config, classes, count=40):
    """An evaluation made by hand, of so many classes: every third answer is wrong."""
    experiment = prepare(config)
    rng, K = np.random.default_rng(0), len(classes)
    split = experiment.dataset.test
    images = np.resize(split.images, (count, *split.images.shape[1:]))
    labels = (np.arange(count) % K).astype(np.int32)
    guesses = np.where(np.arange(count) % 3, labels, (labels + 1) % K)
    kept = rng.uniform(0, 0.2, (count, K)).astype(np.float32)
    kept[np.arange(count), guesses] += 1
    kept /= kept.sum(axis=1, keepdims=True)
    figures = {"loss": 0.5, "accuracy": float((guesses == labels).mean())}
    dataset = experiment.dataset._replace(test=split._replace(images=images, labels=labels))
    card = experiment.card._replace(classes=tuple(classes))
    return of(
        experiment._replace(dataset=dataset, card=card),
        Evaluation(figures, count, "test", kept, {}),
    )


def of(experiment, evaluation):
    """With parameters that nobody trained."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), experiment.template.params)
    return reports.Evaluated(experiment, params, experiment.template.state, evaluation)


def test_a_class_may_be_called_anything(whole):
    found = classified(whole.config(), EVIL)
    text = report_page.render_page(report_page.make_page(whole, found))
    page = outline(text)
    assert "alert(1)" in text and "<script>" not in text and "<img src=x" not in text
    said = " ".join(page.words)
    for name in EVIL:
        assert name in said
    assert "49" not in re.sub(r"\d+\.\d+%?", "", " ".join(w for w in page.words if "猫" in w))
    alts = {attrs["alt"] for attrs in page.attributes("img")}
    assert f"An image of {EVIL[0]}" in alts


def test_many_classes_have_colors_for_counts_and_a_list(whole):
    found = classified(whole.config(), [f"class {k}" for k in range(40)], 120)
    page = report_page.make_page(whole, found)
    assert page.confusion is not None and page.per_class is not None
    assert (page.confusion.cells, len(page.confusion.pairs.rows)) == ([], 10)
    assert page.confusion.chart is not None
    assert page.confusion.chart.alt.startswith("Confusion matrix of 40 classes")
    names = re.findall(r">(class \d+)</text>", page.confusion.chart.svg)
    assert names == 2 * [f"class {k}" for k in range(0, 40, 3)]  # along both axes
    assert len(page.per_class.rows) == 40
    assert outline(report_page.render_page(page)).headings == ALL + ALWAYS


def diagonal(image, k):
    """A heat map that nobody computed."""
    return np.linspace(0, 1, image[..., 0].size).reshape(image.shape[:2])


def test_a_heat_map_beside_each_mistake(whole):
    asked = []

    def heatmap(image, k):
        asked.append((image.shape, k))
        return diagonal(image, k)

    found = classified(whole.config(), ["a", "b", "c"])
    page = report_page.make_page(whole, found, heatmap=heatmap)
    assert page.examples is not None
    first, *_ = page.examples.examples
    assert [name for name, _ in first.images] == ["image", "heat map"]
    assert first.images[0][1].over is None and first.images[1][1].over
    assert len(asked) == len(page.examples.examples) == classified_page.MOST_MISTAKES
    assert asked[0][0] == found.experiment.card.image_shape
    words = re.fullmatch(r"(.), taken for (.), \d+% sure", first.caption)
    assert words and words[1] != words[2]
    assert "abc".index(words[2]) == asked[0][1]  # the heat of what it said, not of what it was


def test_a_network_without_mistakes(whole):
    found = classified(whole.config(), ["a", "b", "c"])
    answers = np.eye(3, dtype=np.float32)[found.examples.labels]
    evaluation = found.evaluation._replace(collected=answers)
    page = report_page.make_page(whole, found._replace(evaluation=evaluation))
    assert page.examples is not None
    assert page.examples.sentence.startswith("No mistakes: the 12 right answers")
    outline(report_page.render_page(page))


def test_kernels_in_gray_and_color():
    gray = kernel_images(np.array([[[[-2.0]], [[0.0]]], [[[1.0]], [[2.0]]]]))
    assert [(p.width, p.height, p.small, p.alt) for p in gray] == [
        (1, 2, True, "kernel 1"),
        (1, 2, True, "kernel 2"),
    ]
    large = html_image(np.zeros((400, 800, 2), np.uint8), "")
    assert (large.width, large.height, large.small) == (320, 160, False)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """A segmentation that nobody trained, and its run."""
    folder = tmp_path_factory.mktemp("scenes")
    run, experiment = untrained(write_scenes(folder), folder / "run")
    kept = np.random.default_rng(0).integers(0, 2, (9, 11, 12)).astype(np.uint8)
    totals = {"confusion": np.array([[500, 100], [200, 388]])}
    figures = {"loss": 0.5, "mean_iou": 0.6, "foreground_iou": 0.5, "pixel_accuracy": 0.7}
    return run, of(experiment, Evaluation(figures, 9, "test", kept, totals))


def test_the_page_of_a_segmentation(segmented):
    run, found = segmented
    page = report_page.make_page(run, found)
    assert page.figures == [
        ("mean IoU", "60.00%"),
        ("foreground IoU", "50.00%"),
        ("pixel accuracy", "70.00%"),
        ("loss", "0.5000"),
    ]
    assert page.per_class is not None and page.examples is not None
    assert [row[0] for row in page.per_class.rows] == ["ground", "thing"]
    assert page.per_class.rows[0][1] == "62.5%"  # 500 of 800
    assert len(page.examples.examples) == 8
    text = report_page.render_page(page)
    assert outline(text).headings == [
        "Summary",
        "Confusion",
        "Classes",
        "Worst images",
        "First layer",
        *ALWAYS,
    ]
    assert page.confusion is not None
    assert [cell.text for cell in page.confusion.cells[1]] == ["34.0%", "66.0%"]  # 200, 388 of 588
    assert page.confusion.pairs.rows == [("thing", "ground", "200"), ("ground", "thing", "100")]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """An embedding that nobody trained, and its run."""
    folder = tmp_path_factory.mktemp("embedded")
    run, experiment = untrained(load_config(write_tiny(folder), EMBEDDING), folder / "run")
    labels = experiment.dataset.test.labels
    kept = np.random.default_rng(0).normal(size=(53, 5)) + labels[:, None]
    figures = {"loss": 0.5, "recall_at_1": 0.6, "auc": 0.7}
    return run, of(experiment, Evaluation(figures, 53, "test", kept, {}))


def test_the_page_of_an_embedding(embedded):
    run, found = embedded
    page = report_page.make_page(run, found)
    text = report_page.render_page(page)
    assert [chart.title for chart in page.charts] == [
        "pairs told apart",
        "the plane in which they differ most",
    ]
    assert page.examples is not None
    assert [name for name, _ in page.examples.examples[0].images] == ["image", "nearest"]
    headings = outline(text).headings
    assert headings == ["Summary", "Embeddings", "Wrong neighbors", "First layer", *ALWAYS]


def test_the_page_of_a_run_that_has_only_begun(whole, tmp_path):
    begun = create_run(whole.config(), tmp_path / "<b>begun", whole.dataset())
    (page,) = report_page.write_report(begun.path)
    text = page.read_text()
    assert "No checkpoint yet" in text and "<b>begun" not in text
    assert outline(text).headings == ["Summary", *ALWAYS]


def test_a_page_that_cannot_be_written(copied):
    (copied.path / "report.html").mkdir()
    with pytest.raises(RunError, match=r"report\.html: cannot be written: "):
        report_page.write_report(copied.path)


@pytest.fixture(scope="module")
def pages(whole, segmented, embedded, tmp_path_factory):
    """A page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    found = {
        "evil": (whole, classified(whole.config(), EVIL)),
        "digits": (whole, classified(whole.config(), "0123456789"), "best", diagonal),
        "long": (whole, classified(whole.config(), [f"{'long' * 9} {k}" for k in range(15)])),
        "many": (whole, classified(whole.config(), [f"class {k}" for k in range(40)], 120)),
        "masks": segmented,
        "vectors": embedded,
        "begun": (whole, None),
    }
    for name, of_run in found.items():
        (folder / f"{name}.html").write_text(
            report_page.render_page(report_page.make_page(*of_run))
        )
    return sorted(folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_in_a_browser(browser, pages, tmp_path, width, dark):  # noqa: F811
    for file in pages:
        page = browser(file.as_uri(), width=width, dark=dark)
        assert page.problems() == []
        assert page.too_wide() == [0, []], file.name
        assert page.requests() == [file.as_uri()]  # and nothing else
        shown = page.run("[...document.querySelectorAll('h2')].map((h) => h.innerText)")
        assert shown == outline(file.read_text()).headings
        assert page.run("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
        assert page.run("document.querySelectorAll('script').length") == 0
        assert page.run(
            "[...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))"
        )
        paper = page.run("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper))) < 200) == dark
        page.pdf(tmp_path / "printed.pdf")
        assert (tmp_path / "printed.pdf").read_bytes().startswith(b"%PDF")

"""The page of the service, as a person meets it: drawn on, dropped on, in Chromium."""

import numpy as np
import pytest
from PIL import Image

from tests.browser import browser  # noqa: F401 -- a fixture
from tests.inference.serve.test_app import service_of
from tests.tiny import EMBEDDING, untrained, write_tiny
from tests.training.tasks.test_detection import write_squares
from tests.training.tasks.test_segmentation import write_scenes

pytestmark = pytest.mark.slow

ANSWERED = "!document.getElementById('answer').hidden"
BARS = "[...document.querySelectorAll('#bars li')].map((e) => e.innerText.split('\\n')[0])"


@pytest.fixture(scope="module")
def digits(whole):
    """The service of the tiny run: which third of the picture is bright?"""
    with service_of(whole.path) as (_, address):
        yield address


def opened(browser, address, **look):  # noqa: F811
    """Its page, once it knows the network."""
    page = browser(f"{address}/", **look)
    page.wait("document.getElementById('about').textContent.includes('·')")
    return page


def draw(page, share):
    """A stroke from top to bottom, at this share of the pad's width."""
    x, y, width, height = page.run(
        "(({x, y, width, height}) => [x, y, width, height])"
        "(document.getElementById('pad').getBoundingClientRect())"
    )
    at = x + share * width
    page.mouse("Pressed", at, y + 2)
    for step in range(1, 8):
        page.mouse("Moved", at, y + step * (height - 4) / 7)
    page.mouse("Released", at, y + height - 2)


def drop(page, file, x=100, y=100):
    """A file, let fall on the page."""
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        page.ask("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)


def thirds(file, bright, shape=(60, 60)):
    """A picture whose `bright` third is."""
    image = np.full(shape, 60, np.uint8)
    image[:, bright * shape[1] // 3 : (bright + 1) * shape[1] // 3] = 160
    Image.fromarray(image).save(file)
    return file


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_what_is_drawn_is_answered(browser, digits, width, dark):  # noqa: F811
    page = opened(browser, digits, width=width, dark=dark)
    assert page.run("document.getElementById('draw').hidden") is False  # gray: to be drawn on
    for share, name in ((0.83, "2"), (0.17, "0")):
        page.run("document.getElementById('clear').click()")
        draw(page, share)
        page.wait(ANSWERED)
        page.wait(f"{BARS}[0] === '{name}'")
        assert sorted(page.run(BARS)) == ["0", "1", "2"]
    page.wait("!document.getElementById('heat').hidden")
    page.wait("document.getElementById('heat').naturalWidth === 6")
    assert "where it sees “0”" in page.run("document.getElementById('caption').textContent")
    assert page.too_wide() == [0, []]
    assert page.problems() == []
    assert {url.removeprefix(digits).partition("?")[0] for url in page.requests()} <= {
        "/",
        "/health",
        "/predict",
        "/heatmap",
    }


def test_a_picture_is_dropped_or_chosen_and_a_bad_one_refused(browser, digits, tmp_path):  # noqa: F811
    page = opened(browser, digits)
    drop(page, thirds(tmp_path / "middle.png", 1))
    page.wait(f"{ANSWERED} && {BARS}[0] === '1'")
    root = page.ask("DOM.getDocument")["root"]["nodeId"]
    node = page.ask("DOM.querySelector", nodeId=root, selector="#choose")["nodeId"]
    left = str(thirds(tmp_path / "left.png", 0))
    page.ask("DOM.setFileInputFiles", nodeId=node, files=[left])
    page.wait(f"{BARS}[0] === '0'")
    page.wait("document.getElementById('seen').naturalWidth === 60")
    assert page.problems() == []

    (tmp_path / "bad.png").write_bytes(b"not a picture")
    drop(page, tmp_path / "bad.png")
    page.wait("document.getElementById('status').classList.contains('bad')")
    assert "cannot be read as an image" in page.run("document.getElementById('status').innerText")
    (problem,) = page.problems()  # Chromium notes the status of the answer, and nothing else
    assert problem["entry"]["source"] == "network" and "422" in problem["entry"]["text"]
    drop(page, thirds(tmp_path / "right.png", 2))
    page.wait(f"{ANSWERED} && {BARS}[0] === '2'")
    assert page.run("document.getElementById('status').hidden")


def test_a_mask_over_the_picture(browser, tmp_path):  # noqa: F811
    run, _ = untrained(write_scenes(tmp_path, 24), tmp_path / "run")
    with service_of(run.path) as (_, address):
        page = opened(browser, address, width=360)
        drop(page, thirds(tmp_path / "a.png", 1, (40, 30)))
        page.wait(f"{ANSWERED} && !document.getElementById('mask').hidden")
        page.wait("document.getElementById('mask').naturalHeight === 40")
        assert sorted(page.run(BARS)) == ["ground", "thing"]
        assert (page.too_wide(), page.problems()) == ([0, []], [])


def test_objects_are_drawn_and_the_slider_asks_nothing(browser, tmp_path):  # noqa: F811
    run, _ = untrained(write_squares(tmp_path), tmp_path / "run")
    with service_of(run.path) as (_, address):
        page = opened(browser, address, width=360)
        drop(page, thirds(tmp_path / "a.png", 1, (40, 30)))
        page.wait(f"{ANSWERED} && !document.getElementById('boxes').hidden")
        asked = len(page.requests())
        for threshold, some in (("0", "true"), ("1", "false")):
            page.run(
                f"""(() => {{ const slider = document.getElementById("threshold");
                slider.value = "{threshold}"; slider.dispatchEvent(new Event("input")); }})()"""
            )
            page.wait(f"({BARS}.length > 0) === {some}")
            page.wait(
                f"""(() => {{ const drawn = document.getElementById("boxes");
                const blank = document.createElement("canvas");
                [blank.width, blank.height] = [drawn.width, drawn.height];
                return (drawn.toDataURL() !== blank.toDataURL()) === {some}; }})()"""
            )
        assert len(page.requests()) == asked
        assert (page.too_wide(), page.problems()) == ([0, []], [])


def test_what_is_nearest(browser, tmp_path):  # noqa: F811
    from convax.training.config.schema import load_config

    config = load_config(write_tiny(tmp_path), EMBEDDING)
    run, _ = untrained(config, tmp_path / "run")
    with service_of(run.path) as (_, address):
        page = opened(browser, address)
        draw(page, 0.5)
        page.wait(ANSWERED)
        assert sorted(page.run(BARS)) == ["0", "1", "2"]
        assert "away" in page.run("document.getElementById('bars').innerText")
        assert page.problems() == []

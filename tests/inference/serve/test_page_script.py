"""The script of the service's page, run by Node on a page that is made up of the parts it uses."""

import json
import re
import shutil
import subprocess

import pytest

from convax.inference.serve.page import PAGE

STAGE = r"""
const drawn = [], elements = {}, requests = [];
function brushOf(id) {
  const brush = {};
  for (const name of ["fillRect", "strokeRect", "fillText", "drawImage", "putImageData"])
    brush[name] = (...given) => drawn.push([id, name, brush.strokeStyle, ...given]);
  brush.measureText = (text) => ({width: 5 * text.length});
  brush.getImageData = (x, y, w, h) => ({data: new Array(4 * w * h).fill(255)});
  return brush;
}
function element(id) {
  const brush = brushOf(id);
  return {
    id, listeners: {}, hidden: false, textContent: "", children: [], style: {}, clientWidth: 200,
    value: id === "threshold" ? "0.5" : "", classes: {}, parentElement: {style: {}},
    addEventListener(kind, listener) { this.listeners[kind] = listener; },
    setAttribute() {}, getContext: () => brush,
    get classList() { return {toggle: (name, on) => { this.classes[name] = on; }}; },
    append(...more) { this.children.push(...more); },
    appendChild(one) { this.children.push(one); return one; },
    replaceChildren(...all) { this.children = all; },
  };
}
const document = {
  getElementById: (id) => elements[id] ||= element(id), createElement: element, addEventListener() {},
};
const window = {addEventListener() {}, devicePixelRatio: 2};
class Image {
  width = 3; height = 2;
  set src(address) { this.address = address; this.onload(); }
}
const URL = {createObjectURL: () => "blob:", revokeObjectURL() {}};
const health = {status: "ready", task: "detection", classes: ["cat", "<b>dog"], image_shape: [32, 32, 3]};
const fetch = async (path) => { requests.push(path); return {json: async () => health}; };
const page = new Function("document", "window", "Image", "URL", "fetch", SCRIPT + "; return {tell};")(
  document, window, Image, URL, fetch);
function seen() {
  const items = elements.bars.children.map((item) => item.children[0].children.map((e) => e.textContent));
  const found = {drawn: drawn.splice(0), items, caption: elements.caption.textContent};
  return {...found, said: elements["threshold-said"].textContent, wide: elements.answer.classes.wide};
}
(async () => {
  for (let i = 0; i < 9; i++) await null;
  const asked = requests.length;
  page.tell({size: [50, 100], detections: [
    {class: "<b>dog", score: 0.9, box: [10.5, 5, 60, 45], mask: "AAAA"},
    {class: "cat", score: 0.6, box: [0, 0, 99, 50]},
    {class: "cat", score: 0.2, box: [3, 3, 9, 9]},
  ]}, "a blob");
  elements.seen.onload();
  const first = seen();
  elements.threshold.value = "0.1";
  elements.threshold.listeners.input();
  const all = seen();
  elements.threshold.value = "1";
  elements.threshold.listeners.input();
  const none = seen(), size = [elements.boxes.width, elements.boxes.height];
  page.tell({top: [{class: "cat", probability: 1}]}, "another blob");
  const hidden = [elements.boxes.hidden, elements["threshold-row"].hidden];
  console.log(JSON.stringify({first, all, none, size, hidden, asked, requests}));
})();
"""


@pytest.fixture(scope="module")
def shown():
    """What the page shows of three objects, for three thresholds."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node here, to run the script of the page")
    (script,) = re.findall(r"<script>(.*?)</script>", PAGE, flags=re.DOTALL)
    program = f"const SCRIPT = {json.dumps(script)};{STAGE}"
    done = subprocess.run([node, "-"], input=program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def strokes(seen):
    """The boxes that were last drawn on the image, and the names beside them."""
    painted = [call for call in seen["drawn"] if call[0] == "boxes"]
    boxes = [call[3:] for call in painted if call[1] == "strokeRect"]
    names = [call[3] for call in painted if call[1] == "fillText"]
    return boxes, names


def test_objects_of_the_threshold_and_more_are_drawn_at_the_size_of_the_image(shown):
    """The image of 100x50 pixels is shown 200 wide, at two dots a pixel: four times as large."""
    assert shown["size"] == [400, 200]
    boxes, names = strokes(shown["first"])
    assert boxes[-2:] == [[0, 0, 396, 200], [42, 20, 198, 160]]  # the best on top
    assert names[-2:] == ["cat 60 %", "<b>dog 90 %"]  # as text, on the canvas
    assert shown["first"]["items"] == [["<b>dog", "90.0 %"], ["cat", "60.0 %"]]
    assert shown["first"]["caption"] == "2 of 3 objects: 1 <b>dog, 1 cat"
    assert shown["first"]["wide"] is True and shown["first"]["said"] == "50 %"


def test_a_mask_is_laid_over_the_whole_pixels_of_its_box(shown):
    painted = [c for c in shown["first"]["drawn"] if c[:2] == ["boxes", "drawImage"]]
    layer, *place = painted[-1][3:]
    assert place == [40, 20, 12, 8] and layer["width"] == 3


def test_the_threshold_asks_nothing_of_the_service(shown):
    boxes, _ = strokes(shown["all"])
    assert len(boxes) == 3 and shown["all"]["said"] == "10 %"
    assert [words for words, _ in shown["all"]["items"]] == ["<b>dog", "cat", "cat"]
    assert strokes(shown["none"]) == ([], [])
    assert shown["none"]["caption"] == "0 of 3 objects"
    assert len(shown["requests"]) == shown["asked"] == 1


def test_another_answer_hides_the_boxes(shown):
    assert shown["hidden"] == [True, True]


def test_colors_of_classes_differ(shown):
    colors = {c[2] for c in shown["first"]["drawn"] if c[1] == "strokeRect"}
    assert colors == {"hsl(210, 85%, 36%)", "hsl(30, 85%, 36%)"}

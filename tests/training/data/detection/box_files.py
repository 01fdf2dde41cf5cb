"""Tiny data sets with boxes, written in each of the formats that are read."""

import json

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog")
SIZES = {"a": (24, 32), "b": (40, 20), "c": (16, 16)}
# Of each image: the class, x1 y1 x2 y2 in whole pixels, and whether it is ignored.
OBJECTS = {
    "a": [(0, (2, 3, 12, 20), False), (1, (16, 0, 32, 24), False)],
    "b": [(1, (5, 10, 15, 30), False)],
    "c": [],
}


def write_images(folder, sizes=SIZES):
    folder.mkdir(parents=True, exist_ok=True)
    for i, (stem, size) in enumerate(sizes.items()):
        Image.new("RGB", size[::-1], (40 * i + 10, 20, 30)).save(folder / f"{stem}.png")


def coco_content(objects=OBJECTS, sizes=SIZES):
    """The content of an annotation file, whose category ids have gaps and another order."""
    images = [
        {"id": 10 + i, "file_name": f"{stem}.png", "height": h, "width": w}
        for i, (stem, (h, w)) in enumerate(sizes.items())
    ]
    ids = {image["file_name"]: image["id"] for image in images}
    annotations = []
    for stem, its in objects.items():
        for k, (x1, y1, x2, y2), ignored in its:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": ids[f"{stem}.png"],
                    "category_id": (3, 90)[k],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "iscrowd": int(ignored),
                    "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                }
            )
    categories = [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(root, content=None, name="train.json"):
    write_images(root / "photos")
    (root / name).write_text(json.dumps(coco_content() if content is None else content))
    return root


def xml_of(stem, objects=OBJECTS, sizes=SIZES):
    h, w = sizes[stem]
    its = "".join(
        f"<object><name>{CLASSES[k]}</name><difficult>{int(ignored)}</difficult><bndbox>"
        f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
        "</object>"
        for k, (x1, y1, x2, y2), ignored in objects[stem]
    )
    size = f"<size><width>{w}</width><height>{h}</height><depth>3</depth></size>"
    return f"<annotation><filename>{stem}.png</filename>{size}{its}</annotation>"


def write_voc(root, objects=OBJECTS):
    write_images(root / "VOC" / "JPEGImages")
    (root / "VOC" / "Annotations").mkdir(exist_ok=True)
    for stem in objects:
        (root / "VOC" / "Annotations" / f"{stem}.xml").write_text(xml_of(stem, objects))
    return root


def yolo_lines(stem, objects=OBJECTS, *, polygons=False):
    """The text file of an image."""
    h, w = SIZES[stem]
    lines = []
    for k, (x1, y1, x2, y2), _ in objects[stem]:
        numbers = [(x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h]
        if polygons:
            corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]) / [w, h]
            numbers = corners.ravel().tolist()
        lines.append(" ".join(map(repr, [k, *map(float, numbers)])))
    return "\n".join(lines)


def write_yolo(root, objects=OBJECTS, *, polygons=False):
    write_images(root / "images")
    (root / "labels").mkdir(exist_ok=True)
    (root / "data.yaml").write_text("train: images\nnc: 2\nnames: [cat, dog]\n")
    for stem in objects:
        text = yolo_lines(stem, objects, polygons=polygons)
        (root / "labels" / f"{stem}.txt").write_text(text)
    return root

"""Boxes in COCO's, Pascal VOC's and YOLO's files: the same objects, and every way to go wrong."""

import shutil

import numpy as np
import pytest
from PIL import Image

from convax.training.data import (
    CocoFiles,
    DataError,
    Rules,
    coco_classes,
    load_coco,
    load_instances,
    load_voc,
    load_yolo,
    voc_classes,
    yolo_classes,
)
from convax.training.data.detection.rle import decode_runs, encode_mask
from tests.training.data.detection.box_files import (
    CLASSES,
    OBJECTS,
    SIZES,
    coco_content,
    write_coco,
    write_images,
    write_voc,
    write_yolo,
    xml_of,
)

RULES = Rules((32, 32), letterbox=True)
MASKED = RULES._replace(masks=True)


def read_coco(root, rules=RULES, *more):
    return load_coco(root, CocoFiles("train.json", *more), rules)


READERS = {
    "coco": (write_coco, read_coco),
    "voc": (write_voc, lambda root, rules=RULES: load_voc(root, (), rules)),
    "yolo": (write_yolo, lambda root, rules=RULES: load_yolo(root, (), rules)),
}


@pytest.mark.parametrize("letterbox", [True, False])
def test_the_same_objects_are_the_same_in_each_format(tmp_path, letterbox):
    rules = RULES._replace(letterbox=letterbox)
    read = {}
    for name, (write, load) in READERS.items():
        read[name] = load(write(tmp_path / name), rules)
    for dataset in read.values():
        assert dataset.classes == CLASSES
        first = read["coco"].train
        np.testing.assert_array_equal(dataset.train.images, first.images)
        for one, other in zip(dataset.train.labels[:4], first.labels[:4], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
        for note, of_first in zip(dataset.train.notes, first.notes, strict=True):
            assert (note.file, note.size, note.scale) == (
                of_first.file,
                of_first.size,
                of_first.scale,
            )
            assert note.areas == pytest.approx(of_first.areas)
    boxes, classes, ignored, masks, _ = read["coco"].train.labels
    assert boxes.shape == (3, 2, 4) and masks.shape == (3, 0, 0) and not ignored.any()
    assert classes.tolist() == [[0, 1], [1, -1], [-1, -1]]
    if letterbox:  # 24x32 as it is, 40x20 by 0.8
        assert boxes[0].tolist() == [[2, 3, 12, 20], [16, 0, 32, 24]]
        np.testing.assert_allclose(boxes[1, 0], [4, 8, 12, 24], rtol=1e-6)
        assert (read["voc"].train.images[0, 24:] == 114).all()


def test_polygons_are_the_same_masks_in_both_formats(tmp_path):
    coco = read_coco(write_coco(tmp_path / "coco"), MASKED).train
    yolo = load_yolo(write_yolo(tmp_path / "yolo", polygons=True), (), MASKED).train
    for one, other in zip(coco.labels[:4], yolo.labels[:4], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    runs = coco.notes[0].masks[0]
    expected = np.zeros(SIZES["a"], bool)
    expected[3:20, 2:12] = True
    np.testing.assert_array_equal(decode_runs(runs["counts"], SIZES["a"], ""), expected)
    assert (coco.labels.masks[0, :24] == 2)[:, 16:].all()


def test_masks_of_instances_are_the_objects_of_polygons(tmp_path):
    cats = {stem: [(0, box, ignored) for _, box, ignored in its] for stem, its in OBJECTS.items()}
    coco = read_coco(write_coco(tmp_path / "coco", coco_content(cats)), MASKED).train
    write_images(tmp_path / "images")
    (tmp_path / "masks").mkdir()
    for stem, its in cats.items():
        numbers = np.zeros(SIZES[stem], np.uint8)
        for i, (_, (x1, y1, x2, y2), _) in enumerate(its):
            numbers[y1:y2, x1:x2] = 10 * i + 10
        Image.fromarray(numbers).save(tmp_path / "masks" / f"{stem}.png")
    folders = {"images": "images", "masks": "masks", "classes": ("cat",)}
    masks = load_instances(tmp_path, **folders, rules=MASKED).train
    np.testing.assert_array_equal(masks.images, coco.images)
    for one, other in zip(masks.labels[:4], coco.labels[:4], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    for one, other in zip(masks.notes, coco.notes, strict=True):
        assert (one.masks, one.areas) == (other.masks, other.areas)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_an_archive_is_read_as_its_folder(tmp_path, name, kind):
    write, load = READERS[name]
    write(tmp_path / "top" / "inside")
    packed = shutil.make_archive(str(tmp_path / "packed"), kind, tmp_path / "top")
    plain = load(tmp_path / "top" / "inside")
    for one, other in zip(load(packed).train[:2], plain.train[:2], strict=True):
        np.testing.assert_equal(one, other)


def test_classes_are_known_without_decoding(tmp_path):
    for name, (write, _) in READERS.items():
        write(tmp_path / name)
        for image in (tmp_path / name).rglob("*.png"):
            image.write_bytes(b"damaged")
    assert coco_classes(tmp_path / "coco", CocoFiles("train.json")) == CLASSES
    assert voc_classes(tmp_path / "voc", ()) == CLASSES
    assert yolo_classes(tmp_path / "yolo", ()) == CLASSES


@pytest.mark.parametrize("name", READERS)
def test_boxes_are_in_pixels_of_the_upright_image(tmp_path, name):
    write, load = READERS[name]
    write(tmp_path)
    exif = Image.Exif()
    exif[0x112] = 6
    (path,) = tmp_path.rglob("a.png")
    plain = load(tmp_path)
    lying = Image.open(path).transpose(Image.Transpose.ROTATE_90)
    lying.save(path, exif=exif)
    turned = load(tmp_path)
    np.testing.assert_array_equal(turned.train.labels.boxes, plain.train.labels.boxes)
    np.testing.assert_array_equal(turned.train.images, plain.train.images)


@pytest.mark.parametrize("name", ["coco", "voc"])
def test_annotations_of_a_lying_image_are_named(tmp_path, name):
    write, load = READERS[name]
    write(tmp_path)
    exif = Image.Exif()
    exif[0x112] = 6
    (path,) = tmp_path.rglob("a.png")
    Image.open(path).save(path, exif=exif)
    match = r"says that a.png is 24x32, but .* is 32x24 .*is it annotated lying on its side\?"
    with pytest.raises(DataError, match=match):
        load(tmp_path)


# COCO


def test_categories_are_classes_by_their_ids_which_notes_keep(tmp_path):
    train = read_coco(write_coco(tmp_path)).train
    assert [note.id for note in train.notes] == [10, 11, 12]
    assert train.notes[0].category_ids == (3, 90)


def test_crowds_are_ignored_and_runs_are_read_in_both_forms(tmp_path):
    content = coco_content()
    mask = np.zeros(SIZES["a"], bool)
    mask[5:9, 6:10] = True
    flat = [6 * 24 + 5, 4, *([20, 4] * 3)]
    plain = {"size": [24, 32], "counts": [*flat, 24 * 32 - sum(flat)]}
    content["annotations"][0] |= {"iscrowd": 1, "segmentation": encode_mask(mask), "area": 16.5}
    content["annotations"][1]["segmentation"] = plain
    train = read_coco(write_coco(tmp_path, content), MASKED).train
    assert train.labels.ignored.tolist() == [[True, False], [False] * 2, [False] * 2]
    assert train.notes[0].areas == (16.5, 16)  # the second has none of its own: its mask's
    assert train.notes[0].masks[0] == train.notes[0].masks[1] == encode_mask(mask)


def test_splits_have_their_own_annotation_files(tmp_path):
    write_coco(tmp_path)
    few = {stem: OBJECTS[stem] for stem in ("a", "c")}
    sizes = {stem: SIZES[stem] for stem in few}
    write_coco(tmp_path, coco_content(few, sizes), "val.json")
    dataset = read_coco(tmp_path, RULES, "val.json", "train.json")
    assert [part.count for part in dataset[:3]] == [3, 2, 3]
    other = coco_content(few, sizes)
    other["categories"][0]["name"] = "wolf"
    write_coco(tmp_path, other, "val.json")
    assert dataset.notes[0] == "2 images are in train and in validation"
    assert dataset.notes[1] == "3 images are in train and in test"
    with pytest.raises(
        DataError, match=r"val.json: category 90 is 'wolf' here and 'dog' in .*train"
    ):
        read_coco(tmp_path, RULES, "val.json")


def test_images_are_found_by_the_ends_of_their_paths(tmp_path):
    content = coco_content()
    write_images(tmp_path / "other")
    with pytest.raises(
        DataError, match=r"images\[0\]: two images end in 'a.png'.*write their folder"
    ):
        read_coco(write_coco(tmp_path, content))
    for image in content["images"]:
        image["file_name"] = f"photos\\{image['file_name']}"
    dataset = read_coco(write_coco(tmp_path, content))
    assert dataset.train.count == 3 and "3 images that no annotation file lists" in dataset.notes[0]


def change(key, i, **values):
    def changed(content):
        content[key][i] |= values
        return content

    return changed


def shares(content):
    for annotation in content["annotations"]:
        annotation["bbox"] = [0.1, 0.1, 0.5, 0.5]
    return content


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        (
            change("annotations", 0, bbox=[2, 3, -1, 17]),
            r"train.json: annotation 0: bbox: got 2, 3, -1, 17, need x, y, width and height",
        ),
        (
            change("annotations", 1, bbox=[20, 0, 16, 24]),
            r"annotation 1: .*out of its image of 24x32 by more than a pixel; correct it",
        ),
        (
            change("annotations", 1, bbox=[16, 6, 32, 24]),
            r"annotation 1: .*a pixel; its bbox looks like two corners, where COCO has x, y",
        ),
        (
            change("annotations", 2, bbox=[5, 10, 40, 2]),
            r"annotation 2: .*out of its image of 40x20",
        ),
        (lambda content: content["annotations"][2].pop("bbox") and content, r"bbox: got None"),
        (
            change("annotations", 0, bbox=[1, 2, 3]),
            r"annotation 0: bbox: got .* a list of 4 numbers",
        ),
        (change("annotations", 0, bbox=None), r"annotation 0: bbox: got None"),
        (change("annotations", 0, bbox=[1, 2, float("nan"), 2]), r"bbox: got .*nan"),
        (shares, r"train.json: all boxes lie within \[0, 1\], which looks like shares"),
        (change("annotations", 1, id=0), r"annotation 0: two annotations have this id"),
        (change("annotations", 1, id="x"), r"annotations\[1\]: id: got 'x', need a whole number"),
        (change("annotations", 1, category_id=4), r"annotation 1: no category has id 4"),
        (change("annotations", 1, image_id=4), r"annotation 1: no image has id 4"),
        (change("annotations", 1, iscrowd=2), r"annotation 1: iscrowd: got 2, need 0 or 1"),
        (change("annotations", 1, area=-1), r"annotation 1: area: got -1, need a number"),
        (
            change("annotations", 1, segmentation=[[1, 2, 3, 4]]),
            r"a polygon of 4 numbers, need x and",
        ),
        (change("annotations", 1, segmentation=[[1, 2, 3, 4, 5, "x"]]), r"a polygon: got .*'x'"),
        (
            change("annotations", 1, segmentation=[[1, 2, 60, 4, 5, 6]]),
            r"annotation 1: segmentation: a polygon reaches out of its image of 24x32",
        ),
        (
            change("annotations", 1, segmentation={"size": [4, 4], "counts": "04"}),
            r"need counts, and size \[24, 32\], that of its image: got size \[4, 4\]",
        ),
        (change("annotations", 1, segmentation="x"), r"need polygons, or runs of pixels"),
        (change("annotations", 1, segmentation=[]), r"annotation 1: an object without a mask"),
        (change("images", 1, id=10), r"images\[1\]: two images have id 10"),
        (change("images", 1, file_name="z.png"), r"images\[1\]: no image 'z.png' in"),
        (change("images", 1, file_name=3), r"images\[1\]: file_name: got 3, need a text"),
        (change("images", 1, file_name="\ud800"), r"images\[1\]: file_name: got '.ud800', need a"),
        (change("images", 1, width=21), r"says that b.png is 40x21, but .* is 40x20"),
        (change("categories", 1, id=90), r"categories\[1\]: id 90, name 'cat': there twice"),
        (
            change("categories", 1, name=" "),
            r"categories\[1\]: class '': a name needs printable characters",
        ),
        (change("categories", 1, name="c\0t"), r"categories\[1\]: class 'c.x00t': a name needs"),
        (change("images", 1, file_name="a.png"), r"images\[1\]: a.png is image 10, too; list it"),
        (lambda content: content | {"images": []}, r"train.json: no images; add some"),
        (lambda content: content | {"categories": []}, r"train.json: no categories"),
        (
            lambda content: content | {"annotations": {}},
            r"no list of 'annotations'; need a COCO file",
        ),
        (lambda content: [], r"no list of 'images'"),
    ],
)
def test_each_mistake_in_a_coco_file_is_named(tmp_path, changed, match):
    with pytest.raises(DataError, match=match):
        read_coco(write_coco(tmp_path, changed(coco_content())), MASKED)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\ufeff{}", "nul"])
def test_what_is_no_json_is_named(tmp_path, text):
    write_coco(tmp_path)
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(DataError, match=r"train.json: (not JSON|no list)"):
        read_coco(tmp_path)


def test_an_annotation_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"data.validation_annotations: no file val.json in"):
        read_coco(write_coco(tmp_path), RULES, "val.json")
    with pytest.raises(
        DataError, match=r"no such folder; data.path should be a folder, or an arch"
    ):
        read_coco(tmp_path / "nowhere")


def test_polygons_beside_their_image_are_clipped_where_that_is_asked(tmp_path):
    content = change("annotations", 1, segmentation=[[16, 0, 60, 0, 60, 24, 16, 24]])(
        coco_content()
    )
    train = read_coco(write_coco(tmp_path, content), MASKED._replace(clip=True)).train
    assert decode_runs(train.notes[0].masks[1]["counts"], SIZES["a"], "")[:, 16:].all()


# Pascal VOC


def lists_of(root, **lists):
    folder = root / "VOC" / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    for name, stems in lists.items():
        (folder / f"{name}.txt").write_text("\n".join(stems) + "\n\n")
    return root


def test_lists_divide_the_images(tmp_path):
    root = lists_of(write_voc(tmp_path), trainval=["b", "a"], test=["c"])
    dataset = load_voc(root, (), RULES)
    assert [note.id for note in dataset.train.notes] == ["b", "a"]
    assert [part.count for part in dataset[:3]] == [2, 0, 1]
    alone = load_voc(lists_of(root, train=["a"]), (), RULES)
    assert "1 image without annotations, or on no list" in alone.notes[0]


def test_classes_that_are_those_of_the_objects_are_counted_the_rarest_first(tmp_path):
    root = write_voc(tmp_path)

    def said(classes):
        found = [n for n in load_voc(root, classes, RULES).notes if n.startswith("data.classes")]
        return [note.partition("objects are: ")[2] for note in found]

    assert (said(()), said(CLASSES)) == (["cat (1), dog (2)"], [])
    file = root / "VOC" / "Annotations" / "b.xml"
    head, its = file.read_text().removesuffix("</annotation>").split("<object>")
    many = [f"<object>{its}".replace("dog", f"class{i:02}") for i in range(30)]
    file.write_text(f"{head}{''.join(many)}</annotation>")
    (line,) = said(())
    assert line.startswith("cat (1), class00 (1)") and line.endswith("class18 (1), 12 more")


def test_difficult_objects_are_ignored(tmp_path):
    objects = OBJECTS | {"b": [(1, (5, 10, 15, 30), True)]}
    dataset = load_voc(write_voc(tmp_path, objects), (), RULES)
    assert dataset.train.labels.ignored.tolist()[1] == [True, False]
    assert "1 object ignored: crowds, or difficult" in dataset.notes


def test_a_size_of_zeros_says_nothing(tmp_path):
    write_voc(tmp_path)
    path = tmp_path / "VOC" / "Annotations" / "a.xml"
    path.write_text(xml_of("a").replace("<width>32<", "<width>0<"))
    assert load_voc(tmp_path, (), RULES).train.count == 3


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("<xmax>12<", "<xmax>1<", r"a.xml: object 1: box 2 3 1 20: x2 < x1"),
        ("<xmax>12<", "<xmax>many<", r"a.xml: object 1: bndbox: need xmin, ymin, xmax and ymax"),
        ("<xmax>12<", "<xmax>nan<", r"a.xml: object 1: bndbox"),
        ("<xmax>32<", "<xmax>40<", r"a.xml: object 2: .*reaches out of its image of 24x32"),
        ("<name>cat<", "<name><", r"a.xml: object 1: no name; write its class"),
        ("<name>cat<", "<name>c\u200bt<", r"a.xml: object 1: class 'c.u200bt': a name needs"),
        (">0</difficult>", ">yes</difficult>", r"object 1: difficult: got 'yes', need 0 or 1"),
        ("<width>32<", "<width>33<", r"says that a.png is 24x33"),
        ("annotation>", "image>", r"a.xml: its root is image, need annotation"),
        ("</annotation>", "", r"a.xml: not XML: no element found"),
        ("<annotation>", "<!DOCTYPE a><annotation>", r"a.xml: has a DOCTYPE, which is not read"),
        ("<annotation>", '<?xml version="1.0" encoding="x-none"?><annotation>', r"a.xml: not XML"),
    ],
)
def test_each_mistake_in_an_xml_file_is_named(tmp_path, old, new, match):
    write_voc(tmp_path)
    path = tmp_path / "VOC" / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=match):
        load_voc(tmp_path, (), RULES)


def test_what_voc_misses_is_named(tmp_path):
    root = write_voc(tmp_path / "one")
    with pytest.raises(
        DataError, match=r"a.xml: object 2: class 'dog' in train, which is none that d"
    ):
        load_voc(root, ("cat",), RULES)
    with pytest.raises(DataError, match=r"z of train has no Annotations/z.xml; add it"):
        load_voc(lists_of(root, train=["z"]), (), RULES)
    with pytest.raises(DataError, match=r"Main: a is in test and in another split"):
        load_voc(lists_of(root, train=["a", "b"], test=["a"]), (), RULES)
    with pytest.raises(DataError, match=r"train.txt: names an image twice"):
        load_voc(lists_of(root, train=["a", "a"]), (), RULES)
    with pytest.raises(DataError, match=r"class 'cat' in test, which is none that the training im"):
        load_voc(lists_of(root, train=["b"], test=["a"]), (), RULES)
    (root / "VOC" / "ImageSets" / "Main" / "train.txt").unlink()
    with pytest.raises(DataError, match=r"Main: no train.txt beside those of other splits"):
        load_voc(root, (), RULES)
    (root / "VOC" / "JPEGImages" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a.xml: no image a in"):
        load_voc(lists_of(root, train=["a"], test=[]), (), RULES)
    with pytest.raises(DataError, match=r"no folder with JPEGImages and Annotations"):
        load_voc(tmp_path / "one" / "VOC" / "JPEGImages", (), RULES)


# YOLO


def text_of(root, text, stem="a"):
    write_yolo(root)
    (root / "labels" / f"{stem}.txt").write_text(text)
    return root


def test_splits_are_folders_above_or_below(tmp_path):
    write_yolo(tmp_path / "train")
    write_yolo(tmp_path / "valid")
    dataset = load_yolo(tmp_path, (), RULES)
    assert [part.count for part in dataset[:3]] == [3, 3, 0]
    for kind in ("images", "labels"):
        for split in ("train", "test"):
            shutil.copytree(tmp_path / "train" / kind, tmp_path / "x" / kind / split)
    assert [p.count for p in load_yolo(tmp_path / "x", CLASSES, RULES)[:3]] == [3, 0, 3]


def test_images_without_a_text_file_have_no_objects(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "labels" / "b.txt").rename(tmp_path / "labels" / "z.txt")
    dataset = load_yolo(tmp_path, (), RULES)
    assert dataset.train.labels.classes.tolist() == [[0, 1], [-1, -1], [-1, -1]]
    assert dataset.notes == (
        "1 file passed over: 1 text file without an image",
        "1 image without a text file, taken for image without objects",
        "2 images without objects",
    )


@pytest.mark.parametrize(
    "yaml",
    [
        "names: ['cat', \"dog\"]  # two",
        "path: .\nnames:\n  - cat\n  - dog\nnc: 2",
        "names:\n  0: cat\n  1: 'dog'\n",
        "names: {0: cat, 1: dog}",
        "names: [cat,\n  dog]\n",
    ],
)
def test_names_of_classes_in_yaml(tmp_path, yaml):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(yaml)
    assert load_yolo(tmp_path, (), RULES).classes == CLASSES


@pytest.mark.parametrize(
    ("yaml", "match"),
    [
        ("names: [cat, dog\nval: x", r"data.yaml: the \[ behind names is not closed; correct it"),
        ("names: {0: cat, 2: dog}", r"names: got 2: dog, need '1:' and a name"),
        ("names:\n  0: cat\n  3: dog", r"names: got 3: dog, need '1:' and a name"),
        ("names:\n - cat\n dog", r"names: got dog, need '-' and a name"),
        ("names: ['a, b', c]", r"names: the quote of 'a is not closed"),
        ("names: my.names", r"names are my.names, need a list of them"),
        ("nc: 3\nnames: [cat, dog]", r"data.yaml: nc is 3, but names are 2; correct one of them"),
        ("names: [cat, c\0t]", r"data.yaml: class 'c.x00t': a name needs printable characters"),
    ],
)
def test_each_mistake_in_yaml_is_named(tmp_path, yaml, match):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").write_text(yaml)
    with pytest.raises(DataError, match=match):
        load_yolo(tmp_path, (), RULES)


def test_names_of_classes_in_text_and_in_the_config(tmp_path):
    write_yolo(tmp_path)
    (tmp_path / "data.yaml").unlink()
    assert load_yolo(tmp_path, ("x", "y"), RULES).classes == ("x", "y")
    with pytest.raises(DataError, match=r"nobody names the classes: need names in data.yaml"):
        load_yolo(tmp_path, (), RULES)
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n")
    dataset = load_yolo(tmp_path, (), RULES)
    assert dataset.classes == CLASSES and dataset.notes == ("1 image without objects",)
    (tmp_path / "labels" / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(DataError, match=r"classes.txt: names no class, or one twice: got cat, cat"):
        load_yolo(tmp_path, (), RULES)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("0 16 12 4 4", r"a.txt: all numbers are above 1, which looks like pixels"),
        ("0 0.5 0.5 4 0.4", r"a.txt, line 1: box .*reaches out of its image of 24x32"),
        ("0 0.5 0.5 -0.1 0.4", r"line 1: got 0.5 0.5 -0.1 0.4, need x and y of the center, width"),
        ("0 0.1 0.2 0.5 0.6", r"a pixel; its numbers look like two corners, where YOLO has"),
        ("\n0 0.5 0.5", r"a.txt, line 2: got 3 numbers, need 5, the class, x and y"),
        ("0 0.5 0.5 0.2 0.2 0.9", r"got 6 numbers, .*or is there a score behind the box\?"),
        ("2 0.5 0.5 0.2 0.2", r"a.txt, line 1: class 2 where there are 2, 0 to 1"),
        ("0.5 0.5 0.5 0.2 0.2", r"class 0.5 where there are 2"),
        ("cat 0.5 0.5 0.2 0.2", r"a.txt, line 1: got 'cat', need a number"),
        ("0 0.5 nan 0.2 0.2", r"got 'nan', need a number"),
    ],
)
def test_each_mistake_in_a_text_file_is_named(tmp_path, text, match):
    with pytest.raises(DataError, match=match):
        load_yolo(text_of(tmp_path, text), (), RULES)


def test_boxes_without_polygons_are_no_instances(tmp_path):
    with pytest.raises(DataError, match=r"a.txt, line 1: an object without a mask"):
        load_yolo(write_yolo(tmp_path), (), MASKED)


def test_what_yolo_misses_is_named(tmp_path):
    write_images(tmp_path / "images")
    (tmp_path / "data.yaml").write_text("names: [cat]")
    with pytest.raises(
        DataError, match=r"no image has a text file: need labels/x.txt for images/x"
    ):
        load_yolo(tmp_path, (), RULES)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"a.txt: not a UTF-8 text file"):
        load_yolo(tmp_path, (), RULES)
    shutil.move(tmp_path / "images", tmp_path / "test")
    with pytest.raises(DataError, match=r"no images to train on; put them into images/"):
        load_yolo(tmp_path, (), RULES)

"""Images with the objects in them: readers of boxes, and what all of them check.

coco, voc, yolo   one file for each format of annotations
instances         masks whose numbers tell objects apart
scenes            made-up scenes of small images
objects           images with their objects, and what is checked of them
decoding          their images, decoded once and read again with what is annotated
ground_truth      from these, whatever says where they are, to labels
painted           whose pixel is whose, painted when it is looked at
proposals         regions that may hold an object, found without learning
proposed          the proposals of a data set, found once and kept on disk
rle               masks as runs of pixels

A new format is one file here that gives `Annotated` images to `read_annotated`, a table in
`training.config` and a line in `training.data.load`.
"""

from .coco import CocoFiles, coco_classes, find_coco_files, load_coco
from .instances import load_instances
from .objects import Rules
from .proposals import Proposing, propose_batch, proposing, stand_ins
from .proposed import with_proposals
from .scenes import Scenes, load_scenes
from .scenes import read_source as read_scene_source
from .voc import has_voc, load_voc, voc_classes
from .yolo import has_yolo, load_yolo, yolo_classes

__all__ = [
    "CocoFiles",
    "Proposing",
    "Rules",
    "Scenes",
    "coco_classes",
    "find_coco_files",
    "has_voc",
    "has_yolo",
    "load_coco",
    "load_instances",
    "load_scenes",
    "load_voc",
    "load_yolo",
    "propose_batch",
    "proposing",
    "read_scene_source",
    "stand_ins",
    "voc_classes",
    "with_proposals",
    "yolo_classes",
]

"""Data sets as arrays: reading, fetching, splitting, batching, preprocessing.

load         the data of a config, by its source; where its files lie
dataset      `Dataset`, `Split`, the fingerprint, which examples a batch has
batches      the batches of a training, read ahead
digits, idx, cifar, folder, npz, masks, csv_table
             one file for each source
detection    the sources of images with the objects in them
color_table  which class a color in a mask stands for
mask_folders where masks are, by names and content
balanced     which examples a batch has, of each class as many
stratify     which examples a split takes, by their classes
labels       what labels say of classes: how many examples each has
tree         labels as pytrees of NumPy arrays
pixels       the format of an image: channels, dtype, range; the same for all that comes after
image        image files: decoding, formats, sizes
raster       images read as they are stored: any number of channels, 16 bits, floating point
mask_file    masks as arrays, whose numbers or colors nothing may change
memory       data that a program has at hand
registered   data of one's own, by a function that was registered
decoded_cache
             decoded images kept on disk for the next command
each_file    many files on several threads: all that are bad are said at once
placement    where an image lies on a canvas of another aspect
jpeg_scans   how many scans a JPEG has, which is its work
metadata     the orientation in a file; all else that is no pixels is left aside
archive      .zip and .tar files, read in place
listing      which files of a folder are images, and what is passed over
notes        what people should know of how data was read
spool        where batches wait on their way from worker processes
streaming    arrays whose rows are made, of image files, while training goes on
fetch        public data sets: mirrors, checksums
download     one file over HTTP, within limits
preprocess   from stored images to what the network sees; jitted with the step
augment      random changes of training images
errors       `DataError`: one line that names the file

A new source is one file here or there, a table in `training.config` and a line in `load`.

NumPy alone is imported here; what a source needs besides is imported when it is used.
"""

from .batches import read_batches
from .cifar import load_cifar
from .csv_table import describe_columns, load_table, table_classes
from .dataset import (
    SPLITS,
    Dataset,
    ImageNote,
    Split,
    batch_indices,
    eval_batches,
    fingerprint,
    split,
    spread,
    unsplit,
)
from .detection import (
    CocoFiles,
    Proposing,
    Rules,
    Scenes,
    coco_classes,
    find_coco_files,
    has_voc,
    has_yolo,
    load_coco,
    load_instances,
    load_scenes,
    load_voc,
    load_yolo,
    propose_batch,
    proposing,
    read_scene_source,
    stand_ins,
    voc_classes,
    with_proposals,
    yolo_classes,
)
from .digits import load_digits
from .errors import DataError
from .fetch import DATASETS, default_directory, fetch
from .folder import folder_classes, load_folder
from .idx import load_idx, read_idx
from .image import (
    EXTENSIONS,
    convert,
    convert_with_size,
    decode,
    decode_with_size,
    inverted,
    on_canvas,
    quiet_pillow,
    read_image,
    resize_image,
    resize_raster,
    upright_size,
)
from .labels import IGNORED, examples_of_each, most_objects, named
from .listing import images_below, is_image_file
from .load import MADE, PACKED, load, locate
from .mask_file import decode_mask
from .mask_folders import find_mask_folders
from .masks import load_masks, mask_pairs
from .memory import Arrays, load_memory
from .notes import Notes
from .npz import load_npz
from .pixels import COLOR, GRAY, Channels, PixelFormat, check_pixels, format_of, pixel_format
from .registered import load_registered
from .streaming import Streamed

__all__ = [
    "COLOR",
    "DATASETS",
    "EXTENSIONS",
    "GRAY",
    "IGNORED",
    "MADE",
    "PACKED",
    "SPLITS",
    "Arrays",
    "Channels",
    "CocoFiles",
    "DataError",
    "Dataset",
    "ImageNote",
    "Notes",
    "PixelFormat",
    "Proposing",
    "Rules",
    "Scenes",
    "Split",
    "Streamed",
    "batch_indices",
    "check_pixels",
    "coco_classes",
    "convert",
    "convert_with_size",
    "decode",
    "decode_mask",
    "decode_with_size",
    "default_directory",
    "describe_columns",
    "eval_batches",
    "examples_of_each",
    "fetch",
    "find_coco_files",
    "find_mask_folders",
    "fingerprint",
    "folder_classes",
    "format_of",
    "has_voc",
    "has_yolo",
    "images_below",
    "inverted",
    "is_image_file",
    "load",
    "load_cifar",
    "load_coco",
    "load_digits",
    "load_folder",
    "load_idx",
    "load_instances",
    "load_masks",
    "load_memory",
    "load_npz",
    "load_registered",
    "load_scenes",
    "load_table",
    "load_voc",
    "load_yolo",
    "locate",
    "mask_pairs",
    "most_objects",
    "named",
    "on_canvas",
    "pixel_format",
    "propose_batch",
    "proposing",
    "quiet_pillow",
    "read_batches",
    "read_idx",
    "read_image",
    "read_scene_source",
    "resize_image",
    "resize_raster",
    "split",
    "spread",
    "stand_ins",
    "table_classes",
    "unsplit",
    "upright_size",
    "voc_classes",
    "with_proposals",
    "yolo_classes",
]

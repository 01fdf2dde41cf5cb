"""The trained network as one function: images in, probabilities (or embeddings) out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from ..model import Layer
from ..training import data
from ..training.common.memory import largest_operation
from ..training.data.preprocess import Preprocessing
from ..training.run.directory import Run
from ..training.run.load_model import LoadedModel, load_model
from ..training.tasks.classification.conformal import ConformalSets, classes_in_set
from ..training.tasks.registry import make_task, spec_of, tasks_where
from ..training.tasks.task import Task
from .calibration.file import Calibration, CalibrationError, load_calibration
from .ensemble import Runs, check_compatible, list_runs
from .forward import make_program
from .image_inputs import SizedImage, decoded, iter_files, to_sized_image


class TopK(NamedTuple):
    """The most probable classes of some images, the most probable first."""

    classes: tuple[tuple[str, ...], ...]  # N times k names
    probabilities: np.ndarray  # (N, k) float32


class Trained(NamedTuple):
    """A network as it was trained: what `convax.explain` looks into."""

    net: Layer
    params: Any
    state: Any


class Prediction(NamedTuple):
    """One image of many, and the prediction for it."""

    source: Any  # its file; or what was given in place of one
    prediction: Any  # as a row of what a `Predictor` returns


MOST_BYTES = 2**30  # of the operands and results of one operation of a network
FEW = 7
# On CPU a program takes the time of its images and about three more: of 1, 8 and 64 images 0.11,
# 0.33 and 2.0 ms of CPU time for LeNet-5, for ResNet-18 4.4, 10.8 and 61, for MobileNetV2 0.58, 2.3
# and 13 (the column "folded" of `python benchmarks/folding.py --side 32 --batches 1 8 64`).
EXTRA = 3


def cut(count: int, sizes: Sequence[int], *, extra: int | None = None) -> list[int]:
    """Cut a number of images into batches of given sizes, with little padding.

    Args:
        count: how many images.
        sizes: that there are programs for, in ascending order.
        extra: a program takes as long as its images and so many more: the batches are what takes
            least. By default at most half of a batch is padding, or as many as `FEW` images: on a
            GPU these take no time.

    Example:
        >>> cut(65, (1, 8, 64, 512)), cut(300, (1, 8, 64, 512)), cut(513, (1, 8, 64, 512))
        ([64, 1], [512], [512, 1])
        >>> cut(2, (1, 8, 64), extra=3), cut(3, (1, 8, 64), extra=3), cut(33, (1, 8, 64), extra=3)
        ([1, 1], [8], [8, 8, 8, 8, 1])
    """
    whole, rest = divmod(count, sizes[-1])
    return [sizes[-1]] * whole + _cut_rest(rest, sizes, extra)


def _cut_rest(count: int, sizes: Sequence[int], extra: int | None) -> list[int]:
    """Cut as `cut` does what the largest size holds."""
    if count == 0:
        return []
    enough = next(i for i, size in enumerate(sizes) if size >= count)
    padded = [sizes[enough]]
    if enough == 0 or (extra is None and padded[0] - count <= max(count, FEW)):
        return padded
    fitting = sizes[enough - 1]
    several = [fitting, *_cut_rest(count - fitting, sizes, extra)]
    if extra is not None and sum(padded) + extra <= sum(several) + extra * len(several):
        return padded
    return several


def each_row(predictions: Any) -> list[Any]:
    """Return what belongs to each image of a batch: rows of an array, or of each of several.

    Example:
        >>> each_row({"a": np.array([1, 2])})
        [{'a': np.int64(1)}, {'a': np.int64(2)}]
    """
    count = len(jax.tree.leaves(predictions)[0])
    return [jax.tree.map(lambda leaf, i=i: leaf[i], predictions) for i in range(count)]


class Predictor:
    """A trained network with its preprocessing.

    Attributes:
        classes: the name of each class.
        category_ids: the number of each class in the data set, where it has such numbers.
        image_shape: ``(H, W, C)`` of the images it takes.
        task: what it learned: `training.tasks.task`.
        function: ``function(params, state, images) -> answers``, pure and jitted, for use inside
            other JAX programs. A detector that proposes no regions itself takes them too:
            ``function(params, state, images, proposals)``, ``(N, R, 4)``.
        params, state: its arrays; those that were trained, but for batch norms that are folded.
        folded: the paths of those norms: see `model.fold_batch_norm`.
        networks: how many answer together; of several, every one of these arrays has that axis in
            front.
        sets: of a calibrated network, what its sets of classes are, for `class_sets`; else None.
        trained, preprocessing: the network as it was trained, with all its layers, and what comes
            before it, for `convax.explain`; of several networks `trained` is None, and the
            preprocessing is that of the first.
    """

    def __init__(
        self,
        function: Callable[..., Array],
        params: Any,
        state: Any,
        classes: tuple[str, ...],
        image_shape: tuple[int, int, int],
        task: Task,
        networks: int = 1,
        trained: Trained | None = None,
        preprocessing: Preprocessing | None = None,
        category_ids: tuple[int, ...] = (),
        folded: tuple[str, ...] = (),
        constants: bool = False,
        sets: ConformalSets | None = None,
    ):
        self.sets = sets
        self.trained, self.preprocessing = trained, preprocessing
        self.function, self.params, self.state = function, params, state
        self.classes, self.image_shape, self.task = classes, image_shape, task
        self.folded = folded
        self.networks, self.category_ids = networks, category_ids
        self._constant = jax.jit(partial(function, params, state)) if constants else None

    @property
    def pixels(self) -> data.PixelFormat:
        """Return the format of the images it takes."""
        if self.preprocessing is None:
            return data.PixelFormat(self.image_shape[-1])
        return self.preprocessing.pixel_format

    @property
    def letterbox(self) -> bool:
        """Return whether images keep their aspect, see `training.data.placement`."""
        return self.preprocessing is not None and self.preprocessing.fit == "letterbox"

    def __call__(self, images: Any, *, threshold: float | None = None) -> Any:
        """Predict each class's probability for each image, or pixel; or each image's embedding.

        Args:
            images: ``(N, H, W, C)``, or ``(N, H, W)`` where C is 1: uint8 in 0..255, or floating
                point in [0, 1]. Or one image, ``(H, W, C)``. Or a list of images, each of any
                size: files, arrays ``(h, w)`` or ``(h, w, c)``, or Pillow's images; they are
                resized as `read` does.
            threshold: of a detection, the least score: what is below becomes an empty row.

        Returns:
            ``(N, K)`` float32 of a classification, ``(N, H, W, K)`` of a segmentation: what belongs
            together sums to 1. ``(N, D)`` of an embedding. `model.Detections` of a detection, boxes
            in pixels of the images ``(H, W)``; of a list in pixels of each image, and within it.
            Of one image the same without N.

        Raises:
            ValueError: wrong shape, or floating-point values outside [0, 1]; a threshold outside
                [0, 1], or of what has no scores.
            TypeError: any other dtype.
            DataError: one of Pillow's images is damaged; or regions cannot be proposed.
        """
        if threshold is not None:
            self._check_threshold(threshold)
            return self(images).above(threshold)
        if isinstance(images, (list, tuple)):
            with data.quiet_pillow():
                sized = [self._sized(image) for image in images]
            return self._predict_sized(sized)
        images = np.asarray(images)
        if images.shape == self.image_shape != (1, 1, 1):  # which may as well be (N, H, W)
            return _of_each(lambda a: a[0], self(images[None]))
        images = self._check(images)
        if len(images) in self.sizes:  # nothing to pad, cut or join: every microsecond counts here
            return self._computed(images, *self._more(images))
        if not len(images):
            answer = jax.eval_shape(self.function, self.params, self.state, *self._one_image)
            return jax.tree.map(lambda a: np.zeros((0, *a.shape[1:]), a.dtype), answer)
        answers, start = [], 0
        extra = EXTRA if jax.default_backend() == "cpu" else None
        for size in cut(len(images), self.sizes, extra=extra):
            answers.append(self._predict_padded(images[start : start + size], size))
            start += size
        return jax.tree.map(lambda *parts: np.concatenate(parts), *answers)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Return how many images a program takes, of each of the programs that calls compile.

        They are those of the task, but for the ones whose largest operation would take more than
        `MOST_BYTES`.
        """
        bytes_each = largest_operation(self.function, self.params, self.state, *self._one_image)
        first, *others = self.task.batches.inference
        return first, *(size for size in others if size * bytes_each <= MOST_BYTES)

    def top_k(self, images: Any, k: int) -> TopK:
        """Return the k most probable classes of each image; of equal ones the first comes first.

        Args:
            images: as a call takes; one image is taken as N = 1.
            k: in 1..K.

        Raises:
            ValueError: k is out of range, or the network is of another task.
            ValueError, TypeError, DataError: as a call.
        """
        if not self.task.spec.ranks:
            fitting = " or ".join(tasks_where(lambda spec: spec.ranks))
            raise ValueError(f"top_k: got a network of {self.task.name}, need {fitting}")
        if not 1 <= k <= len(self.classes):
            raise ValueError(f"top_k: k: got {k}, need 1 to {len(self.classes)}")
        probabilities = np.atleast_2d(self(images))
        order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :k]
        names = tuple(tuple(self.classes[i] for i in row) for row in order)
        return TopK(names, np.take_along_axis(probabilities, order, axis=-1))

    def class_sets(self, images: Any) -> tuple[tuple[str, ...], ...]:
        """Return for each image the set of classes that holds its own as often as was asked for.

        The most probable come first. A set may be empty: see `classes_in_set`.

        Args:
            images: as a call takes; one image is taken as N = 1.

        Raises:
            CalibrationError: none were fitted, or the network was loaded without `calibrated`.
            ValueError, TypeError, DataError: as a call.
        """
        if self.sets is None:
            raise CalibrationError(
                "class_sets: no sets of classes are fitted; `convax calibrate RUN --conformal 0.9` "
                "does so, and convax.load(RUN, calibrated=True) takes them"
            )
        rows = np.atleast_2d(self(images))
        return tuple(self.set_of(row) for row in rows)

    def set_of(self, probabilities: np.ndarray) -> tuple[str, ...]:
        """Return the set of one image by its probabilities ``(K,)``; there are `sets`."""
        assert self.sets is not None
        order = np.argsort(-probabilities, kind="stable")
        inside = classes_in_set(probabilities, self.sets)
        return tuple(self.classes[k] for k in order if inside[k])

    def stream(
        self,
        sources: Iterable[Any] | str | Path,
        *,
        batch: int = 64,
        invert: bool = False,
        on_error: Callable[[Any, data.DataError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Yield predictions for any number of images, in their order, in the memory of two batches.

        Boxes are in pixels of each image, as those of a list. The images of the next batch are
        decoded on a few threads while the network answers this one. No more than that is read
        ahead of what is asked for.

        Args:
            sources: files; folders, of which all images are taken in the order of their names,
                those in folders inside too; or images, as a call takes in a list. One file or
                folder may stand alone.
            batch: how many images the network is given at once.
            invert: swap black and white, as `read` does.
            on_error: called as ``on_error(source, error)`` in place of a prediction for what cannot
                be read; by default the error is raised, after the predictions before it.

        Raises:
            ValueError: `batch` is less than 1.
            DataError: see `on_error`.
            OSError: a folder cannot be read; after the answers before it.
        """
        if batch < 1:
            raise ValueError(f"stream: batch: got {batch}, need 1 or more")
        return self._stream(sources, batch, invert, on_error, self._predict_sized)

    def stream_as_seen(
        self,
        sources: Iterable[Any],
        *,
        batch: int = 64,
        invert: bool = False,
        on_error: Callable[[Any, data.DataError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Yield as `stream`, but with boxes in pixels of the images as the network sees them.

        For `Task.predict`, which knows where in those an image lies.
        """

        def answer(sized: list[SizedImage]) -> Any:
            return self(self._stacked([each.image for each in sized]))

        return self._stream(sources, batch, invert, on_error, answer)

    def _stream(
        self,
        sources: Iterable[Any] | str | Path,
        batch: int,
        invert: bool,
        on_error: Callable[[Any, data.DataError], None] | None,
        answer: Callable[[list[SizedImage]], Any],
    ) -> Iterator[Prediction]:
        def decode(source: Any) -> SizedImage:
            found = self._sized(source)
            if not invert:
                return found
            return found._replace(
                image=data.inverted(
                    found.image, found.size, letterbox=self.letterbox, channels=self.pixels
                )
            )

        files = iter_files([sources] if isinstance(sources, (str, Path)) else sources)
        for items, answers in decoded(files, decode, answer, batch):
            following = iter(each_row(answers))
            for source, error in items:
                if error is None:
                    yield Prediction(source, next(following))
                elif on_error is None:
                    raise error
                else:
                    on_error(source, error)

    def warm_up(self, sizes: Iterable[int] | None = None, *, dtype: Any = None) -> None:
        """Compile now what calls with so many images will need; they compile nothing then.

        Args:
            sizes: how many images; by default all numbers there are, which is to compile one
                program for each of `sizes`.
            dtype: of the images; by default that of `pixels`. Those in [0, 1] are float32.

        Raises:
            ValueError: a size is less than 1.
        """
        wanted = self.sizes if sizes is None else tuple(sizes)
        if wanted and min(wanted) < 1:
            raise ValueError(f"warm_up: sizes: got {min(wanted)}, need 1 or more")
        for count in wanted:
            # Beyond the largest it is cut up, and what is left over may have any size.
            self(
                self.blank(count) if dtype is None else np.zeros((count, *self.image_shape), dtype)
            )

    def blank(self, count: int) -> np.ndarray:
        """Return images of the least value, of the shape and dtype that it takes."""
        return self.pixels.blank(count, *self.image_shape)

    def _sized(self, source: Any) -> SizedImage:
        return to_sized_image(
            source, self.image_shape, letterbox=self.letterbox, pixels=self.pixels
        )

    def _predict_sized(self, sized: Sequence[SizedImage]) -> Any:
        """Predict images that had other sizes, with boxes in pixels of what they were."""
        found, in_image = self(self._stacked([each.image for each in sized])), self.task.in_image
        if in_image is None or not sized:
            return found
        rows = zip(each_row(found), sized, strict=True)
        return jax.tree.map(lambda *r: np.stack(r), *(in_image(r, each.size) for r, each in rows))

    def _stacked(self, images: Sequence[np.ndarray]) -> np.ndarray:
        if len({image.dtype for image in images}) > 1:  # some of them in [0, 1]
            images = [self.pixels.unit(image) for image in images]
        return np.stack(images) if images else self.blank(0)

    def read(self, file: Any, *, invert: bool = False) -> np.ndarray:
        """Read an image file, of any size, gray or color, for this network.

        Args:
            file: a path, or a binary file object's bytes.
            invert: swap black and white, for dark strokes on light paper where the network
                has learned light ones on dark.

        Raises:
            DataError: it cannot be read as an image; names the file.
        """
        size = self.image_shape[:2]
        with data.quiet_pillow():
            image, was = data.decode_with_size(
                file, size=size, channels=self.pixels, letterbox=self.letterbox
            )
        if not invert:
            return image
        return data.inverted(image, was, letterbox=self.letterbox, channels=self.pixels)

    def _predict_padded(self, images: np.ndarray, size: int) -> Any:
        # At most so many programs are compiled however the number of images varies.
        count = len(images)
        batch = [_padded(array, size) for array in (images, *self._more(images))]
        return jax.tree.map(lambda a: a[:count], self._computed(*batch))

    def _computed(self, *batch: np.ndarray) -> Any:
        """Return what the function gives, as arrays of NumPy that may be changed."""
        if self._constant is not None:
            return _of_each(np.array, self._constant(*batch))
        return _of_each(np.array, self.function(self.params, self.state, *batch))

    def _check_threshold(self, threshold: float) -> None:
        if not self.task.spec.has_threshold:
            raise ValueError(
                f"predict: threshold: got {threshold}, but {self.task.name} finds no objects that "
                "have a score; leave it out"
            )
        if not 0 <= threshold <= 1:
            raise ValueError(f"predict: threshold: got {threshold}, need 0 to 1")

    def _more(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        more = self.task.more_inputs
        return () if more is None else tuple(more(images).values())

    @property
    def _one_image(self) -> list[jax.ShapeDtypeStruct]:
        """Return the shapes of what the function takes of one image."""
        none = self.blank(0)
        arrays = (none, *self._more(none))
        return [jax.ShapeDtypeStruct((1, *array.shape[1:]), array.dtype) for array in arrays]

    def _check(self, images: np.ndarray) -> np.ndarray:
        shape = self.image_shape
        if images.ndim == 3 and shape[-1] == 1:
            images = images[..., None]
        if images.ndim != 4 or images.shape[1:] != shape:
            raise ValueError(
                f"predict: wrong image shape: got {images.shape}, need (N, {str(shape)[1:]}; "
                "for an image file of any size use predictor.read(file)"
            )
        return data.check_pixels(images, self.pixels)


def _of_each(function: Callable[[Any], Any], arrays: Any) -> Any:
    """Apply as `jax.tree.map` does, but to a single array without the time that looking takes."""
    single = isinstance(arrays, (np.ndarray, Array))
    return function(arrays) if single else jax.tree.map(function, arrays)


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    """Return an array with rows of zeros behind its own, `size` in all."""
    padding = np.zeros((size - len(array), *array.shape[1:]), array.dtype)
    return np.concatenate([array, padding])


def load(
    run: Runs,
    *,
    checkpoint: str = "best",
    use_ema: bool = True,
    calibrated: bool = False,
    tta: bool = False,
    fold: bool = True,
    constants: bool = False,
    net: Layer | None = None,
) -> Predictor:
    """Load the inference function of a run, or of several together.

    Args:
        run: the run directory. A list of them, or a study of several seeds, is an ensemble: all
            networks answer in one program, and the mean of their probabilities is given.
        checkpoint: "best" (by the validation metric) or "last".
        use_ema: the averages of the weights, where the run has them (`[ema]`).
        calibrated: probabilities at the temperature that `convax calibrate` has found for each run.
        tta: the mean of what is said of an image and of its mirror image.
        fold: whether batch norms are folded into the layers before them, which is faster and rounds
            otherwise: predictions agree to about 1e-6.
        constants: whether calls compile the weights into their programs, for the answer to one
            image: then no arrays are handed over but the images. Each of `Predictor.sizes` that is
            used holds a copy of the weights, and is compiled for these alone.
        net: the network, where `train` was given one.

    Raises:
        RunError, CheckpointError: it is no run directory, or has no usable checkpoint; or it was
            trained with another network than `net`.
        ConfigError: `net` is missing, or not needed.
        EnsembleError: several runs do not fit together.
        CalibrationError: no temperature is there, or it was fitted for something else.

    Example:
        >>> import convax
        >>> predict = convax.load("runs/lenet5-digits")       # doctest: +SKIP
        >>> predict(images).argmax(axis=-1)                   # doctest: +SKIP
    """
    paths = list_runs(run)
    members = [load_model(path, checkpoint, use_ema=use_ema, net=net) for path in paths]
    if len(members) > 1:
        check_compatible(paths, members)
    fitted = None
    if calibrated:
        if not spec_of(members[0].config.task).ranks:
            raise CalibrationError(
                f"{paths[0]}: got a run of {members[0].config.task}, which has no "
                "temperatures; load it without calibrated"
            )
        fitted = [
            load_calibration(Run(path), checkpoint, use_ema=use_ema, tta=tta) for path in paths
        ]
    return make_predictor(members, tta=tta, calibration=fitted, fold=fold, constants=constants)


def make_predictor(
    members: Sequence[LoadedModel],
    *,
    tta: bool = False,
    calibration: Sequence[Calibration] | None = None,
    fold: bool = True,
    constants: bool = False,
) -> Predictor:
    """Make the inference function of loaded networks: see `forward.make_program` and `load`."""
    first, card = members[0], members[0].card
    task = make_task(first.config, len(card.classes))
    temperatures = None if calibration is None else [each.temperature for each in calibration]
    program = make_program(members, task, tta=tta, temperatures=temperatures, fold=fold)
    return Predictor(
        program.function,
        program.params,
        program.state,
        card.classes,
        card.image_shape,
        task,
        networks=len(members),
        trained=Trained(first.net, first.params, first.state) if len(members) == 1 else None,
        folded=program.folded,
        preprocessing=card.preprocessing,
        category_ids=card.category_ids,
        constants=constants,
        # Those of one network say nothing of the mean of several.
        sets=calibration[0].sets if calibration is not None and len(calibration) == 1 else None,
    )

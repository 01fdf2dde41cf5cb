"""From a config's [data] table to a dataset: where it is looked for, and how it is split."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from PIL import Image

from convax.training.data import DataError, default_directory, load, load_digits, locate


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The three places of a relative path, as folders."""
    found = {name: tmp_path / name for name in ("beside", "here", "data")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.chdir(found["here"])
    monkeypatch.setenv("CONVAX_DATA", str(found["data"]))
    return found


# locate


def test_locate_tries_places_for_a_relative_path_in_order(places):
    for name in ("data", "here", "beside"):  # each before the ones already there
        (places[name] / "pets").mkdir()
        assert locate("pets", config_dir=places["beside"]) == places[name] / "pets"
    assert locate("pets", config_dir=None) == places["here"] / "pets"


def test_locate_returns_an_absolute_path(places, monkeypatch):
    (places["data"] / "pets").mkdir()
    path = places["data"] / "pets"
    assert locate(str(path), config_dir=places["beside"]) == path
    with pytest.raises(DataError, match=r"data\.path: /pets/gone is not there: tried /pets/gone;"):
        locate("/pets/gone", config_dir=places["beside"])
    monkeypatch.setenv("HOME", str(places["data"]))
    assert locate("~/pets", config_dir=None) == path


def test_locate_takes_an_archive_where_one_can_be_read(places):
    (places["here"] / "pets.tar.gz").touch()
    assert locate("pets", config_dir=None, packed=True) == places["here"] / "pets.tar.gz"
    with pytest.raises(DataError, match="pets is not there"):
        locate("pets", config_dir=None)


def test_locate_lists_the_places_where_nothing_is(places):
    with pytest.raises(DataError) as caught:
        locate("a/pets", config_dir=places["beside"])
    tried = ", ".join(str(places[name] / "a/pets") for name in ("beside", "here", "data"))
    assert str(caught.value) == (
        f"data.path: a/pets is not there: tried {tried}; correct data.path"
    )


@pytest.mark.usefixtures("places")
def test_locate_suggests_fetch_for_a_known_name():
    with pytest.raises(DataError, match=r"mnist is not there: .*; `convax fetch mnist` downloads"):
        locate("mnist", config_dir=None)


def test_default_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("CONVAX_DATA", str(tmp_path))
    assert default_directory() == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CONVAX_DATA", "~/data")
    assert default_directory() == tmp_path / "data"
    for unset in (lambda: monkeypatch.setenv("CONVAX_DATA", ""), monkeypatch.undo):
        unset()
    monkeypatch.delenv("CONVAX_DATA", raising=False)
    assert default_directory() == platformdirs.user_cache_path("convax")


def test_import_of_data_is_light():
    program = (
        "import os, sys; os.environ['CONVAX_DATA'] = '/data'\n"
        "from convax.training import data; data.default_directory()\n"
        "heavy = {'jax', 'PIL', 'sklearn', 'requests', 'rich', 'pydantic'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# load


def test_load_reads_digits():
    digits = load_digits()
    assert digits.train.images.shape == (1797, 8, 8, 1) and digits.train.images.dtype == np.uint8
    assert digits.train.labels.dtype == np.int32 and digits.classes == tuple("0123456789")
    # The first row of the first image is 0 0 5 13 9 1 0 0, of 16: 5 * 255 / 16 = 79.7, ...
    assert digits.train.images[0, 0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert digits.train.images.max() == 255 and digits.train.labels[:3].tolist() == [0, 1, 2]


def test_load_splits_by_the_seed():
    parts = [load("digits", validation=0.1, test=100, seed=seed) for seed in (0, 0, 1)]
    sizes = [len(part.labels) for part in parts[0][:3]]
    assert sizes == [1517, 180, 100]  # 1797 * 0.1 = 179.7
    first, again, other = (dataset.test.images for dataset in parts)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_load_npz(places):
    np.savez(places["data"] / "a.npz", images=np.zeros((4, 2, 2), np.uint8), labels=[0, 1, 0, 1])
    dataset = load("npz", path="a.npz", validation=1, seed=0)
    assert [len(part.labels) for part in dataset[:3]] == [3, 1, 0]


def test_load_folder(places):
    folder = places["beside"] / "pets" / "cat"
    folder.mkdir(parents=True)
    Image.new("L", (3, 3)).save(folder / "1.png")
    assert load("folder", path="pets", config_dir=places["beside"], seed=0).train.images.shape == (
        1,
        3,
        3,
        3,
    )
    assert load(
        "folder", path="pets", size=[4, 5], channels=1, config_dir=places["beside"], seed=0
    ).train.images.shape == (1, 4, 5, 1)


def test_load_folder_out_of_an_archive(places):
    """Named with its ending, or without it where there is no folder of that name."""
    folder = places["data"] / "made" / "cat"
    folder.mkdir(parents=True)
    Image.new("L", (3, 3)).save(folder / "1.png")
    shutil.make_archive(str(places["data"] / "pets"), "zip", folder.parent)
    for path in ("pets.zip", "pets"):
        assert load("folder", path=path, seed=0).train.images.shape == (1, 3, 3, 3)


def test_load_idx(places):
    with pytest.raises(DataError, match=r"pets: no train-images-idx3-ubyte here"):
        (places["here"] / "pets").mkdir()
        load("idx", path="pets", seed=0)


def test_load_rejects_wrong_arguments():
    with pytest.raises(
        DataError, match=r"data\.source: got 'parquet', need one of digits, idx, cif"
    ):
        load("parquet", path="a", seed=0)
    with pytest.raises(DataError, match=r"data\.path: missing; source = 'idx' needs one"):
        load("idx", seed=0)


@pytest.mark.parametrize("refusing", ["iterdir", "is_dir"])
@pytest.mark.parametrize("source", ["folder", "masks"])
def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch, source, refusing):
    """Or one that a link in it leads to; whoever lists it."""
    for name in ("a/1.png", "a/closed/2.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / name)
    real = getattr(Path, refusing)

    def refused(self, *arguments, **keywords):
        if self.name == "closed":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(Path, refusing, refused)
    options = {"images": "a", "masks": "b", "size": (4, 4), "classes": ("x", "y")}
    with pytest.raises(DataError, match=r"a/closed: cannot be read: Permission denied; allow it"):
        load(source, path=str(tmp_path), seed=0, **(options if source == "masks" else {}))

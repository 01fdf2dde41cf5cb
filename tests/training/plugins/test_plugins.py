"""Code of one's own in a config: trained, killed and resumed, opened elsewhere; and its errors."""

import importlib
import json
import re
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convax
from convax.model import ARCHITECTURES, LAYERS
from convax.training.config.choices import complete
from convax.training.config.errors import ConfigError
from convax.training.config.schema import Config, json_schema, load_config
from convax.training.data import DataError
from convax.training.loop.signals import InterruptedRun
from convax.training.optim.optimizer import OPTIMIZERS
from convax.training.optim.schedules.schedules import SCHEDULES
from convax.training.plugins import modules, tables
from convax.training.plugins.modules import PluginError
from convax.training.plugins.tables import RegistrationError
from convax.training.run.directory import RunError, open_run
from convax.training.tasks.registry import TASKS
from tests.training.loop.test_loop import Recorder, final_bytes

PAGE = Path(__file__).parents[3] / "docs" / "own-code.md"
# The pieces of Python on that page are one file.
MINE = "\n\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
CONFIG = """
seed = 0
[plugins]
modules = ["my_nets"]
[data]
source = "stripes"
validation = 20
test = 20
[input]
size = [6, 6]
fit = "pad"
[augment]
custom = [{name = "noise", sigma = 0.02}]
[[callbacks]]
name = "EnoughOf"
[[metrics]]
name = "hits"
[early_stopping]
metric = "hits"
[model]
name = "plain"
width = 4
[loss]
name = "poly"
[optimizer]
name = "lion"
learning_rate = 0.004
b1 = 0.9
[schedule]
name = "halving"
every = 15
[training]
batch_size = 16
steps = 40
evaluate_every = "20 steps"
log_every = 7
"""


@contextmanager
def nothing_stays():
    """Take away afterwards whatever was registered or imported."""
    kept = [ARCHITECTURES, LAYERS, OPTIMIZERS, SCHEDULES, tables.SOURCES, tables.AUGMENTATIONS]
    kept += [tables.CALLBACKS, tables.METRICS, TASKS]
    kept += [spec.losses for spec in TASKS.values()]
    kept += [tables.REGISTERED, modules._loaded, sys.modules]
    before = [dict(table) for table in kept]
    yield
    for table, entries in zip(kept, before, strict=True):
        for added in set(table) - set(entries):
            del table[added]
        table.update(entries)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setenv("CONVAX_NO_PLUGINS", "")  # which a command may set
    with nothing_stays():
        yield


def written(folder, text=MINE, config=CONFIG):
    folder.mkdir(exist_ok=True)
    (folder / "my_nets.py").write_text(text)
    (folder / "mine.toml").write_text(config)
    return folder / "mine.toml"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a config whose every part was registered; its modules are gone from where they were."""
    folder = tmp_path_factory.mktemp("mine")
    with nothing_stays():
        run = convax.train(load_config(written(folder)), folder / "run")
    (folder / "my_nets.py").unlink()
    return run


def test_what_was_registered_trains(trained):
    assert trained.info()["result"]["test"]["accuracy"] > 0.6
    assert (trained.path / "plugins" / "my_nets.py").read_text() == MINE
    assert not list(trained.path.rglob("__pycache__"))
    records = [r for r in trained.metrics() if r["kind"] == "validation"]
    assert [0 < r["accuracy"] <= r["hits"] <= 1 for r in records] == [True, True]
    assert (trained.path / "seen.txt").read_text().startswith("40: 0.")


def test_killed_and_resumed_it_ends_with_the_same_bytes(trained, tmp_path):
    config = load_config(written(tmp_path))
    with pytest.raises(InterruptedRun):
        convax.train(config, tmp_path / "run", display=Recorder(25))
    (tmp_path / "my_nets.py").unlink()
    assert final_bytes(convax.resume(tmp_path / "run")) == final_bytes(trained)


def test_other_code_is_refused(tmp_path):
    config = load_config(written(tmp_path))
    with pytest.raises(InterruptedRun):
        convax.train(config, tmp_path / "run", display=Recorder(9))
    code = tmp_path / "run" / "plugins" / "my_nets.py"
    code.write_text(MINE.replace("1 - jnp.exp", "2 - jnp.exp"))
    with pytest.raises(RunError, match=r'plugins.my_nets: "\w+... -> "\w+...'):
        convax.resume(tmp_path / "run")


@pytest.mark.slow
def test_a_run_is_used_where_its_code_never_was(trained, tmp_path, command):
    run = tmp_path / "run"
    shutil.copytree(trained.path, run)
    image = np.zeros((6, 6), np.uint8)
    image[:, 2:4] = 200
    Image.fromarray(image).save(tmp_path / "a.png")
    code, out, err = command("predict", run, tmp_path / "a.png")
    assert code == 0 and "middle" in out
    assert err.splitlines()[0].startswith("plugins: ran my_nets, which is beside the config")
    assert command("export", run, tmp_path / "bundle")[0] == 0
    assert command("evaluate", run)[0] == 0


def test_no_plugins_refuses_a_run(trained, command):
    code, _, err = command("--no-plugins", "evaluate", trained.path)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "config.toml: plugins.modules: my_nets: code that --no-plugins refuses to run" in err


@pytest.mark.slow
def test_two_seeds_in_one_program(tmp_path, command):
    code, *_ = command("train", written(tmp_path), "--seeds", "2", "--out", tmp_path / "study")
    assert code == 0
    (tmp_path / "my_nets.py").unlink()
    assert convax.load(tmp_path / "study" / "seed-1").classes == ("left", "middle", "right")


def test_a_loss_with_parameters_of_its_own(tmp_path):
    config = CONFIG.replace('name = "poly"', 'name = "scaled"').replace("steps = 40", "steps = 2")
    run = convax.train(load_config(written(tmp_path, config=config)), tmp_path / "run")
    assert run.config().loss.start == 1.0


def test_a_task_of_ones_own(tmp_path):
    config = CONFIG.replace("seed = 0", 'seed = 0\ntask = "ordered"').replace('metric = "hits"', "")
    made = load_config(written(tmp_path, config=config), ["training.steps=2"])
    assert made.early_stopping.metric == "within_one"
    run = convax.train(made, tmp_path / "run")
    assert 0 < run.info()["result"]["test"]["within_one"] <= 1
    assert "ordered" in json_schema()["properties"]["task"]["enum"]
    (tmp_path / "my_nets.py").unlink()
    assert TASKS["ordered"].losses is not TASKS["classification"].losses
    TASKS.pop("ordered")
    modules._loaded.clear()
    assert convax.load(run.path).task.name == "ordered"


def test_layers_of_ones_own(tmp_path):
    layers = '[{type = "flatten"}, {type = "gate", slope = 0.5}, {type = "dense", features = 3}]'
    config = CONFIG.replace('name = "plain"\nwidth = 4', f"layers = {layers}")
    assert load_config(written(tmp_path, config=config)).model.layers[1].slope == 0.5


def test_each_version_of_a_module_is_its_own(tmp_path):
    """Two configs in one process whose modules have one name, and other code."""
    first = load_config(written(tmp_path / "a"))
    second = load_config(
        written(
            tmp_path / "b",
            MINE.replace("width", "depth"),
            CONFIG.replace("width = 4", "depth = 4"),
        )
    )
    assert first.model.width == second.model.depth == 4
    assert load_config(tmp_path / "a" / "mine.toml").model.width == 4


def test_a_package_and_a_module_one_after_the_other(tmp_path):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "__init__.py").write_text("from . import nets\n")
    (tmp_path / "my_package" / "nets.py").write_text(MINE)
    (tmp_path / "uses.py").write_text("import my_package.nets\nassert my_package.nets.plain\n")
    config = CONFIG.replace('["my_nets"]', '["my_package", "uses"]')
    (tmp_path / "mine.toml").write_text(config)
    assert load_config(tmp_path / "mine.toml").model.width == 4
    assert [path for path, _ in modules.sources_of(["my_package", "uses"])] == [
        "plugins/my_package/__init__.py",
        "plugins/my_package/nets.py",
        "plugins/uses.py",
    ]


def test_an_installed_module(tmp_path, monkeypatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "their_nets.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    (tmp_path / "mine.toml").write_text(CONFIG.replace("my_nets", "their_nets"))
    assert load_config(tmp_path / "mine.toml").model.width == 4
    assert not list(modules.sources_of(["their_nets"]))
    assert len(modules.digests(["their_nets"])["their_nets"]) == 64


def test_what_no_module_of_the_config_has_is_noted(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    written(tmp_path)
    importlib.import_module("my_nets")

    (tmp_path / "mine.toml").write_text(CONFIG.replace('[plugins]\nmodules = ["my_nets"]\n', ""))
    config = load_config(tmp_path / "mine.toml", ["training.steps=1"])
    display = Recorder(99)
    run = convax.train(config, tmp_path / "run", display=display)
    assert set(run.info()["provenance"]["plugins"]) == {
        f"my_nets.{name}"
        for name in ("plain", "poly", "lion", "halving", "stripes", "noise", "EnoughOf", "hits")
    }
    tables.REGISTERED.clear()
    del ARCHITECTURES["plain"]
    with pytest.raises(
        RunError, match=r"was trained with my_nets\.plain, .*; register these first"
    ):
        open_run(run.path)
    (note,) = (line for line in display.notes if "the config does not name" in line)
    assert note.startswith("note: my_nets.plain, my_nets.poly")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("import jax\n", "import jax\nimport nonsense\n", "line 2: ModuleNotFoundError: No module"),
        ("import jax\n", "import jax\n1 / 0\n", "my_nets.py, line 2: ZeroDivisionError: division"),
        ("import jax\n", "import jax\nif\n", "my_nets.py, line 2: SyntaxError: invalid syntax"),
        ("width: int = 8", "width=8", "architecture 'plain': width: needs a type, e.g. width: flo"),
        ("classes: int, ", "", "architecture 'plain': its first parameters should be classes"),
        (
            "*, width: int = 8",
            "**width: int",
            "*width: a config needs a name for each key; write them",
        ),
        ("def plain", "def resnet", "architecture 'resnet': convax has one of that name; choose"),
        ("def stripes", "def npz", "data 'npz': convax has one of that name; choose another"),
        ("def ordered", "def embedding", "task 'embedding': convax has one of that name; choose"),
        ('name="ordered"', 'name="order"', "task 'ordered': its spec is called 'order'; give both"),
        (
            "    return CLASSIFICATION.",
            "    CLASSIFICATION.",
            "returned NoneType, need training.ta",
        ),
        (
            "def ordered()",
            "def ordered(size: int = 1)",
            "task 'ordered': takes no parameters; what",
        ),
        ("def hits", "def accuracy", "metric 'accuracy': convax has one of that name; choose"),
        ("def poly", "def focal", "loss 'focal': convax has one of that name; choose another"),
        ('"layer"', '"layr"', 'got kind \'layr\'; need "architecture", "layer"'),
        ("one_class=True", 'task="cats"', "loss 'poly': no task 'cats'; need \"classification\""),
        ("labels, *, eps", "labels, eps", "loss 'poly': epsilon: write its keywords behind a *"),
        ("count: int", "seed: int", "data 'stripes': seed: a key that every table of its kind has"),
        ("b1: float", "clip_norm: float", "optimizer 'lion': clip_norm: a key that every table"),
        ("def halving", "def sequence", "schedule 'sequence': convax has one of that name"),
        ('"optimizer")', '"optimizer", "optax.lion")', "'optax.lion': convax has one of that name"),
        ('"data")', '"data", labels="klass")', 'got labels \'klass\'; need "class", "mask"'),
        ('("layer")', "", 'say of what kind it is: @convax.register("layer")'),
        ("import jax\n", "import jax\nimport sys\nsys.exit(3)\n", "line 3: SystemExit: 3"),
        (
            "import jax\n",
            "import jax\nimport helper\n",
            "imports helper, which is beside it and not",
        ),
        ("count: int", "count: 'Nothing'", "data 'stripes': a type cannot be read: name 'Nothing'"),
    ],
)
def test_a_module_that_cannot_be_run(tmp_path, command, monkeypatch, old, new, said):
    assert old in MINE
    (tmp_path / "helper.py").write_text("")
    if "helper" in new:
        monkeypatch.syspath_prepend(tmp_path)  # as in a notebook beside it
    code, _, err = command("train", written(tmp_path, MINE.replace(old, new)))
    assert code == 2 and len(err.splitlines()) == 1
    assert "mine.toml: plugins.modules: " in err and said in err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "return each + epsilon * (1 - jnp.exp(-each))",
            "return each[:, None]",
            r"returned float32 \(\d+, \d+\) for \d+ exam",
        ),
        ("return each + epsilon * (1 - jnp.exp(-each))", "return each.mean()", r"float32 \(\) for"),
        ("return model.leaky", "model.leaky", "returned NoneType, need a model.Layer"),
    ],
)
def test_what_is_returned_is_checked_as_the_config_is_read(tmp_path, old, new, said):
    assert old in MINE
    text = MINE.replace(old, new)
    config = CONFIG.replace('name = "plain"\nwidth = 4', 'layers = [{type = "gate"}]')
    with pytest.raises(ConfigError, match=said):
        load_config(written(tmp_path, text, config))


def test_the_copy_is_of_what_was_run(tmp_path):
    config = load_config(written(tmp_path), ["training.steps=1"])
    (tmp_path / "my_nets.py").write_text(MINE.replace("0.1", "0.2"))
    run = convax.train(config, tmp_path / "run")
    assert (run.path / "plugins" / "my_nets.py").read_text() == MINE


def test_a_config_whose_module_was_replaced_has_to_be_read_again(tmp_path):
    first = load_config(written(tmp_path / "a"))
    load_config(written(tmp_path / "b", MINE.replace("slope=0.1", "slope=0.3")))
    with pytest.raises(PluginError, match=r"another module of this name since .* read it again"):
        convax.train(first, tmp_path / "run")


def test_what_imports_a_changed_module_is_run_again(tmp_path):
    helper = tmp_path / "helper.py"
    text = MINE.replace("import jax\n", "import jax\nfrom helper import SLOPE\n", 1)
    config = CONFIG.replace('["my_nets"]', '["helper", "my_nets"]')
    for slope in (0.1, 0.7):
        helper.write_text(f"SLOPE = {slope}\n")
        load_config(written(tmp_path, text, config))
        assert slope == sys.modules["my_nets"].SLOPE


def test_networks_of_other_code_are_no_ensemble(trained, tmp_path, command):
    shutil.copytree(trained.path, tmp_path / "other")
    code = tmp_path / "other" / "plugins" / "my_nets.py"
    code.write_text(MINE.replace("slope=0.1", "slope=0.3"))
    Image.new("L", (6, 6)).save(tmp_path / "a.png")
    code, _, err = command(
        "predict", trained.path, tmp_path / "a.png", "--ensemble", tmp_path / "other"
    )
    assert code == 2 and "runs do not fit together: plugins" in err
    assert "plugins: my_nets: not the code that" in err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["model.widht=3"], "model.widht: unknown key; did you mean 'width'?"),
        (["model.name=plian"], "got 'plian'; did you mean 'plain'?"),
        (["loss.name=polly"], "got 'polly'; did you mean 'poly'?"),
        (["data.source=stripe"], "got 'stripe'; did you mean 'stripes'?"),
        (
            ['augment.custom=[{name="nois"}]'],
            "augment.custom.0.name: should be 'noise'; got 'nois'",
        ),
        (["augment.custom.0.sigma=much"], "augment.custom.0.sigma: should be a valid number"),
        (["plugins.modules=[]"], "plugins.modules: "),
        (['plugins.modules=["../x"]'], "plugins.modules.0: "),
        (["callbacks.0.leest=1.0"], "callbacks.0.leest: unknown key; did you mean 'least'?"),
        (["callbacks.0.name=Enough"], "callbacks.0.name: should be 'EnoughOf'; got 'Enough'"),
        (["early_stopping.metric=hit"], 'need one of "accuracy", "balanced_accuracy", "macro_f1"'),
        (['metrics=[{name="hits"},{name="hits"}]'], "metrics has one name twice; leave one of"),
        (["metrics.0.amog=3"], "metrics.0.amog: unknown key; did you mean 'among'?"),
        (["data.count=three"], "data.count: should be a valid integer"),
    ],
)
def test_what_a_config_gives_it_is_checked(tmp_path, changes, said):
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path), changes)
    assert said in str(caught.value)


def test_a_module_that_is_nowhere(tmp_path):
    with pytest.raises(PluginError, match=r"none: neither none\.py beside the config nor an inst"):
        load_config(written(tmp_path), ['plugins.modules=["none"]'])


def test_a_name_of_pythons_own(tmp_path):
    (tmp_path / "json.py").write_text("")
    with pytest.raises(PluginError, match=r"has the name of an installed module; rename it"):
        load_config(written(tmp_path), ['plugins.modules=["json"]'])


def test_an_augmentation_without_a_module():
    with pytest.raises(ConfigError, match="for augmentations that are registered, and none is"):
        load_config("lenet5-digits", ['augment.custom=[{name="noise"}]'])
    with pytest.raises(ConfigError, match="for callbacks that are registered, and none is"):
        load_config("lenet5-digits", ['callbacks=[{name="EnoughOf"}]'])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "return data.unsplit(images.astype(np.uint8), ",
            "return (images, ",
            "returned tuple, need",
        ),
        (
            "images.astype(np.uint8)",
            "images / 255",
            r"images are float64 \(100, 6, 6, 1\), need uint8",
        ),
        ('labels, ("left", ', 'labels + 1, ("left", ', "labels are 1 to 3 where there are 3 cl"),
        ('labels, ("left", ', 'labels[1:], ("left", ', "100 images and 99 labels"),
    ],
)
def test_data_that_do_not_fit(tmp_path, old, new, said):
    assert old in MINE
    with pytest.raises(DataError, match=said):
        convax.train(load_config(written(tmp_path, MINE.replace(old, new))), tmp_path / "run")


def test_an_augmentation_that_changes_the_shape(tmp_path):
    text = MINE.replace("return image + sigma", "return image[1:] + sigma").replace(
        "normal(key, image.shape)", "normal(key, image[1:].shape)"
    )
    with pytest.raises(ConfigError, match=r"'noise' makes float32 \(5, 6, 1\) of an image of"):
        convax.train(load_config(written(tmp_path, text)), tmp_path / "run")


def test_an_error_of_its_own_names_its_line(tmp_path, command):
    text = MINE.replace(
        "    return model.serial(model.conv",
        "    model.missing\n    return model.serial(model.conv",
    )
    code, _, err = command("train", written(tmp_path, text), "--out", tmp_path / "run")
    assert code == 2
    assert re.search(r"my_nets.py, line \d\d: AttributeError: .*'missing'", err.splitlines()[-1])


def test_the_schema_has_what_is_registered(tmp_path):
    before = complete(Config)
    load_config(written(tmp_path))
    assert complete(Config) is not before
    assert "plain" in json_schema()["$defs"] and "stripes" in json_schema()["$defs"]


def test_the_schema_of_a_config_file_has_what_its_modules_register(tmp_path, command):
    file = written(tmp_path, config='[plugins]\nmodules = ["my_nets"]\n')  # and nothing else yet
    assert "plain" not in json_schema()["$defs"]
    code, out, _ = command("configs", file, "--schema")
    assert code == 0 and {"plain", "stripes"} <= json.loads(out)["$defs"].keys()
    code, _, err = command("configs", file, "--schema", "--no-plugins")
    assert code == 2 and "code that --no-plugins refuses to run" in err


def test_register_is_public_and_leaves_the_function_as_it_is():
    def own(*, size: int = 2):
        return size

    assert convax.register("layer", "mine")(own) is own
    with pytest.raises(RegistrationError, match='need "architecture"'):
        convax.register("nothing")

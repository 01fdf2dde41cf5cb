"""Objects given in Python in place of what a config names: trained, resumed, opened; and errors."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import convax
from convax import model, ops
from convax.training.common.program_digest import program_digest
from convax.training.config.errors import ConfigError
from convax.training.config.given import Objects, attach
from convax.training.loop.signals import InterruptedRun
from convax.training.run import given_programs
from convax.training.run.directory import Run, RunError
from tests.tiny import write_tiny
from tests.training.loop.test_loop import Recorder, final_bytes
from tests.training.plugins.test_plugins import MINE, nothing_stays

TANH = model.serial(model.conv(4, 3), model.tanh(), model.flatten(), model.dense(3))
REPLACED = ("model", "loss", "optimizer", "schedule")


def objects_of_the_page():
    """What docs/own-code.md defines, anew."""
    page = types.ModuleType("page")
    with nothing_stays():
        exec(MINE, page.__dict__)
    return {
        "net": page.net,
        "loss": page.smooth,
        "optimizer": page.clipped,
        "augment": page.dimmer,
    }


@pytest.fixture(scope="module")
def objects():
    return objects_of_the_page()


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return convax.config(write_tiny(tmp_path_factory.mktemp("given")))


@pytest.fixture(scope="module")
def trained(config, objects, tmp_path_factory):
    """A run of nothing but objects, of a dict that has no tables for them."""
    tables = config.model_dump(exclude_none=True)
    tables = {key: table for key, table in tables.items() if key not in REPLACED}
    return convax.train(tables, tmp_path_factory.mktemp("run") / "run", **objects)


@pytest.fixture(scope="module")
def stopped(config, objects, tmp_path_factory):
    """A run of a config that names all of it, stopped behind step 25; and what was said."""
    display, out = Recorder(25), tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(InterruptedRun):
        convax.train(config, out, display=display, **objects)
    return Run(out), display.notes


def test_objects_train_and_the_run_says_given(trained):
    assert trained.info()["result"]["test"]["accuracy"] > 0.9
    made = trained.config()
    names = (made.model, made.loss, made.optimizer, made.schedule, *made.augment.custom)
    assert [table.name for table in names] == 5 * ["given"]
    assert all("learning_rate" not in record for record in trained.metrics())
    known = trained.info()["provenance"]["plugins"]
    assert sorted(known) == ["given.augment", "given.loss", "given.net", "given.optimizer"]


def test_it_is_said_what_an_object_replaces(stopped):
    assert stopped[1][:4] == [
        'net: given in Python, in place of [model] name = "mlp"',
        'loss: given in Python, in place of [loss] name = "softmax_cross_entropy"',
        'optimizer: given in Python, in place of [optimizer] name = "adam" and [schedule] name = '
        '"cosine"',
        "augment: given in Python",
    ]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"augment": None, "net": None},
            r"^net, augment: given in Python, which no run keeps; give",
        ),
        ({"optimizer": optax.sgd(0.1)}, r'plugins\.given\.optimizer: "\w+\.\.\. -> "\w+\.\.\.'),
        ({"loss": lambda y, t: y[:, 0]}, r'plugins\.given\.loss: "\w+\.\.\. -> "\w+\.\.\.'),
        ({"net": TANH}, r"plugins\.given\.net: "),
    ],
)
def test_resume_refuses_what_is_missing_or_another(stopped, objects, other, said):
    with pytest.raises((ConfigError, RunError), match=said):
        convax.resume(stopped[0].path, **objects | other)


def test_stopped_and_resumed_with_the_same_given_anew_it_ends_with_the_same_bytes(stopped, trained):
    assert final_bytes(convax.resume(stopped[0].path, **objects_of_the_page())) == final_bytes(
        trained
    )


def test_a_run_is_opened_with_its_network(trained, objects):
    predict = convax.load(trained.path, net=objects["net"])
    assert predict(np.zeros((2, 6, 6), np.uint8)).shape == (2, 3)
    found = convax.evaluate(trained.path, net=objects["net"], loss=objects["loss"])
    assert found.accuracy == trained.info()["result"]["test"]["accuracy"]
    with pytest.raises(ConfigError, match=r"^loss: given in Python.*convax.evaluate\(RUN, loss="):
        convax.evaluate(trained.path, net=objects["net"])
    with pytest.raises(ConfigError, match=r"^net: given in Python.*convax.load\(RUN, net="):
        convax.load(trained.path)


def test_another_network_of_the_same_shapes_is_refused(trained):
    with pytest.raises(RunError, match="net: not what this run was trained with: its traced prog"):
        convax.load(trained.path, net=TANH)


def test_what_another_convax_traced_is_taken(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("convax.training.run.given_programs.code_hash", lambda: "another")
    said = []
    monkeypatch.setattr("convax.training.common.waiting.note", said.append)
    convax.load(trained.path, net=TANH)
    assert said == ["note: net: trained by another convax or JAX: it may be another by now"]


def test_the_command_line_says_what_is_missing(trained, command, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    code, _, err = command("predict", trained.path, tmp_path / "a.png")
    assert (code, len(err.splitlines())) == (2, 1) and "net: given in Python" in err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"net": 3}, "net: got int, need a model.Layer"),
        ({"optimizer": 0.1}, "optimizer: got float, need an optax transformation"),
        ({"loss": 0.1}, "loss: got float, need a function"),
        ({"augment": "flip"}, "augment: got str, need a function of a key and an image"),
        ({"loss": lambda y, t: y.mean()}, r"loss: returned float32 \(\) for 2 examples; need"),
    ],
)
def test_what_is_no_such_object(config, tmp_path, given, said):
    with pytest.raises(ConfigError, match=said):
        convax.train(config, tmp_path / "run", **given)


def test_a_config_that_says_given_needs_the_object(trained, tmp_path):
    said = r"^net, .*: given in Python, .* convax\.train\(CONFIG, OUT, net=\.\.\., loss=\.\.\., "
    with pytest.raises(ConfigError, match=said):
        convax.train(trained.config(), tmp_path / "run")


def test_a_schedule_is_given_with_its_optimizer_alone(config):
    with pytest.raises(ConfigError, match='schedule is "given" with the optimizer in Python, and'):
        convax.config(config, schedule={"name": "given"})


def test_an_object_for_what_the_config_names_is_refused(config):
    with pytest.raises(ConfigError, match="net: this run has that of its config; leave net= out"):
        attach(config, Objects(net=TANH))


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("fcn-pennfudan", {"loss": lambda y, t: y}, "'given' is no loss for task = \"segmentation"),
        ("fasterrcnn-scenes", {"net": model.dense(3)}, 'net: given for task = "detection", whose'),
    ],
)
def test_a_loss_of_masks_and_a_detector_have_to_be_named(tmp_path, name, given, said):
    with pytest.raises(ConfigError, match=said):
        convax.train(name, tmp_path / "run", **given)


def test_digests_tell_constants_apart():
    def adding(i):
        constant = jnp.arange(3.0) + i
        return program_digest(
            jax.jit(lambda x: x + constant), jax.ShapeDtypeStruct((3,), "float32")
        )

    assert adding(0) == adding(0) != adding(1)


def test_digests_are_the_same_whichever_implementation_is_chosen():
    arrays = jnp.ones((1, 4, 4, 8)), jnp.ones((3, 3, 8, 8))
    digests = set()
    for name in "auto", "cpu", "xla":
        with ops.implementation(name):
            digests.add(program_digest(ops.conv, *arrays))
    assert len(digests) == 1


@jax.custom_vjp
def straight(x):
    return x


straight.defvjp(lambda x: (x, None), lambda _, g: (g,))


def steeper():
    """The same values, with another gradient."""
    f = jax.custom_vjp(straight.fun)
    f.defvjp(lambda x: (x, None), lambda _, g: (7 * g,))
    return f


def net_with(training, evaluation):
    base = model.flatten()

    def apply(params, state, x, *, train=False, key=None):
        y, state = base.apply(params, state, x, train=train, key=key)
        return (training if train else evaluation)(y), state

    return model.Layer(base.init, apply)


def test_digests_of_networks_and_losses_tell_modes_and_gradients_apart(trained):
    def digest_of(net):
        given = attach(trained.config(), Objects(net=net), needed=())
        given_programs.remember_net(given, (2, 2, 1))
        return given.model.sha256

    nets = [net_with(straight, straight), net_with(straight, jnp.negative)]
    nets += [net_with(steeper(), straight), net_with(straight, straight)]
    first, of_evaluation, of_gradient, same = map(digest_of, nets)
    assert first == same and len({first, of_evaluation, of_gradient}) == 3

    batch = jax.ShapeDtypeStruct((2, 3), "float32"), jax.ShapeDtypeStruct((2,), "float32")
    losses = [lambda y, t, f=f: f(y)[:, 0] * t for f in (straight, steeper())]
    assert len({given_programs._loss_digest(loss, batch) for loss in losses}) == 2
    with pytest.raises(ConfigError, match=r"^loss: given in Python, it cannot be traced: KeyError"):
        given_programs._loss_digest(lambda y, t: {}["nothing"], batch)

import threading

import jax
import jax.numpy as jnp
import pytest

from convax import ops
from convax.ops.common.implementation import current_implementation, uses_jaxpr, uses_xla

NAMES = "'auto', 'native', 'native-direct', 'cpu', 'xla' or 'jaxpr'"
X, K = jnp.ones((1, 4, 4, 8)), jnp.ones((1, 1, 8, 8))


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    monkeypatch.delenv("CONVAX_LOWERING", raising=False)


def chosen():
    return uses_xla(), uses_jaxpr()


def is_xla_convolution(f):
    """Whether f is lowered to XLA's convolution: on CPU a 1x1 window is a matrix product else."""
    return "stablehlo.convolution" in jax.jit(f).lower(X, K).as_text()


def test_blocks_nest_and_end():
    assert chosen() == (False, False)
    with ops.implementation("xla"):
        assert chosen() == (True, False)
        with ops.implementation("jaxpr"):
            assert chosen() == (True, True)
            with ops.implementation("cpu"):
                assert chosen() == (False, False)
        assert chosen() == (True, False)
    assert chosen() == (False, False)


def test_block_ends_with_an_error():
    with pytest.raises(KeyError), ops.implementation("xla"):
        raise KeyError
    assert chosen() == (False, False)


def test_choice_is_of_its_thread_alone():
    found = []
    with ops.implementation("xla"):
        thread = threading.Thread(target=lambda: found.append(chosen()))
        thread.start()
        thread.join()
    assert found == [(False, False)]


def test_jit_keeps_the_programs_of_each_choice_apart_and_all_of_them():
    traced = []

    @jax.jit
    def f(x, k):
        traced.append(chosen())
        return ops.conv(x, k)

    for _ in range(2):
        f(X, K)
        for name in "xla", "jaxpr":
            with ops.implementation(name):
                f(X, K)
    assert traced == [(False, False), (True, False), (True, True)]


def test_choice_reaches_the_compiled_program():
    f = lambda x, k: ops.conv(x, k)  # noqa: E731
    assert not is_xla_convolution(f)
    with ops.implementation("xla"):
        assert is_xla_convolution(f)
    assert not is_xla_convolution(f)


def test_choice_of_a_block_within_a_traced_function_is_kept_by_its_gradients():
    def f(x, k):
        with ops.implementation("xla"):
            return ops.conv(x, k)

    assert is_xla_convolution(f)
    assert not is_xla_convolution(lambda x, k: ops.conv(x, k) + 1)

    def gradients(conv):
        f = jax.jit(jax.grad(lambda x, k: conv(x, k).sum(), (0, 1)))
        return f.lower(X, K).as_text().count("stablehlo.convolution")

    assert (gradients(f), gradients(ops.conv)) == (2, 0)


def test_jaxpr_has_no_primitives_of_ours():
    f = lambda x, k: ops.resize(ops.conv(x, k), (8, 8))  # noqa: E731
    assert "convax_" in str(jax.make_jaxpr(f)(X, K))
    with ops.implementation("jaxpr"):
        assert "convax_" not in str(jax.make_jaxpr(f)(X, K))


@pytest.mark.parametrize("name, write", [("fast", "'cpu'"), ("plain", "'xla'"), ("lax", "'jaxpr'")])
def test_an_old_name_is_refused_with_the_new_one(name, write, monkeypatch):
    message = f"unknown implementation: got '{name}', need {NAMES}; write {write}"
    with pytest.raises(ValueError, match=f"^implementation: {message}$"):
        ops.implementation(name).__enter__()
    monkeypatch.setenv("CONVAX_LOWERING", name)
    with pytest.raises(ValueError, match=f"^CONVAX_LOWERING: {message}$"):
        ops.conv(X, K)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=rf"got 'gpu', need {NAMES}$"):
        ops.implementation("gpu").__enter__()


def test_the_environment_chooses_for_the_process(monkeypatch):
    assert current_implementation() == "auto"
    monkeypatch.setenv("CONVAX_LOWERING", "")
    assert current_implementation() == "auto"
    monkeypatch.setenv("CONVAX_LOWERING", "jaxpr")
    assert chosen() == (True, True)
    with ops.implementation("cpu"):
        assert chosen() == (False, False)

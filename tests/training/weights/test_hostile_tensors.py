"""Files of PyTorch's with tensors that are none to be read, or far larger than their bytes."""

import pytest

from convax.training.weights.safetensors_io import WeightsError
from convax.training.weights.torch_file import read_state_dict

ODD = {
    "sparse": (lambda torch: torch.eye(3).to_sparse(), "layout torch.sparse_coo"),
    "rows": (lambda torch: torch.eye(3).to_sparse_csr(), "layout torch.sparse_csr"),
    "without content": (lambda torch: torch.empty(3, device="meta"), "which convax does not read"),
    "repeated": (
        lambda torch: torch.zeros(1).expand(10**11),
        "400,000,000,000 bytes unpacked, need 17,179,869,184 at most",
    ),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
def test_a_tensor_that_is_none_to_be_read_is_named(torch, tmp_path, kind):
    make, said = ODD[kind]
    torch.save({"w": make(torch)}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=rf"x\.pt: .*{said}"):
        read_state_dict(tmp_path / "x.pt")


def test_names_are_text(torch, tmp_path):
    torch.save({1: torch.zeros(3)}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="not a state dict: names with tensors"):
        read_state_dict(tmp_path / "x.pt")


def test_a_tensor_that_repeats_a_few_numbers_is_read(torch, tmp_path):
    torch.save({"w": torch.ones(1, 1).expand(4, 3)}, tmp_path / "x.pt")
    assert read_state_dict(tmp_path / "x.pt")["w"].sum() == 12


@pytest.mark.parametrize("version", ["2.9.1+cpu", "2.5.0", "1.13.1"])
def test_a_pytorch_that_files_can_make_run_code_reads_none(torch, tmp_path, monkeypatch, version):
    torch.save({"w": torch.ones(3)}, tmp_path / "x.pt")
    monkeypatch.setattr(torch, "__version__", version)
    message = (
        rf"x\.pt: PyTorch {version[:3]}.* can be made to run code .*'torch>=2.10'; or save it as"
    )
    with pytest.raises(WeightsError, match=message):
        read_state_dict(tmp_path / "x.pt")

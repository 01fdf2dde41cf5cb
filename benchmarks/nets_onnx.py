"""The networks in ONNX Runtime: PyTorch's, written by `torch.onnx`."""

import io

import nets_torch
import onnxruntime
import torch
from programs import Program


def latency(net: str, side: int, batch: int) -> Program:
    network, images = nets_torch.from_bytes(net, side, batch, "contiguous")
    file = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.from_numpy(images),),
        file,
        input_names=["images"],
        opset_version=18,
        dynamo=False,  # the other exporter needs onnxscript
    )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])

    def run(count):
        for _ in range(count):
            (answers,) = session.run(None, {"images": images})
        return float(answers.sum())

    return Program({"": run}, {"parameters": nets_torch.size(network)})


PROGRAMS = {"latency": latency}
LIBRARIES = ("torch", "onnx", "onnxruntime")

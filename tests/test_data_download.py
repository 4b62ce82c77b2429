"""Raw files: downloaded, resumed, checked, or asked for in one sentence; and told from others in artifact keys."""

import gzip
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from r4r.configuration.checks import validate
from r4r.configuration.composing import compose, make_loader
from r4r.configuration.schema import DatasetConfig
from r4r.data.download import RECORD, facts, raw_file
from r4r.errors import DataError
from r4r.stages.identity import dataset_identity
from r4r.stages.split import all_rows
from r4r.stages.stage import Job
from r4r.store.artifact import Store

CONTENT = gzip.compress(bytes(range(256)) * 20_000, mtime=0) + bytes(3_000_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; cuts the first `cuts` answers in the middle."""

    cuts = 0
    ranges = True
    etag = '"one"'

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/page.gz":  # of a proxy that wants a login, say
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(b"<html>log in</html>")
            return
        if self.path != "/file.gz":
            self.send_error(404)
            return
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        unchanged = self.headers.get("If-Range", self.server.etag) == self.server.etag
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges and unchanged else 0
        if start >= len(CONTENT):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.send_header("ETag", self.server.etag)
        self.end_headers()
        end = len(CONTENT)
        if self.server.cuts:
            self.server.cuts -= 1
            end = start + (end - start) // 2
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(folder: Path, url: str | None, sha256: str | None = None) -> Path:
    return raw_file(folder, "sub/file.gz", url, sha256, "reviews")


def test_a_missing_file_is_downloaded_once(tmp_path, server):
    path = fetch(tmp_path, server.url, hashlib.sha256(CONTENT).hexdigest())
    assert path == tmp_path / "sub/file.gz"
    assert path.read_bytes() == CONTENT
    fetch(tmp_path, server.url)
    assert server.asked == [None]
    assert not list(path.parent.glob("*.part*"))


def test_a_cut_download_goes_on_where_it_stopped(tmp_path, server):
    server.cuts = 2
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT
    assert [bool(asked) for asked in server.asked] == [False, True, True]


def test_what_came_is_kept_for_the_next_run(tmp_path, server):
    server.cuts = 3
    with pytest.raises(DataError, match="kept and continued next time"):
        fetch(tmp_path, server.url)
    assert 0 < (tmp_path / "sub/file.gz.part").stat().st_size < len(CONTENT)
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["no ranges", "new file"])
def test_a_part_that_cannot_be_continued_is_started_afresh(tmp_path, server, change):
    server.cuts = 3
    with pytest.raises(DataError):
        fetch(tmp_path, server.url)
    part = tmp_path / "sub/file.gz.part"
    part.write_bytes(b"x" * part.stat().st_size)  # must not survive
    if change == "no ranges":
        server.ranges = False
    else:
        server.etag = '"two"'
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT


def test_a_part_that_is_whole_already_is_used(tmp_path, server):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file.gz.part").write_bytes(CONTENT)
    assert fetch(tmp_path, server.url).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused(tmp_path, server):
    with pytest.raises(DataError, match=r"dataset.reviews_sha256 is 0000"):
        fetch(tmp_path, server.url, "0" * 64)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/file.gz", "no address", "missing"])
def test_a_failed_download_is_one_sentence_with_path_address_and_remedy(tmp_path, server, url):
    url = server.url.replace("file", "other") if url == "missing" else url
    with pytest.raises(DataError) as error:
        fetch(tmp_path, url)
    message = str(error.value)
    assert "\n" not in message
    for part in (str(tmp_path / "sub/file.gz"), url, "R4R_DATA", "paths.data", "dataset.reviews"):
        assert part in message


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/file.gz", "no address", "missing", "page"])
def test_a_failed_download_leaves_nothing_behind(tmp_path, server, url):
    names = {"missing": "other", "page": "page"}
    url = server.url.replace("file", names[url]) if url in names else url
    with pytest.raises(DataError, match="web page" if url.endswith("page.gz") else "failed"):
        raw_file(tmp_path / "data", "sub/file.gz", url, None, "reviews")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError):
        raw_file(tmp_path / "data", "sub/file.gz", url, None, "reviews")
    assert list(tmp_path.rglob("*")) == [tmp_path / "data"]  # which was there before


def test_a_download_leaves_the_file_and_its_record(tmp_path, server):
    path = fetch(tmp_path, server.url)
    assert {each.name for each in path.parent.iterdir()} == {path.name, path.name + RECORD}


def test_a_file_without_an_address_is_asked_for(tmp_path):
    with pytest.raises(DataError, match=r"sub/file.gz.*no download address is set.*R4R_DATA.*paths.data"):
        fetch(tmp_path, None)


def test_an_absolute_path_is_taken_as_it_is(tmp_path):
    (tmp_path / "here.gz").write_bytes(b"x")
    assert raw_file(Path("elsewhere"), str(tmp_path / "here.gz"), None, None, "meta") == tmp_path / "here.gz"


# What a raw file contributes to artifact keys.


def configured(url: str | None, **settings) -> DatasetConfig:
    chosen = {"source": "amazon2014", "reviews": "sub/file.gz", "reviews_url": url, **settings}
    return DatasetConfig(name="d", category="thing", **chosen)


def test_a_download_leaves_its_checksum_and_the_key_that_was_planned(tmp_path, server):
    planned = dataset_identity(configured(server.url), tmp_path)
    path = fetch(tmp_path, server.url)
    record = json.loads((tmp_path / f"sub/file.gz{RECORD}").read_text())
    assert record["url"] == server.url
    assert record["sha256"] == hashlib.sha256(CONTENT).hexdigest() == facts(path)["sha256"]
    assert dataset_identity(configured(server.url), tmp_path) == planned


@pytest.mark.parametrize("change", ["cut", "edited", "another address", "no record"])
def test_a_file_that_is_not_as_downloaded_has_a_key_of_its_own(tmp_path, server, change):
    path = fetch(tmp_path, server.url)
    config = configured(server.url)
    planned = dataset_identity(config, tmp_path)
    if change == "cut":
        path.write_bytes(CONTENT[:-1])
    elif change == "edited":
        path.write_bytes(b"x" + CONTENT[1:])
    elif change == "another address":
        config = configured(server.url.replace("file", "other"))
    else:
        Path(f"{path}{RECORD}").unlink()
    assert dataset_identity(config, tmp_path) != planned


def test_a_file_put_there_by_hand_counts_by_content_and_kind(tmp_path):
    def identity(name: str, content: bytes) -> dict:
        (tmp_path / name).write_bytes(content)
        return dataset_identity(configured(None, source="custom", reviews=name), tmp_path)

    one = identity("one.csv", b"a")
    assert one == identity("same.csv", b"a") == identity("same.csv.gz", b"a")
    assert one != identity("one.tsv", b"a")  # read another way
    assert one != identity("one.csv", b"b")


def test_a_configured_checksum_is_the_key_whether_or_not_the_file_is_there(tmp_path):
    config = configured(None, reviews_sha256="1" * 64)
    planned = dataset_identity(config, tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/file.gz").write_bytes(b"anything: it is checked when it is read")
    assert dataset_identity(config, tmp_path) == planned
    assert dataset_identity(configured(None, reviews_sha256="2" * 64), tmp_path) != planned


def test_a_file_that_was_downloaded_anew_and_differs_is_noticed_where_the_split_is_read(tmp_path):
    lines = [
        f"u{k % 6},i{k // 6},T,{1 + k % 5},text {k},{1_400_000_000 + day * 86_400}"
        for day, k in enumerate(np.random.default_rng(0).permutation(36))
    ]
    path = tmp_path / "r.csv"
    path.write_text("user_id,item_id,title,rating,review,timestamp\n" + "\n".join(lines) + "\n")
    own = [f"dataset.{key}" for key in ("name=own", "category=thing", "reviews=r.csv", "prepare.k_core=1")]
    url = "http://example.org/r.csv"
    folders = [f"paths.data={tmp_path}", f"paths.outputs={tmp_path / 'out'}"]
    cfg = compose(make_loader(), "config", ["dataset=custom", *own[:3], f"+{own[3]}", "method=means", *folders])
    config = validate(cfg)
    config = config.model_copy(update={"dataset": config.dataset.model_copy(update={"reviews_url": url})})

    def downloaded() -> None:
        Path(f"{path}{RECORD}").write_text(json.dumps({"url": url, **facts(path)}))

    downloaded()
    job = Job(config, Store(config.paths.artifacts))
    rows = all_rows(job)
    assert [name for name, _ in job.built] == ["split"]
    assert len(rows) == 36
    path.write_text(path.read_text().replace("text 5,", "text five,"))
    downloaded()
    later = Job(config, Store(config.paths.artifacts))
    with pytest.raises(DataError, match=rf"no longer the file.*dataset.reviews_sha256={facts(path)['sha256']}"):
        all_rows(later)
    chosen = config.dataset.model_copy(update={"reviews_sha256": facts(path)["sha256"]})
    renewed = Job(config.model_copy(update={"dataset": chosen}), Store(config.paths.artifacts))
    assert set(all_rows(renewed)["review"]) - set(rows["review"]) == {"text five"}

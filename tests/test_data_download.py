"""Raw files that are missing: downloaded, resumed, checked, or asked for in one sentence."""

import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from r4r.data.download import raw_file
from r4r.errors import DataError

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


def test_a_file_without_an_address_is_asked_for(tmp_path):
    with pytest.raises(DataError, match=r"sub/file.gz.*no download address is set.*R4R_DATA.*paths.data"):
        fetch(tmp_path, None)


def test_an_absolute_path_is_taken_as_it_is(tmp_path):
    (tmp_path / "here.gz").write_bytes(b"x")
    assert raw_file(Path("elsewhere"), str(tmp_path / "here.gz"), None, None, "meta") == tmp_path / "here.gz"

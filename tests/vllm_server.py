"""A loopback server that answers as vLLM's does, computing with transformers; and misbehaves where it is told to."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from r4r.lm.base import LanguageModel
from r4r.lm.batches import pad
from r4r.lm.cache import extend
from r4r.lm.generate import generate

VERSION = "0.32.0"


class VLLMServer:
    """Run with `with VLLMServer(lm, ...) as server`; `server.url` is the base_url.

    Attributes:
        asked: (model, tokens of the prompt, max_tokens) of each completion, in order.
        loaded: adapter -> folder.
        left: completions before it drops every connection; None: it never does.
    """

    def __init__(
        self,
        lm: LanguageModel,
        name: str = "tiny",
        root: str = "/models/tiny",
        max_model_len: int = 4096,
        runtime_lora: bool = True,
        key: str | None = None,
        token_ids: bool = True,
    ):
        self.lm, self.name, self.root, self.max_model_len = lm, name, root, max_model_len
        self.runtime_lora, self.key, self.token_ids = runtime_lora, key, token_ids
        self.asked: list[tuple[str, int, int]] = []
        self.loaded: dict[str, str] = {}
        self.left: int | None = None
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._http.request_queue_size = 1024
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> "VLLMServer":
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *args: Any) -> None:
        self._http.shutdown()
        self._http.server_close()

    def models(self) -> list[dict[str, Any]]:
        base = {"id": self.name, "root": self.root, "parent": None, "max_model_len": self.max_model_len}
        return [base, *({"id": name, "root": path, "parent": self.name} for name, path in self.loaded.items())]

    def load(self, name: str, path: str) -> tuple[int, str]:
        if not Path(path, "adapter_config.json").exists():
            return 404, f"Loading lora {name} failed: No adapter found for {path}"
        if name in self.loaded:
            return 400, f"The lora adapter '{name}' has already been loaded."
        self.lm.load_adapter(name, Path(path))
        self.loaded[name] = path
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    @torch.inference_mode()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """One choice; log-probabilities are those of the whole vocabulary, before `allowed_token_ids` rules out any."""
        prompt, limit = body["prompt"], body["max_tokens"]
        self.asked.append((body["model"], len(prompt), limit))
        logprobs = None
        with self.lm.using(None if body["model"] == self.name else body["model"]):
            if "logprob_token_ids" in body:
                ids, mask = pad([prompt], "left", self.lm.device)
                hidden, _ = extend(self.lm, None, ids, mask)
                found = self.lm.logits(hidden[0, -1]).log_softmax(dim=-1)
                tokens = [max(body["allowed_token_ids"], key=lambda token: float(found[token]))]
                shown = {f"token_id:{token}": float(found[token]) for token in body["logprob_token_ids"]}
                logprobs = {"top_logprobs": [shown]}
            else:
                assert set(body["stop_token_ids"]) == set(self.lm.chat.end_ids)
                seeds = [body["seed"]] if "seed" in body else []
                tokens = generate(self.lm, [prompt], limit, body["temperature"], seeds)[0]
        choice = {"index": 0, "text": "", "finish_reason": "stop", "logprobs": logprobs}
        return {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice | ({"token_ids": tokens} if self.token_ids and body["return_token_ids"] else {})],
        }


def _handler(server: VLLMServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: Any) -> None:
            """Quiet."""

        def reply(self, body: Any, status: int = 200) -> None:
            text = body if isinstance(body, str) else json.dumps(body)
            if status != 200:
                text = json.dumps({"error": {"message": body, "type": "BadRequestError", "code": status}})
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def admitted(self) -> bool:
            fine = server.key is None or self.headers.get("Authorization") == f"Bearer {server.key}"
            if not fine:
                self.reply("Unauthorized", 401)
            return fine

        def do_GET(self) -> None:
            if self.path == "/version":
                self.reply({"version": VERSION})
            elif self.path == "/v1/models" and self.admitted():
                self.reply({"object": "list", "data": server.models()})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not self.admitted():
                return
            with server.lock:
                if self.path == "/v1/load_lora_adapter" and server.runtime_lora:
                    status, text = server.load(body["lora_name"], body["lora_path"])
                    self.reply(text, status)
                elif self.path == "/v1/completions":
                    if server.left is not None:
                        server.left -= 1
                    if server.left is not None and server.left < 0:
                        self.close_connection = True
                        return
                    self.reply(server.complete(body))
                else:
                    self.reply("Not Found", 404)

    return Handler

"""A key typed where its variable's name belongs: refused, and never told."""

import pytest
from pydantic import ValidationError

from r4r.configuration.pasted_keys import is_variable
from r4r.configuration.preflight import preflight
from r4r.configuration.schema import VLLMConfig
from r4r.configuration.teachers import OpenAIConfig
from r4r.errors import ConfigError

KEYS = [
    "sk-proj-4fT9canary0123456789abcdef",
    "sk_live_canary4fT90123456789abcdef",
    "AIzaSyCanary4fT9_0123456789abcdefghijk",
    "gsk_canary4fT90123456789",
    "hf_canaryabcdefghij",
    "AKIACANARY4FT90123",
    "CANARY4FT90123456789ABCDEF0123456789",
    "c4n4ryf00d0123456789abcdef012345",
    "canary4f-0123-4567-89ab-cdef01234567",
    "eyJcanary.eyJhbGciOi.abc_def",
    "Bearer canary4fT9",
    "canary4fT9+/==",
    "${canary4fT9-x}",
    "${oc.env:CANARY4FT9}",
    "canary",
]
FORMS = [
    "teacher.key_env={}",
    "+teacher.key_env='{}'",
    '++teacher.key_env="{}"',
    "metrics.gptscore.judge.key_env={}",
    "llm.vllm.key_env={}",
    "teacher.key_env=OPENAI_API_KEY,{}",
    "teacher={{kind: openai, key_env: {}}}",
    "teacher={{kind: openai, 'key_env': '{}', model: m}}",
    "teacher.api_key={}",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("form", FORMS)
def test_a_key_on_the_command_line_is_refused_and_not_repeated(key: str, form: str) -> None:
    for more in ([], ["--cfg", "job"], ["method=no_such", "teachr=openai"]):
        with pytest.raises(ConfigError, match="environment variable") as error:
            preflight([form.format(key), *more])
        assert "canary" not in str(error.value).lower()


@pytest.mark.parametrize("key", [key for key in KEYS if "$" not in key])
def test_a_key_in_a_file_is_refused_and_not_repeated(key: str) -> None:
    for build in (lambda: OpenAIConfig(kind="openai", key_env=key), lambda: VLLMConfig(key_env=key)):
        with pytest.raises(ValidationError, match="never the key itself") as error:
            build()
        assert all("canary" not in item["msg"].lower() for item in error.value.errors())


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "MY_KEY", "GPU7_KEY", "HF_TOKEN", "KEY", "my_variable", "llmKey2"])
def test_a_variable_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name != name.upper():
        assert not is_variable(name)
        monkeypatch.setenv(name, "x")
    assert is_variable(name)
    preflight([f"teacher.key_env={name}", "teacher=openai"])

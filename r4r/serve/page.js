"use strict";
// Everything that comes from data, models or people is set as text, never as markup.
const $ = (id) => document.getElementById(id);
const session = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
const PAUSE = 120; // milliseconds without a keystroke before an edit is rated
const MOST_BARS = 20;
const NAMES = { explain: "the model's reason", again: "the model's reason", converse: "after what was said", edit: "edited", strike: "struck", add: "added", keep: "called right", without: "without reason", shuffled: "shuffled reason" };
const SIDES = { wanted: "the user wants it", disliked: "the user dislikes it", praised: "the item is praised for it", criticised: "the item is criticised for it" };
let wanted = null, told = null, first = null, seed = 0, turn = 0, typing = 0; // first: what was told when the case was opened

function make(name, text, attributes = {}) {
  const node = document.createElement(name);
  if (text !== undefined && text !== null) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function token() {
  try { return sessionStorage.getItem("r4r-token") || ""; } catch { return ""; }
}

async function ask(path, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  if (token()) headers.Authorization = `Bearer ${token()}`;
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  if (answer.ok) return answer.json();
  $("token-form").hidden = answer.status !== 401;
  let why = answer.statusText;
  try { why = (await answer.json()).detail; } catch { /* the answer is no JSON: its status says what there is to say */ }
  throw new Error(why);
}

function complain(error) {
  $("alert").textContent = error ? error.message || String(error) : "";
  $("alert").hidden = !error;
}

function announce(text) { $("status").textContent = text; }

// One question at a time counts: an answer that another question has overtaken is dropped.
async function put(path, body) {
  const mine = ++turn;
  clearTimeout(typing);
  $("main").setAttribute("aria-busy", "true");
  try {
    const answer = await ask(path, { ...body, session });
    if (mine !== turn) return null;
    complain(null);
    return answer;
  } catch (error) {
    if (mine === turn) complain(error);
    return null;
  } finally {
    if (mine === turn) $("main").removeAttribute("aria-busy");
  }
}

// a case

async function open(asked, kind = "explain") {
  const answer = await put("/api/explain", { case: asked, kind });
  if (!answer) return false;
  const fresh = kind === "explain";
  wanted = asked;
  told = answer;
  if (fresh) {
    first = answer;
    $("ifs").tBodies[0].replaceChildren();
  }
  show();
  if (kind !== "again") beside(kind);
  if (fresh) {
    remember();
    $("case-title").focus();
  }
  return true;
}

function remember() {
  const { user_id, item_id, at } = wanted;
  if (!user_id) return;
  const place = `#/${encodeURIComponent(user_id)}/${encodeURIComponent(item_id)}${at === null ? "" : `?at=${encodeURIComponent(at)}`}`;
  if (location.hash !== place) history.pushState(null, "", place);
  $("user").value = user_id;
  $("item").value = item_id;
  $("at").value = typeof at === "number" ? new Date(at * 1000).toISOString().replace(".000", "") : at || "";
}

function day(seconds) { return new Date(seconds * 1000).toISOString().slice(0, 10); }
function points(value) { return value.toFixed(2); }
function signed(value) { return Math.abs(value) < 0.005 ? "±0.00" : `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(2)}`; }

function show() {
  const { case: one } = told;
  $("case").hidden = false;
  $("case-title").textContent = one.title || "(no title)";
  const facts = [one.user_id ? `user ${one.user_id}` : "a new user", one.item_id ? `item ${one.item_id}` : "a new item"];
  if (one.at !== null) facts.push(`as of ${day(one.at)}`);
  if (one.actual !== null) facts.push(`really rated ${one.actual}`);
  $("case-facts").replaceChildren(...facts.flatMap((fact, k) => [...(k ? [" · "] : []), make("bdi", fact)]));
  past("user", one.user, one.user_count, one.user_average);
  past("item", one.item, one.item_count, one.item_average);
  $("said").replaceChildren(...one.preferences.map((words, k) => {
    const line = make("li");
    const back = make("button", "Take back", { type: "button", "aria-label": `Take back: ${words}` });
    back.addEventListener("click", async () => {
      const left = wanted.preferences.filter((_, place) => place !== k);
      if (await open({ ...wanted, preferences: left }, "converse")) $("words").focus();
    });
    line.append(make("span", words, { dir: "auto" }), " ", back);
    return line;
  }));
  $("no-reason").hidden = told.model_reason !== null;
  $("reason-tools").hidden = told.model_reason === null;
  $("reason").value = told.reason || "";
  results();
}

function past(side, entries, count, mean) {
  const shown = entries.filter((entry) => entry.rating !== null).length;
  $(`${side}-facts`).textContent = `${shown} of ${count} earlier reviews${mean === null ? "" : `, mean rating ${points(mean)}`}`;
  const place = $(`${side}-past`);
  place.replaceChildren(...entries.map((entry) => {
    const line = make("li");
    const facts = [entry.rating === null ? "" : `rating ${entry.rating}`, entry.by, entry.timestamp === null ? "" : day(entry.timestamp)].filter(Boolean);
    line.append(make("b", entry.title || "(no title)", { dir: "auto" }));
    if (facts.length) line.append(make("p", facts.join(" · "), { class: "facts" }));
    line.append(make("p", entry.shown || "(nothing)", { class: "text", dir: "auto" }));
    if (entry.rating !== null && entry.shown !== entry.review) {
      const fold = make("details");
      fold.append(make("summary", "the review itself"), make("p", entry.review || "(an empty review)", { class: "text", dir: "auto" }));
      line.append(fold);
    }
    return line;
  }));
  if (!entries.length) place.replaceChildren(make("li", "no reviews yet", { class: "none" }));
}

// reason and rating

function results() {
  const { rating } = told, before = first.model_rating;
  const move = rating.mean - before.mean;
  $("mean").textContent = points(rating.mean);
  $("moved").textContent = told.model_reason === null ? "" : `${signed(move)} against the unedited reason`;
  $("beside-reason").textContent = `${points(rating.mean)} (${signed(move)})`;
  $("points").textContent = `of ${rating.values[0]} to ${rating.values.at(-1)} · median ${rating.median} · mode ${rating.mode}`;
  const size = Math.ceil(rating.values.length / MOST_BARS);
  const rows = [];
  for (let first = 0; first < rating.values.length; first += size) {
    const last = Math.min(first + size, rating.values.length) - 1;
    const sum = (chances) => chances.slice(first, last + 1).reduce((all, one) => all + one, 0);
    const name = first === last ? `${rating.values[first]}` : `${rating.values[first]} to ${rating.values[last]}`;
    rows.push([name, sum(rating.probabilities), sum(before.probabilities)]);
  }
  $("bars").tBodies[0].replaceChildren(...rows.map(([name, now, then]) => {
    const line = make("tr");
    const bars = make("td", null, { "aria-hidden": "true" });
    for (const [share, kind] of [[now, "bar"], [then, "bar before"]]) {
      const bar = make("div", null, { class: kind });
      bar.style.width = `${100 * share}%`;
      bars.append(bar);
    }
    const share = make("td", `${(100 * now).toFixed(1)}%`, { class: "share" });
    share.append(make("span", `, before ${(100 * then).toFixed(1)}%`, { class: "visually-hidden" }));
    line.append(make("th", name, { scope: "row" }), bars, share);
    return line;
  }));
  chips("named", told.aspects.filter((one) => one.named), (one) => ["strike", { aspect: one.name }, `Strike ${one.name}`]);
  chips("other", told.aspects.filter((one) => !one.named).slice(0, 24), (one) => ["add", { aspect: one.name, side: one.side }, `Add ${one.name}: ${SIDES[one.side]}`]);
  const how = Math.abs(move) < 0.005 ? "as with the unedited reason" : `${points(Math.abs(move))} ${move > 0 ? "higher" : "lower"} than with the unedited reason`;
  announce(`Rating ${points(rating.mean)}, ${how}`);
}

function chips(place, found, means) {
  const list = $(place);
  const at = [...list.querySelectorAll("button")].indexOf(document.activeElement);
  list.replaceChildren(...found.map((one) => {
    const [kind, more, label] = means(one);
    const line = make("li");
    const chip = make("button", one.name, { type: "button", "aria-label": label, title: label });
    chip.addEventListener("click", () => rate(kind, more));
    line.append(chip);
    return line;
  }));
  if (!found.length) list.append(make("li", "none", { class: "none" }));
  if (at >= 0) ([...list.querySelectorAll("button")][at] || list.querySelector("button:last-of-type") || $("reason")).focus();
}

async function rate(kind, more = {}) {
  const answer = await put("/api/rate", { case: wanted, kind, reason: $("reason").value, ...more });
  if (!answer) return;
  told = answer;
  if (kind !== "edit" && kind !== "keep") $("reason").value = told.reason || "";
  results();
  if (kind === "keep") announce("Noted: this reason is right.");
  if (kind !== "edit" && kind !== "keep") beside(kind, more.aspect);
}

function beside(kind, aspect) {
  const mine = told, line = make("tr"), kept = make("td", null), actions = make("td");
  kept.append(make("b", NAMES[kind] + (aspect ? `: ${aspect}` : "")), make("p", mine.reason || "(no reason)", { class: "text", dir: "auto" }));
  const use = make("button", "Use again", { type: "button" }), drop = make("button", "Remove", { type: "button" });
  use.hidden = mine.reason === null || kind === "shuffled"; // another pair's reason is no correction
  use.addEventListener("click", () => { $("reason").value = mine.reason; rate("edit"); $("reason").focus(); });
  drop.addEventListener("click", () => { line.remove(); $("beside").focus(); });
  actions.append(use, " ", drop);
  line.append(kept, make("td", points(mine.rating.mean), { class: "number", "data-label": "rating" }), make("td", signed(mine.rating.mean - first.model_rating.mean), { class: "number", "data-label": "moved" }), actions);
  $("ifs").tBodies[0].append(line);
}

$("reason").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => rate($("reason").value.trim() ? "edit" : "without"), PAUSE);
});
$("again").addEventListener("click", () => open(wanted, "again"));
$("without").addEventListener("click", () => rate("without"));
$("shuffled").addEventListener("click", () => rate("shuffled", { seed: ++seed }));
$("keep").addEventListener("click", () => rate("keep"));
$("beside").addEventListener("click", () => beside(told.reason === told.model_reason ? "explain" : "edit"));
$("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  await rate("add", { aspect: $("aspect").value, side: $("side").value });
  $("aspect").value = "";
});
$("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await open({ ...wanted, preferences: [...wanted.preferences, $("words").value] }, "converse")) $("words").value = "";
});

// finding

function searching(field, list, path) {
  let waiting = 0, last = null;
  const look = async () => {
    if (field.value === last) return;
    last = field.value;
    try {
      const found = await ask(`${path}?q=${encodeURIComponent(last)}`);
      if (field.value === last) list.replaceChildren(...found.map((one) => make("option", `${one.title ? `${one.title} · ` : ""}${one.reviews} reviews`, { value: one.id })));
    } catch (error) { complain(error); }
  };
  field.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(look, 150); });
  field.addEventListener("focus", look);
}

async function reviews(user) {
  try {
    const found = await ask(`/api/reviews?user_id=${encodeURIComponent(user)}`);
    const first = make("option", user ? `reviews by ${user}` : "choose one", { value: "" });
    $("reviews").replaceChildren(first, ...found.map((one) => {
      const option = make("option", `${one.title || one.item_id} · ${one.user_id} · ${day(one.at)} · ${one.split}`);
      option.value = JSON.stringify([one.user_id, one.item_id, one.at]);
      return option;
    }));
  } catch (error) { complain(error); }
}

function known(user_id, item_id, at) { return { user_id, item_id, at: at === "" || at === null ? null : /^\d+$/.test(at) ? Number(at) : at, preferences: [] }; }

$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  open(known($("user").value.trim(), $("item").value.trim(), $("at").value.trim()));
});
$("user").addEventListener("change", () => reviews($("user").value.trim()));
$("reviews").addEventListener("change", () => {
  if (!$("reviews").value) return;
  const [user, item, at] = JSON.parse($("reviews").value);
  open(known(user, item, at));
});
$("new-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const lines = (id, titled) => $(id).value.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
    const [rating, ...rest] = line.split("|").map((part) => part.trim());
    const title = titled && rest.length > 1 ? rest.shift() : "";
    return { rating: Number(rating), title, review: rest.join(" | ") };
  });
  const given = { title: $("new-title").value, user_reviews: lines("new-user", true), item_reviews: lines("new-item", false), preferences: [] };
  const bad = [...given.user_reviews, ...given.item_reviews].find((one) => !Number.isFinite(one.rating));
  if (bad) complain("Each line of reviews begins with a rating, and a bar behind it: 4 | title | what was said");
  else open(given);
});
searching($("user"), $("users"), "/api/users");
searching($("item"), $("items"), "/api/items");

// beginning

function wherever() {
  const match = /^#\/([^/]+)\/([^/?]+)(?:\?at=(.*))?$/.exec(location.hash);
  if (!match) return;
  try {
    const [user, item, at] = match.slice(1).map((part) => decodeURIComponent(part || ""));
    open(known(user, item, at));
  } catch { complain("the address of this page names no user and item"); }
}

async function start() {
  const given = /^#token=(.+)$/.exec(location.hash);
  if (given) {
    try { sessionStorage.setItem("r4r-token", decodeURIComponent(given[1])); } catch { /* then it is asked for */ }
    history.replaceState(null, "", location.pathname);
  }
  try {
    const about = await ask("/api/about");
    $("about").textContent = `${about.label} · ${about.dataset} · ${about.model} · ${about.users} users, ${about.items} items, ${about.reviews} reviews`;
  } catch (error) { complain(error); return; }
  complain(null);
  $("token-form").hidden = true;
  await reviews("");
  wherever();
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  try { sessionStorage.setItem("r4r-token", $("token").value.trim()); } catch { /* storage is closed: the next request says so */ }
  start();
});
$("skip").addEventListener("click", (event) => { event.preventDefault(); ($("case").hidden ? $("user") : $("reason")).focus(); });
addEventListener("hashchange", wherever);
start();

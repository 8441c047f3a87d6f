/** The list of calls: search, sort, page by page. */

import { getJson } from "./api.js";
import { byId, debounce, el, fill, setText, showProblem } from "./dom.js";
import { clock, day, duration, grade, iso, number, parties, percent, seconds } from "./format.js";
import { bindKeys } from "./keys.js";
import { callAddress } from "./link.js";
import { pageStatus, whileVisible } from "./page.js";

const PAGE = 50;
const TYPED_MS = 250;
const ACTIVE_MS = 5000;
const MUCH_LOSS = 0.01;
const FIELDS = ["q", "extension", "station", "range", "from", "to", "sort"];
const HOURS = { "15m": 0.25, "1h": 1, "24h": 24 };

const form = byId("search");
const body = byId("calls");
let cursor = null;
let latest = 0;
let running = new Set();

/** What is searched for, without what is empty. */
function fields() {
  const data = new FormData(form);
  return Object.fromEntries(FIELDS.map((name) => [name, String(data.get(name) ?? "").trim()])
    .filter(([name, value]) => value && !(name === "sort" && value === "newest")));
}

/** Parameters of the API for what is searched for. Times in the form are UTC. */
function parameters({ range, from, to, ...others }) {
  const zone = (text) => (text ? iso(Date.parse(`${text}Z`) / 1000) : null);
  const isOwn = range === "own";
  const since = HOURS[range] ? iso(Date.now() / 1000 - HOURS[range] * 3600) : null;
  return { ...others, from: isOwn ? zone(from) : since, to: isOwn ? zone(to) : null, limit: PAGE };
}

/** Fetch the first page, or the one after what is shown. */
async function load(isMore = false) {
  const asked = (latest += 1);
  body.setAttribute("aria-busy", "true");
  try {
    const page = await getJson("/traces", { ...parameters(fields()), cursor: isMore ? cursor : null });
    if (asked !== latest) return;
    cursor = page.next;
    show(page.items, isMore);
    showProblem(null);
  } catch (error) {
    showProblem(error);
  }
  body.removeAttribute("aria-busy");
}

function show(calls, isMore) {
  const rows = calls.map(row);
  if (isMore) body.append(...rows);
  else fill(body, rows);
  if (isMore) rows[0]?.querySelector("a").focus();
  const count = body.childElementCount;
  byId("table").hidden = count === 0;
  byId("more").hidden = !cursor;
  const isSearch = Object.keys(fields()).some((name) => name !== "sort");
  byId("none-found").hidden = count > 0 || !isSearch;
  byId("none-yet").hidden = count > 0 || isSearch;
  setText(byId("count"), count === 0 ? "" : describe(count));
}

function describe(count) {
  const { sort, range } = fields();
  const which = sort === "worst" && !range ? ", worst of the last 24 hours" : "";
  return `${count}${cursor ? " or more" : ""} ${count === 1 ? "call" : "calls"}${which}`;
}

function row(call) {
  const start = seconds(call.started_at);
  const isRunning = call.ended_at === null && running.has(call.trace_id);
  return el("tr", { data: { trace: call.trace_id } },
    el("td", { class: "c-start" },
      el("a", { href: callAddress(call.trace_id), class: "row-link" },
        el("time", { datetime: call.started_at }, `${day(start)}, `, el("strong", {}, clock(start)))),
      isRunning ? el("span", { class: "badge" }, "running") : null,
      el("span", { class: "c-extra muted" }, `${parties(call)} \u00b7 ${duration(call.length_s)}`)),
    el("td", { class: "c-length number" }, duration(call.length_s)),
    el("td", { class: "c-parties" }, parties(call), attributes(call)),
    el("td", { class: "c-stations" }, call.stations.map((key) => el("span", { class: "tag" }, key))),
    el("td", { class: "c-health" }, healthBar(call.health)),
    el("td", { class: "c-worst" }, worst(call)),
    el("td", { class: `c-loss number ${lossClass(call.loss_ratio)}` }, percent(call.loss_ratio)));
}

function lossClass(share) {
  return share >= MUCH_LOSS ? "loss" : share > 0 ? "" : "muted";
}

function attributes(call) {
  const text = Object.entries(call.attributes ?? {})
    .map(([name, value]) => (value === true ? name : String(value))).join(", ");
  return text ? el("span", { class: "aside muted", title: text }, text) : null;
}

function healthBar(score) {
  const inner = el("span", { class: `bar-fill ${grade(score)}` });
  inner.style.width = `${Math.max(0, score ?? 0)}%`;
  return el("span", { class: "health-cell" }, el("span", { class: "bar", "aria-hidden": "true" }, inner),
    el("span", { class: "number" }, number(score, 0)));
}

function worst(call) {
  if (!call.worst) return "\u2013";
  const { score, bucket_ts: at, station_key: station, tap } = call.worst;
  const t = seconds(at);
  return el("a", {
    href: callAddress(call.trace_id, { t, station, tap }), class: "worst-link",
    "aria-label": `Worst moment: ${number(score, 0)} at ${clock(t)}, ${station} ${tap}`,
  }, el("span", { class: `score ${grade(score)}` }, number(score, 0)), el("span", {}, clock(t)),
  el("span", { class: `chip ${tap}` }, tap));
}

/** Mark the calls that are running. */
async function refreshActive() {
  const page = await getJson("/traces/active").catch(() => null);
  if (!page) return;
  const now = new Set(page.items.map((call) => call.trace_id));
  const isNew = [...now].some((id) => !body.querySelector(`tr[data-trace="${CSS.escape(id)}"]`));
  const hasChanged = now.size !== running.size || [...now].some((id) => !running.has(id));
  running = now;
  byId("fresh").hidden = !isNew || Object.keys(fields()).length > 0;
  if (hasChanged && !isNew) for (const line of body.rows) markRunning(line);
}

function markRunning(line) {
  const cell = line.cells[0];
  const badge = cell.querySelector(".badge");
  const isRunning = running.has(line.dataset.trace);
  if (badge && !isRunning) badge.remove();
  if (!badge && isRunning) cell.querySelector("a").after(el("span", { class: "badge" }, "running"));
}

/** Search for what the form says now; the address keeps it. */
function search() {
  byId("own-range").hidden = form.elements.range.value !== "own";
  showSort();
  const query = new URLSearchParams(fields()).toString();
  history.replaceState(null, "", query ? `?${query}` : location.pathname);
  return load();
}

function showSort() {
  const isWorst = form.elements.sort.value === "worst";
  byId("by-start").closest("th").setAttribute("aria-sort", isWorst ? "none" : "descending");
  byId("by-worst").closest("th").setAttribute("aria-sort", isWorst ? "ascending" : "none");
}

function sortBy(order) {
  form.elements.sort.value = order;
  void search();
}

/** Put what the address says into the form. */
function restore() {
  const query = new URLSearchParams(location.search);
  for (const name of FIELDS) if (query.has(name)) form.elements[name].value = query.get(name);
  byId("filters").open = ["extension", "station"].some((name) => query.has(name));
}

/** Move the focus by rows. */
function moveRow(step) {
  const links = [...body.querySelectorAll(".row-link")];
  const here = links.findIndex((link) => link.closest("tr").contains(document.activeElement));
  links[Math.min(Math.max(here + step, 0), links.length - 1)]?.focus();
}

function main() {
  restore();
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", debounce(() => void search(), TYPED_MS));
  byId("clear").addEventListener("click", () => {
    form.reset();
    void search();
  });
  byId("more").addEventListener("click", () => void load(true));
  byId("fresh").addEventListener("click", () => {
    byId("fresh").hidden = true;
    void load();
  });
  byId("by-start").addEventListener("click", () => sortBy("newest"));
  byId("by-worst").addEventListener("click", () => sortBy("worst"));
  body.addEventListener("click", (event) => {
    if (event.target.closest("a") || String(getSelection())) return;
    event.target.closest("tr")?.querySelector(".row-link").click();
  });
  bindKeys([
    { keys: ["ArrowDown", "j"], shown: "\u2193 J", help: "next call", run: () => moveRow(1) },
    { keys: ["ArrowUp", "k"], shown: "\u2191 K", help: "previous call", run: () => moveRow(-1) },
    { keys: ["/"], shown: "/", help: "search", run: () => form.elements.q.focus() },
    { keys: ["n"], shown: "N", help: "newest first", run: () => sortBy("newest") },
    { keys: ["w"], shown: "W", help: "worst first", run: () => sortBy("worst") },
  ]);
  void search().then(() => whileVisible(refreshActive, ACTIVE_MS));
  void pageStatus();
}

main();

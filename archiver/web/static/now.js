/** Live stations: how loud PRE and POST are at this moment. */

import { getJson } from "./api.js";
import { byId, el, fill, setText, showProblem } from "./dom.js";
import { grade, number, TAPS } from "./format.js";
import { loadMetrics, measure } from "./metrics.js";
import { pageStatus, whileVisible } from "./page.js";

const LIVE_MS = 1000;
const FLOOR_DBFS = -60;
const SOURCES = { metrics: "Live, from the monitored process.", database: "From the newest complete buckets." };
const shown = new Map();

/** Level meter of one tap; -60 to 0 dBFS. */
class Meter {
  constructor(station, tap) {
    this._fill = el("span", { class: `meter-fill ${tap}` });
    this._peak = el("span", { class: "meter-peak", hidden: true });
    this._text = el("span", { class: "number meter-text" });
    this._bar = el("span", {
      class: "meter", role: "meter", "aria-label": `Level of ${tap} at ${station}`, "aria-valuemin": FLOOR_DBFS,
      "aria-valuemax": 0, "aria-valuenow": FLOOR_DBFS,
    }, this._fill, this._peak);
    this.node = el("div", { class: "meter-row" }, el("span", { class: `chip ${tap}` }, tap), this._bar, this._text);
  }

  show(values) {
    const level = values?.rms_dbfs ?? null;
    const place = (dbfs) => Math.min(1, Math.max(0, 1 - dbfs / FLOOR_DBFS));
    this._fill.style.transform = `scaleX(${level === null ? 0 : place(level)})`;
    const peak = values?.peak_dbfs ?? null;
    this._peak.hidden = peak === null;
    if (peak !== null) this._peak.style.left = `${place(peak) * 100}%`;
    this._bar.setAttribute("aria-valuenow", String(Math.round(Math.max(FLOOR_DBFS, level ?? FLOOR_DBFS))));
    const text = level === null ? "\u2013" : measure("pcm.rms_dbfs", level);
    this._bar.setAttribute("aria-valuetext", text);
    setText(this._text, text);
  }
}

/** Card of one station. */
class StationCard {
  constructor(key) {
    this._meters = Object.fromEntries(TAPS.map((tap) => [tap, new Meter(key, tap)]));
    this._state = el("span", { class: "muted" });
    this._score = el("span", {});
    this.node = el("li", { class: "card now-card", data: { station: key } },
      el("h2", {}, key, el("span", { class: "now-state" }, this._score, this._state)),
      TAPS.map((tap) => this._meters[tap].node),
      el("a", { href: `/?station=${encodeURIComponent(key)}` }, "Calls of this station"));
  }

  show(station) {
    for (const tap of TAPS) this._meters[tap].show(station.taps[tap]);
    const count = Number(station.active);
    setText(this._state, count ? `${count} ${count === 1 ? "call" : "calls"}` : "quiet");
    this.node.classList.toggle("is-quiet", count === 0);
    const score = TAPS.map((tap) => station.taps[tap]?.score)
      .filter((value) => typeof value === "number").sort((one, other) => one - other)[0];
    this._score.className = score === undefined ? "" : `score ${grade(score)}`;
    setText(this._score, score === undefined ? "" : number(score, 0));
  }
}

async function refresh() {
  try {
    const { stations, source } = await getJson("/now");
    showProblem(null);
    byId("now-none").hidden = stations.length > 0;
    setText(byId("now-source"), SOURCES[source] ?? "");
    const cards = stations.map((station) => {
      if (!shown.has(station.station_key)) shown.set(station.station_key, new StationCard(station.station_key));
      const card = shown.get(station.station_key);
      card.show(station);
      return card.node;
    });
    const list = byId("now-list");
    const isOther = cards.length !== list.childElementCount;
    if (isOther || cards.some((card, index) => list.children[index] !== card)) fill(list, cards);
  } catch (error) {
    showProblem(error);
  }
}

void pageStatus();
// Levels without their unit are better than none.
void loadMetrics().catch(showProblem).then(() => whileVisible(refresh, LIVE_MS));

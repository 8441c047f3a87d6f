/** Lists below the timeline: knob changes, worst buckets, gaps, and the tracks as a table. */

import { byId, el, fill, setText } from "./dom.js";
import { clock, grade, knobValue, number, span, TAPS, words } from "./format.js";
import { formatMoment, knobAddress } from "./link.js";
import { metricName, plain, unit } from "./metrics.js";
import { worstBuckets } from "./store.js";

const MOST = 200;

const moment = (t, station, tap) => el("a", { href: formatMoment({ t, station, tap }), class: "moment" }, clock(t));

/** Fill the lists for one station. */
export async function fillLists(store, station, series) {
  const [events, gaps] = await Promise.all([store.events(), store.gaps()]);
  const own = events.filter((event) => !event.station_key || event.station_key === station);
  const turned = own.slice(0, MOST).map((event) => knobItem(event, station));
  fillList("knob-list", turned, "No knob was turned in this call.");
  fillList("worst-list", worstBuckets(series).map(({ t, tap, score }) => el("li", {}, moment(t, station, tap),
    el("span", { class: `chip ${tap}` }, tap), el("span", { class: `score ${grade(score)}` }, number(score, 0)))),
  "No bucket is worse than 95.");
  const here = gaps.filter((gap) => gap.station_key === station).sort((one, other) => one.start - other.start);
  fillList("gap-list", here.slice(0, MOST).map((gap) => gapItem(gap, station)), "Nothing is missing.");
}

function fillList(id, items, none) {
  fill(byId(id), items.length ? items : el("li", { class: "muted" }, none));
}

function knobItem(event, station) {
  const label = `Before and after ${event.knob_key} at ${clock(event.t)}`;
  return el("li", {}, moment(event.t, station), el("span", {}, el("code", {}, event.knob_key),
    ` ${knobValue(event.old_value)} \u2192 `, el("strong", {}, knobValue(event.new_value)), " ",
    el("span", { class: "muted" }, `by ${event.changed_by}${event.reason ? `: ${event.reason}` : ""} `),
    el("a", { href: knobAddress(event.event_id), "aria-label": label }, "before and after")));
}

function gapItem(gap, station) {
  return el("li", {}, moment(gap.start, station, gap.tap), el("span", { class: `chip ${gap.tap}` }, gap.tap),
    el("span", { class: gap.is_loss ? "loss" : "muted" }, words(gap.cause)),
    el("span", { class: "muted" }, span(gap.end - gap.start)));
}

/** Moments that the keys [ and ] step through: knob changes, losses, bad buckets. */
export async function marksOf(store, station, series) {
  const [events, gaps] = await Promise.all([store.events(), store.gaps()]);
  const times = [
    ...events.filter((event) => !event.station_key || event.station_key === station).map((event) => event.t),
    ...gaps.filter((gap) => gap.station_key === station && gap.is_loss).map((gap) => gap.start),
    ...worstBuckets(series, 20, 85).map((bucket) => bucket.t),
  ];
  return [...new Set(times)].filter((t) => t >= store.start && t < store.end).sort((one, other) => one - other);
}

/** The tracks as a table: the same numbers for those who do not see the picture. */
export function fillTable(series, keys, station) {
  setText(byId("numbers-caption"), `Means in buckets of five seconds at ${station}, UTC`);
  const columns = keys.flatMap((key) => TAPS.filter((tap) => series[tap]?.[key]).map((tap) => ({ key, tap })));
  fill(byId("numbers-head"), el("tr", {}, el("th", { scope: "col" }, "Bucket"),
    columns.map(({ key, tap }) => el("th", { scope: "col", class: "number" }, `${metricName(key)} `,
      el("span", { class: `chip ${tap}` }, tap), ` ${unit(key)}`))));
  fill(byId("numbers-body"), series.times.map((t, index) => el("tr", {}, el("th", { scope: "row" }, clock(t)),
    columns.map(({ key, tap }) => el("td", { class: "number" }, plain(key, series[tap][key].avg[index]))))));
}

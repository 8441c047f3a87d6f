/** The head of a call page: who called whom, when, and how it went. */

import { byId, el, fill, setText } from "./dom.js";
import { clock, day, duration, grade, iso, number, parties, percent, seconds, words } from "./format.js";
import { formatMoment } from "./link.js";

const NOTHING_WRONG = 95;

const fact = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, ...value));

/** Show what is known of a call; `trace` is the answer of the API. */
export function showFacts(trace) {
  const start = seconds(trace.started_at);
  document.title = `${parties(trace)} ${clock(start)} \u00b7 monitoring`;
  setText(byId("call-title"), parties(trace));
  fill(byId("call-ids"), el("code", { class: "id" }, trace.trace_id),
    trace.call_id ? [" \u00b7 call id ", el("code", { class: "id" }, trace.call_id)] : null);
  fill(byId("facts"),
    fact("Started", el("time", { datetime: iso(start) }, `${day(start)}, ${clock(start)} UTC`)),
    fact("Length", duration(trace.length_s), trace.ended_at === null && el("span", { class: "badge" }, "running")),
    fact("Health", el("strong", { class: `score ${grade(trace.health)}` }, number(trace.health, 0))),
    trace.worst?.score < NOTHING_WRONG ? fact("Worst", worst(trace.worst)) : null,
    fact("Loss", el("span", { class: trace.loss_ratio > 0 ? "loss" : "" }, percent(trace.loss_ratio))),
    trace.end_reason && trace.end_reason !== "host" ? fact("Ended by", words(trace.end_reason)) : null,
    Object.entries(trace.attributes ?? {}).map(([name, value]) => fact(name, value === true ? "yes" : String(value))));
}

function worst({ score, bucket_ts: at, station_key: station, tap }) {
  const t = seconds(at);
  return el("a", { href: formatMoment({ t, station, tap }) }, `${number(score, 0)} at ${clock(t)}`);
}

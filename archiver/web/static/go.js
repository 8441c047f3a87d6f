/** Where an alert leads: the worst calls and buckets of a station, a metric and a moment. */

import { getJson } from "./api.js";
import { byId, el, fill, setText, showProblem } from "./dom.js";
import { BUCKET_S, clock, day, seconds } from "./format.js";
import { InlinePlayer } from "./inline.js";
import { callAddress } from "./link.js";
import { loadMetrics, measure, metricName } from "./metrics.js";
import { pageStatus } from "./page.js";

const WINDOW_S = 300;

function setTitle({ station, metric }) {
  const what = metric ? metricName(metric) : "health";
  const title = `Worst ${what}${station ? ` at ${station}` : ""}`;
  setText(byId("go-title"), title);
  document.title = `${title} \u00b7 monitoring`;
}

function count(items) {
  const calls = new Set(items.map((found) => found.trace_id)).size;
  return calls ? `${items.length} buckets of ${calls} ${calls === 1 ? "call" : "calls"}` : "";
}

function item(found, roles) {
  const t = seconds(found.bucket_ts);
  const { trace_id: traceId, station_key: station, tap } = found;
  const player = roles.includes("listen") ? new InlinePlayer({
    traceId, station, tap, label: `${station} at ${clock(t)}`,
    stretches: [{ name: "bucket", from: t, to: t + BUCKET_S }],
  }) : null;
  return el("li", { class: "card go-item" },
    el("div", { class: "go-value" }, el("strong", {}, measure(found.metric ?? "", found.value)),
      el("span", { class: `chip ${tap}` }, tap)),
    el("div", { class: "go-text" },
      el("a", { href: callAddress(traceId, { t, station, tap }) }, `${day(t)}, ${clock(t)} UTC`),
      el("span", { class: "muted" }, `${station} in `, el("code", { class: "id" }, traceId))),
    player?.node ?? null);
}

async function main() {
  const query = new URLSearchParams(location.search);
  const wanted = Object.fromEntries(["station", "metric", "at", "window_s"].map((name) => [name, query.get(name)]));
  const at = Number(wanted.at) || null;
  const around = Number(wanted.window_s) || WINDOW_S;
  setText(byId("go-when"), at === null ? "The newest of the archive." : (
    `Within ${Math.round(around / 60)} minutes of ${day(at)}, ${clock(at)} UTC.`));
  try {
    const [{ items }, { roles }] = await Promise.all(
      [getJson("/worst", { ...wanted, limit: 20 }), pageStatus(), loadMetrics()]);
    setTitle(wanted);
    byId("go-none").hidden = items.length > 0;
    setText(byId("go-count"), count(items));
    fill(byId("go-list"), items.map((found) => item(found, roles)));
  } catch (error) {
    showProblem(error);
  }
}

void main();

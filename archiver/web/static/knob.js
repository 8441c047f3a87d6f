/** One knob change, before and after: heard, seen, and as numbers. */

import { getJson } from "./api.js";
import { byId, el, fill, setText, showProblem } from "./dom.js";
import { BUCKET_S, clock, day, knobValue, seconds, TAPS } from "./format.js";
import { InlinePlayer } from "./inline.js";
import { bindKeys } from "./keys.js";
import { drawGrid, Lane } from "./lane.js";
import { callAddress } from "./link.js";
import { difference, loadMetrics, meaning, metricName, plain, unit } from "./metrics.js";
import { pageStatus } from "./page.js";
import { colours, drawGaps, drawWave, onTheme } from "./paint.js";
import { loadPeaks, Picture } from "./picture.js";
import { loadGaps } from "./store.js";
import { TimeView } from "./view.js";

const SCORE = "health.audio_score";
const SIDES = ["before", "after"];
const SCOPES = {
  trace_station: "one station of one call", trace: "one call", station: "one station in all calls", global: "all calls",
};

/** Buckets of both sides by call and station: a change may reach many of them. */
function places(event) {
  const found = new Map();
  for (const side of SIDES) {
    for (const bucket of event[side] ?? []) {
      const { trace_id: traceId, station_key: station } = bucket;
      const name = `${traceId} ${station}`;
      if (!found.has(name)) found.set(name, { traceId, station, before: [], after: [] });
      found.get(name)[side].push(bucket);
    }
  }
  return [...found.values()];
}

function stretch(place, side) {
  const times = place[side].map((bucket) => seconds(bucket.bucket_ts));
  return times.length ? { name: side, from: Math.min(...times), to: Math.max(...times) + BUCKET_S } : null;
}

/** Mean of the means of the buckets, null where there are none. */
function mean(buckets, tap, key) {
  const values = buckets.map((bucket) => bucket.taps[tap]?.metrics[key]?.avg)
    .filter((value) => typeof value === "number");
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}

/** Metrics of the buckets, health first. */
function keysOf(buckets) {
  const keys = buckets.flatMap((bucket) => TAPS.flatMap((tap) => Object.keys(bucket.taps[tap]?.metrics ?? {})));
  return [...new Set(keys)].sort((one, other) => (
    (other === SCORE) - (one === SCORE) || one.localeCompare(other)));
}

function table(place) {
  const rows = keysOf([...place.before, ...place.after]).flatMap((key) => TAPS.map((tap) => {
    const [before, after] = SIDES.map((side) => mean(place[side], tap, key));
    if (before === null && after === null) return null;
    return el("tr", {},
      el("th", { scope: "row", title: meaning(key) }, metricName(key), " ", el("span", { class: "muted" }, unit(key))),
      el("td", {}, el("span", { class: `chip ${tap}` }, tap)),
      el("td", { class: "number" }, plain(key, before)), el("td", { class: "number" }, plain(key, after)),
      el("td", { class: "number" }, el("strong", {}, difference(key, before, after))));
  }));
  const label = `Numbers of ${place.station}`;
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, el("table", { class: "data" },
    el("caption", { class: "muted" }, `Means of ${place.before.length} buckets before and ${place.after.length} after`),
    el("thead", {}, el("tr", {}, ["Metric", "Tap", "Before", "After", "Difference"].map((name, index) => (
      el("th", { scope: "col", class: index > 1 ? "number" : null }, name))))),
    el("tbody", {}, rows)));
}

/** Waveforms of PRE and POST with the moment of the change and the playhead. */
class Waves {
  constructor(place, at, ranges) {
    this.view = new TimeView(Math.min(...ranges.map((one) => one.from)), Math.max(...ranges.map((one) => one.to)));
    this._at = at;
    this._gaps = [];
    this._head = el("div", { class: "line playhead", hidden: true });
    this._lanes = TAPS.map((tap) => this._lane(place, tap));
    this.node = el("div", { class: "timeline small" }, this._lanes.map((lane) => lane.node),
      el("div", { class: "overlay", "aria-hidden": "true" }, this._head));
    const draw = () => this._lanes.forEach((lane) => lane.invalidate());
    new ResizeObserver(draw).observe(this.node);
    onTheme(draw);
    loadGaps(place.traceId).then((gaps) => {
      this._gaps = gaps.filter((gap) => gap.station_key === place.station);
      draw();
    }).catch(showProblem);
  }

  _lane(place, tap) {
    const picture = new Picture(loadPeaks(place, tap), () => lane.invalidate());
    const lane = new Lane({
      label: el("span", { class: `chip ${tap}` }, tap), height: 64, name: `wave-${tap}`,
      describe: `waveform of ${tap}, before and after the change`,
      prepare: (width) => picture.want(this.view, width),
      paint: (context, size) => this._paint(context, size, picture.layers, tap),
    });
    return lane;
  }

  _paint(context, size, layers, tap) {
    const { view } = this;
    const palette = colours();
    drawGrid(context, { view, ...size });
    if (layers.length) {
      drawWave(context, { layers, view, ...size, colour: palette[tap.toLowerCase()], clipColour: palette.loss });
    }
    drawGaps(context, { gaps: this._gaps.filter((gap) => gap.tap === tap), view, ...size });
    context.fillStyle = palette.text;
    context.fillRect(view.toX(this._at, size.width) - size.ratio, 0, 2 * size.ratio, size.height);
  }

  showAt(t) {
    this._head.hidden = t === null;
    if (t !== null) this._head.style.transform = `translateX(${this.view.toX(t, this._lanes[0].plot.clientWidth)}px)`;
  }
}

/** One call and station that the change reached. */
function makePlace(place, event, roles) {
  const ranges = SIDES.map((side) => stretch(place, side)).filter(Boolean);
  const at = seconds(event.counts_from ?? event.created_at);
  const sound = roles.includes("listen") ? new InlinePlayer({
    traceId: place.traceId, station: place.station, label: `${place.station} before and after`, stretches: ranges,
  }) : null;
  const waves = new Waves(place, at, ranges);
  const follow = () => {
    waves.showAt(sound?.time ?? null);
    requestAnimationFrame(follow);
  };
  if (sound) requestAnimationFrame(follow);
  const inCall = callAddress(place.traceId, { t: at, station: place.station, tap: "POST" });
  const node = el("section", { class: "card" },
    el("h2", {}, place.station, " ", el("a", { href: inCall }, "in its call")),
    sound?.node ?? null, waves.node, table(place));
  return { node, sound };
}

function show(event) {
  const at = seconds(event.counts_from ?? event.created_at);
  document.title = `${event.knob_key} \u00b7 monitoring`;
  setText(byId("knob-title"), event.knob_key);
  const fact = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, ...value));
  fill(byId("facts"),
    fact("Change", `${knobValue(event.old_value)} \u2192 `, el("strong", {}, knobValue(event.new_value))),
    fact("When", `${day(at)}, ${clock(at, 1)} UTC`), fact("By", event.changed_by),
    event.reason ? fact("Why", event.reason) : null, fact("Reaches", SCOPES[event.scope] ?? event.scope));
}

/** Keys work on the place that was heard last, the first one at the start. */
function keys(sounds) {
  const current = () => sounds.find((sound) => sound.player?.isActive)
    ?? sounds.find((sound) => sound.player) ?? sounds[0];
  const key = (shown, help, run, names = [shown.toLowerCase()]) => (
    { keys: names, shown, help, run: () => run(current()) });
  bindKeys([
    key("Space", "play or pause", (sound) => sound.toggle(), [" "]),
    key("1", "hear before", (sound) => sound.hear("before")), key("2", "hear after", (sound) => sound.hear("after")),
    key("A", "hear PRE", (sound) => sound.choose("PRE")), key("B", "hear POST", (sound) => sound.choose("POST")),
  ]);
}

async function main() {
  const eventId = decodeURIComponent(location.pathname.replace(/^.*\/knob\//, ""));
  try {
    const path = `/knob-events/${encodeURIComponent(eventId)}`;
    const [event, { roles }] = await Promise.all([getJson(path), pageStatus(), loadMetrics()]);
    show(event);
    const made = places(event).map((place) => makePlace(place, event, roles));
    byId("knob-none").hidden = made.length > 0;
    fill(byId("places"), made.map(({ node }) => node));
    const sounds = made.map(({ sound }) => sound).filter(Boolean);
    if (sounds.length) keys(sounds);
  } catch (error) {
    setText(byId("knob-title"), "This change cannot be shown");
    showProblem(error);
  }
}

void main();

/** What the page shows of one station: health, knobs, waveforms, spectrograms, tracks of metrics. */

import { el, setText } from "./dom.js";
import { BUCKET_S, knobValue, TAPS } from "./format.js";
import { drawGrid, Lane } from "./lane.js";
import { metricName } from "./metrics.js";
import { colours, drawGaps, drawSpectrogram, drawWave } from "./paint.js";
import { loadPeaks, loadSpectrogram, Picture } from "./picture.js";
import { Track } from "./tracks.js";

const SCORE = "health.audio_score";
const MARK_APART_PX = 13;
const WORDS = { wave: "waveform", spectrum: "spectrogram" };

/** Rows of one station, folded until `open()`. */
export class StationRows {
  /**
   * @param {string} station
   * @param {{store: object, view: object, metrics: () => string[], removeMetric: Function,
   *   choose: (station: string) => void, loaded: () => void}} page
   */
  constructor(station, page) {
    this.station = station;
    this.isOpen = false;
    this.series = null;
    this._page = page;
    this._gaps = [];
    this._events = [];
    this._tracks = [];
    this._toggle = el("button", {
      type: "button", class: "station-name", "aria-expanded": "false",
      onclick: () => (this.isOpen ? this.close() : page.choose(station)),
    }, station);
    this._summary = el("span", { class: "muted" });
    this._strip = this._makeStrip();
    this._body = el("div", { class: "station-body", hidden: true });
    this.node = el("section", { class: "station", "aria-label": `Station ${station}`, data: { station } },
      el("div", { class: "station-head" }, this._toggle, this._summary), this._strip.node, this._body);
    // Who opens the station at once does so before, and what it shows is fetched once.
    queueMicrotask(() => void this.load());
  }

  /** Fetch numbers, gaps and knob changes of the station. */
  async load() {
    const { store } = this._page;
    const keys = this.isOpen ? this._page.metrics() : null;
    const [series, gaps, events] = await Promise.all(
      [store.series(this.station, keys), store.gaps(), store.events()]);
    this.series = series;
    this._gaps = gaps.filter((gap) => gap.station_key === this.station);
    this._events = events.filter((event) => !event.station_key || event.station_key === this.station);
    setText(this._summary, this._describe());
    this.invalidate();
    this._page.loaded();
  }

  _describe() {
    const losses = this._gaps.filter((gap) => gap.is_loss).length;
    const scores = TAPS.flatMap((tap) => this.series[tap]?.[SCORE]?.min ?? []).filter((value) => value !== null);
    const parts = [
      scores.length ? `worst health ${Math.round(Math.min(...scores))}` : "no health scores",
      losses ? `${losses} ${losses === 1 ? "gap with loss" : "gaps with loss"}` : "no loss",
      this._events.length ? `${this._events.length} knob changes`.replace(/^1 (.*)s$/, "1 $1") : "no knob changes",
    ];
    return parts.join(" \u00b7 ");
  }

  open() {
    if (this.isOpen) return;
    this.isOpen = true;
    this._toggle.setAttribute("aria-expanded", "true");
    this._body.hidden = false;
    if (!this._lanes) this._build();
    this.setMetrics();
  }

  close() {
    this.isOpen = false;
    this._toggle.setAttribute("aria-expanded", "false");
    this._body.hidden = true;
  }

  /** Mark the station that the player plays. */
  setActive(isActive) {
    this.node.classList.toggle("is-active", isActive);
  }

  /** Show the tracks that are chosen now. */
  setMetrics() {
    if (!this.isOpen) return;
    const keys = this._page.metrics();
    this._tracks = keys.map((key) => this._tracks.find((track) => track.key === key) ?? new Track(key, {
      view: this._page.view, series: () => this.series, remove: this._page.removeMetric,
    }));
    this._body.replaceChildren(...this._lanes.map((lane) => lane.node), ...this._tracks.map((track) => track.node));
    void this.load();
  }

  /** Show values at the playhead. */
  showAt(t) {
    if (this.isOpen) for (const track of this._tracks) track.showAt(t);
  }

  /** Everything is drawn anew: the view moved, the size changed, or numbers came. */
  invalidate() {
    this._strip.invalidate();
    if (!this.isOpen) return;
    for (const lane of this._lanes) lane.invalidate();
    for (const track of this._tracks) track.lane.invalidate();
  }

  _build() {
    const taps = this._page.store.taps(this.station);
    this._lanes = [
      this._makeKnobs(),
      ...taps.map((tap) => this._makePicture("wave", tap, 72)),
      ...taps.map((tap) => this._makePicture("spectrum", tap, 76)),
    ];
  }

  _makeStrip() {
    return new Lane({
      label: el("span", { class: "muted" }, "health"), height: 20, name: "health",
      describe: `Health of ${this.station} in buckets of five seconds, PRE above POST`,
      paint: (context, size) => this._paintStrip(context, size),
    });
  }

  _paintStrip(context, { width, height, ratio }) {
    const { view } = this._page;
    TAPS.forEach((tap, row) => {
      const scores = this.series?.[tap]?.[SCORE]?.avg;
      if (!scores) return;
      this.series.times.forEach((t, index) => {
        if (scores[index] === null || t + BUCKET_S < view.from || t > view.to) return;
        const left = view.toX(t, width);
        const wide = Math.max(ratio, view.toX(t + BUCKET_S, width) - left - ratio);
        paintScore(context, scores[index], [left, row * (height / 2), wide, height / 2 - ratio]);
      });
    });
  }

  _makeKnobs() {
    const layer = el("div", { class: "marks", "aria-hidden": "true" });
    const lane = new Lane({
      label: el("span", { class: "muted" }, "knobs"), height: 20, describe: null, name: "knobs",
      paint: (context, size) => {
        drawGrid(context, { view: this._page.view, ...size });
        layer.replaceChildren(...this._marks(lane.plot.clientWidth));
      },
    });
    lane.plot.append(layer);
    return lane;
  }

  /** One mark for knob changes that would lie on top of each other. */
  _marks(width) {
    const { view } = this._page;
    const groups = [];
    for (const event of this._events) {
      const x = view.toX(event.t, width);
      if (x < 0 || x > width) continue;
      const last = groups.at(-1);
      if (last && x - last.x < MARK_APART_PX) last.events.push(event);
      else groups.push({ x, events: [event] });
    }
    return groups.map(({ x, events }) => {
      const mark = el("span", { class: "mark", title: events.map(tooltip).join("\n"), data: { t: events[0].t } });
      mark.style.transform = `translateX(${x}px)`;
      return mark;
    });
  }

  _makePicture(kind, tap, height) {
    const { store, view } = this._page;
    const load = kind === "wave" ? loadPeaks : loadSpectrogram;
    const picture = new Picture(
      load({ traceId: store.trace.trace_id, station: this.station }, tap), () => lane.invalidate());
    const scale = el("span", { class: "scale" });
    const lane = new Lane({
      label: [el("span", { class: `chip ${tap}` }, tap), el("span", { class: "muted" }, WORDS[kind])],
      height, name: `${kind}-${tap}`, describe: `${WORDS[kind]} of ${tap} at ${this.station}`,
      prepare: (width) => picture.want(view, width),
      paint: (context, size) => this._paintPicture(kind, tap, { context, size, picture, scale }),
    });
    lane.plot.append(scale);
    return lane;
  }

  _paintPicture(kind, tap, { context, size, picture, scale }) {
    const { view } = this._page;
    const palette = colours();
    const { layers } = picture;
    if (kind === "spectrum") {
      drawSpectrogram(context, { layers, view, ...size });
      const hertz = layers.at(-1)?.hertz;
      setText(scale, layers.length ? (hertz ? `0 to ${hertz / 1000} kHz` : "") : waitingText(picture));
    } else {
      setText(scale, layers.length ? "" : waitingText(picture));
      drawGrid(context, { view, ...size });
      if (layers.length) {
        drawWave(context, { layers, view, ...size, colour: palette[tap.toLowerCase()], clipColour: palette.loss });
      }
    }
    drawGaps(context, { gaps: this._gaps.filter((gap) => gap.tap === tap), view, ...size });
  }
}

const waitingText = (picture) => (picture.hasFailed ? "no picture" : "loading\u2026");

/** Paint a score: the worse, the more it stands out. */
export function paintScore(context, score, box) {
  const palette = colours();
  context.globalAlpha = 0.25 + 0.75 * Math.min(1, (100 - score) / 50);
  context.fillStyle = score >= 85 ? palette.good : score >= 60 ? palette.fair : palette.poor;
  context.fillRect(...box);
  context.globalAlpha = 1;
}

function tooltip(event) {
  const what = `${event.knob_key}: ${knobValue(event.old_value)} \u2192 ${knobValue(event.new_value)}`;
  return `${what}, by ${event.changed_by}${event.reason ? `: ${event.reason}` : ""}`;
}

/** Metrics that a call page shows unless somebody chose others. */
export function defaultMetrics(known) {
  const wanted = ["pcm.rms_dbfs", "pair.speech_lost_ratio", "pcm.clipping_ratio", "advanced.lufs_momentary"];
  return wanted.filter((key) => known.includes(key)).slice(0, 3);
}

/** Options to add a track, grouped by the first word of the key. */
export function metricOptions(known, chosen) {
  const groups = new Map();
  for (const key of known.filter((one) => !chosen.includes(one))) {
    const family = key.slice(0, key.indexOf("."));
    if (!groups.has(family)) groups.set(family, el("optgroup", { label: family }));
    groups.get(family).append(el("option", { value: key }, metricName(key)));
  }
  return [el("option", { value: "" }, "Add a track\u2026"), ...groups.values()];
}

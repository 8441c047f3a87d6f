/** The page of one call: timeline, A/B player and bucket panel on one time axis. */

import { soundAddress } from "./api.js";
import { callKeys } from "./callkeys.js";
import { byId, debounce, fill, setText, showProblem } from "./dom.js";
import { showFacts } from "./facts.js";
import { bucketOf, clock, duration } from "./format.js";
import { bindKeys } from "./keys.js";
import { formatMoment, parseMoment } from "./link.js";
import { fillLists, fillTable, marksOf } from "./lists.js";
import { loadMetrics } from "./metrics.js";
import { pageStatus, whileVisible } from "./page.js";
import { BucketPanel } from "./panel.js";
import { Player } from "./player.js";
import { PlayerBar } from "./playerbar.js";
import { defaultMetrics, metricOptions } from "./station.js";
import { CallStore, loudnessDifference } from "./store.js";
import { bucketRange, Timeline } from "./timeline.js";
import { TimeView } from "./view.js";

const METRICS = "monitoring.tracks";
const GROW_MS = 5000;
const COPIED_MS = 2000;
const AROUND_S = 15; // what a link to a moment shows of a long call, on both sides
const LONG_S = 120;
const SHORT_S = 20; // shown with tenths of a second
const NEARLY_S = 0.3;

/** Everything that happens on the page goes through here. */
class CallPage {
  constructor(store, roles) {
    this.store = store;
    this.view = new TimeView(store.start, store.end);
    this.metrics = chosenMetrics(store.trace.metrics);
    this.timeline = new Timeline(byId("timeline"), {
      store, view: this.view, metrics: () => this.metrics,
      removeMetric: (key) => this.setMetrics(this.metrics.filter((one) => one !== key)),
    });
    this.panel = new BucketPanel(store, roles);
    this.bar = new PlayerBar(byId("player"), {
      seek: (t) => this.seek(t), jump: (direction) => this.jump(direction), copy: () => void this.copyLink(),
    });
    this.series = null;
    this.marks = [];
    this.station = null;
    this._frame = null;
    this._remember = debounce(() => this._writeLink(), 150);
    this._listen();
    this.followLink();
    this.bar.setRoles(roles);
  }

  /** Show and play another station from now on. */
  choose(station, t = this.player?.time ?? this.store.start) {
    this.timeline.rows(station).open();
    if (station === this.station) return;
    const old = this.player;
    const { trace, start, end } = this.store;
    this.station = station;
    this.player = new Player({
      traceId: trace.trace_id, station, taps: this.store.taps(station), rate: this.store.rate(station), start, end,
      time: t,
    });
    this.player.difference = (at) => (this.series ? loudnessDifference(this.series, at) : null);
    this._takeOver(old);
    this.player.addEventListener("change", () => this._changed());
    this.bar.attach(this.player);
    this.timeline.setStation(station);
    void this.loadNumbers();
    this._changed();
  }

  _takeOver(old) {
    if (!old) return;
    this.player.isMatched = old.isMatched;
    this.player.isLooping = old.isLooping;
    if (this.player.taps.includes(old.tap)) this.player.tap = old.tap;
    const wasActive = old.isActive;
    old.close();
    if (wasActive) void this.player.play();
  }

  /** Fetch what is shown of the station: tracks, lists, marks. */
  async loadNumbers() {
    const { station } = this;
    try {
      const series = await this.store.series(station, this.metrics);
      if (station !== this.station) return;
      this.series = series;
      await fillLists(this.store, station, series);
      this.marks = await marksOf(this.store, station, series);
      this.fillTable();
      this._tick();
    } catch (error) {
      showProblem(error);
    }
  }

  fillTable() {
    if (byId("numbers").open && this.series) fillTable(this.series, this.metrics, this.station);
  }

  setMetrics(keys) {
    this.metrics = keys;
    localStorage.setItem(METRICS, JSON.stringify(keys));
    for (const rows of this.timeline.stations) rows.setMetrics();
    fill(byId("add-track"), metricOptions(this.store.trace.metrics, keys));
    void this.loadNumbers();
  }

  seek(t) {
    this.player.seek(t);
    this.view.reveal(this.player.time);
    this._tick();
  }

  /** Step by seconds; the view follows. */
  step(s) {
    this.seek(this.player.time + s);
  }

  /** Go to the start of the next bucket, or of this one and the ones before it. */
  stepBucket(direction) {
    const here = bucketOf(this.player.time);
    const isInside = direction < 0 && this.player.time - here > NEARLY_S;
    this.seek(isInside ? here : here + 5 * direction);
  }

  /** Go to the next or previous mark. */
  jump(direction) {
    const now = this.player.time;
    const found = direction > 0 ? this.marks.find((t) => t > now + NEARLY_S / 3)
      : this.marks.findLast((t) => t < now - NEARLY_S);
    if (found !== undefined) this.seek(found);
  }

  select(range) {
    this.timeline.setSelection(range);
    void this.player.playRange(range.from, range.to);
  }

  clearSelection() {
    this.player.clearRange();
    this.timeline.setSelection(null);
    this._changed();
  }

  /** Show the selection, or the bucket at the playhead. */
  showRange() {
    const range = this.player.range ?? bucketRange(this.player.time);
    this.view.show(range.from - 0.05 * (range.to - range.from), range.to + 0.05 * (range.to - range.from));
  }

  /** Go where the address says. */
  followLink() {
    const moment = parseMoment(location.hash, this.store.start);
    const known = this.store.stations.includes(moment.station) ? moment.station : null;
    const station = known ?? this.station ?? this.store.trace.worst?.station_key ?? this.store.stations[0];
    const t = Math.min(Math.max(moment.t ?? this.player?.time ?? this.store.start, this.store.start), this.store.end);
    this.choose(station, t);
    if (moment.tap) this.player.choose(moment.tap);
    if (moment.t === null) return;
    if (this.store.end - this.store.start > LONG_S && (t < this.view.from || t > this.view.to || this.view.isWhole)) {
      this.view.show(t - AROUND_S, t + AROUND_S);
    }
    this.seek(t);
    if (moment.end > moment.t) {
      this.player.range = { from: moment.t, to: moment.end };
      this.timeline.setSelection(this.player.range);
    }
    this._changed();
  }

  link() {
    const { range, time, tap } = this.player;
    const moment = range ? { t: range.from, end: range.to } : { t: time };
    return formatMoment({ ...moment, station: this.station, tap });
  }

  async copyLink() {
    this._writeLink();
    try {
      await navigator.clipboard.writeText(location.href);
      this.bar.setCopied(true);
      setTimeout(() => this.bar.setCopied(false), COPIED_MS);
    } catch {
      // Without the right to write to the clipboard, the address bar holds the link.
      showProblem(new Error("The browser did not copy; the address of this page is the link."));
    }
  }

  _writeLink() {
    if (this.player.isActive || this.player.state === "idle") return;
    history.replaceState(null, "", this.link());
  }

  /** State, tap or range of the player changed. */
  _changed() {
    this.timeline.setSelection(this.player.range);
    this._remember();
    this._tick();
    if (this.player.isActive && this._frame === null) this._follow();
  }

  /** While it plays, follow it with every frame of the screen. */
  _follow() {
    this._frame = requestAnimationFrame(() => {
      this._frame = null;
      this._tick();
      if (!this.player.isActive) return;
      const { time } = this.player;
      if (time > this.view.to && time < this.view.to + 1) this.view.reveal(time);
      this._follow();
    });
  }

  _tick() {
    const { time } = this.player;
    this.timeline.setTime(time);
    this.timeline.rows(this.station).showAt(time);
    this.bar.tick();
    this._offerDownload(time);
    void this.panel.show(this.station, Math.min(time, this.store.end - 0.001));
  }

  _offerDownload(time) {
    const { from, to } = this.player.range ?? bucketRange(time);
    const where = { traceId: this.store.trace.trace_id, station: this.station };
    const what = this.player.range ? "the selection" : "this bucket";
    this.bar.setDownload(soundAddress(where, this.player.tap, from, to, true),
      `Download ${what} at ${this.player.tap}, ${clock(from)} to ${clock(to)}, as WAV`);
  }

  _listen() {
    const { timeline, view } = this;
    timeline.addEventListener("choose", ({ detail }) => this.choose(detail.station));
    timeline.addEventListener("seek", ({ detail }) => {
      this.clearSelection();
      void this.player.play(detail.t);
    });
    timeline.addEventListener("select", ({ detail }) => this.select(detail));
    view.addEventListener("change", () => this._showView());
    addEventListener("hashchange", () => this.followLink());
    byId("zoom-in").addEventListener("click", () => view.zoom(0.5, this.anchor()));
    byId("zoom-out").addEventListener("click", () => view.zoom(2, this.anchor()));
    byId("zoom-fit").addEventListener("click", () => view.fit());
    byId("numbers").addEventListener("toggle", () => this.fillTable());
    const adder = byId("add-track");
    fill(adder, metricOptions(this.store.trace.metrics, this.metrics));
    adder.addEventListener("change", () => adder.value && this.setMetrics([...this.metrics, adder.value]));
    bindKeys(callKeys(this));
    this._showView();
  }

  /** Zoom about the playhead when it is in sight, else about the middle. */
  anchor() {
    const { time } = this.player;
    return time >= this.view.from && time <= this.view.to ? time : undefined;
  }

  _showView() {
    const { from, to, span, isWhole } = this.view;
    const digits = span < SHORT_S ? 1 : 0;
    setText(byId("view-range"), `${clock(from, digits)} to ${clock(to, digits)} UTC (${duration(span, digits)})`);
    byId("zoom-fit").disabled = isWhole;
    byId("zoom-out").disabled = isWhole;
  }

  /** A call that is running grows. */
  async grow() {
    if (!this.store.isRunning || !(await this.store.refresh())) return;
    this.view.grow(this.store.end);
    this.player.grow(this.store.end);
    for (const rows of this.timeline.stations) void rows.load();
    this.panel.forget();
    showFacts(this.store.trace);
    await this.loadNumbers();
  }
}

function chosenMetrics(known) {
  let chosen = null;
  try {
    chosen = JSON.parse(localStorage.getItem(METRICS) ?? "null");
  } catch {
    // Something else wrote there; the defaults do.
  }
  return Array.isArray(chosen) ? chosen.filter((key) => known.includes(key)) : defaultMetrics(known);
}

async function main() {
  const traceId = decodeURIComponent(location.pathname.replace(/^.*\/call\//, ""));
  try {
    const [store, { roles }] = await Promise.all([CallStore.load(traceId), pageStatus(), loadMetrics()]);
    showFacts(store.trace);
    if (store.stations.length === 0) throw new Error("Nothing was heard of this call yet; it takes five seconds.");
    byId("call").hidden = false;
    byId("player").hidden = false;
    const page = new CallPage(store, roles);
    if (store.isRunning) whileVisible(() => page.grow().catch(showProblem), GROW_MS);
  } catch (error) {
    setText(byId("call-title"), "This call cannot be shown");
    showProblem(error);
  }
}

void main();

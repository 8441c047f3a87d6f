/** What a call page knows of its call: fetched once, asked for often. */

import { getAll, getJson, tracePath } from "./api.js";
import { BUCKET_S, bucketOf, iso, seconds, TAPS } from "./format.js";

const PAGE = 4; // buckets fetched at once around the playhead: twenty seconds
const MATCHING = ["pair.gain_db", "pcm.rms_dbfs"];
const SCORE = "health.audio_score";
const TOUCHING_S = 0.002;
const NEAR = 6; // buckets to both sides in which the levels are looked for

const within = (value, low, high) => Math.min(Math.max(value, low), high);

/** Return what `load` promised under this name; what failed is forgotten, so that the next one tries again. */
function remember(map, name, load) {
  if (!map.has(name)) {
    const promise = load();
    promise.catch(() => map.delete(name));
    map.set(name, promise);
  }
  return map.get(name);
}

/** One call and its numbers. */
export class CallStore {
  /** @param {object} trace Answer of the API for this call. */
  constructor(trace) {
    this._series = new Map();
    this._buckets = new Map();
    this._pages = new Map();
    this._gaps = null;
    this._events = null;
    this.update(trace);
  }

  static async load(traceId) {
    return new CallStore(await getJson(tracePath(traceId)));
  }

  /** Ask again; true when the call has grown. */
  async refresh() {
    const before = this.end;
    this.update(await getJson(this.path));
    if (this.end === before) return false;
    this._series.clear();
    this._pages.clear();
    this._gaps = null;
    this._events = null;
    return true;
  }

  update(trace) {
    this.trace = trace;
    this.path = tracePath(trace.trace_id);
    this.stations = trace.stations.map((station) => station.station_key);
    const [first, last] = [seconds(trace.first_ts), seconds(trace.last_ts)];
    const [started, ended] = [seconds(trace.started_at), seconds(trace.ended_at)];
    // Buckets reach beyond the call by up to their length; what the host said is more exact.
    this.start = first === null ? started : within(started, first, first + BUCKET_S);
    this.end = last === null ? this.start + (trace.length_s ?? BUCKET_S) : within(ended ?? last, last - BUCKET_S, last);
    this.end = Math.max(this.end, this.start + BUCKET_S);
  }

  get isRunning() {
    return this.trace.ended_at === null;
  }

  /** Taps of a station at which something was heard. */
  taps(station) {
    const found = this.trace.stations.find((one) => one.station_key === station);
    return TAPS.filter((tap) => found?.taps.some((one) => one.tap === tap));
  }

  /** Largest sampling rate of a station's taps in Hz. */
  rate(station) {
    const found = this.trace.stations.find((one) => one.station_key === station);
    return Math.max(8000, ...(found?.taps ?? []).map((tap) => tap.rate));
  }

  /** Health, and of a station that is open what the player needs and `keys`: {times, PRE, POST}. */
  async series(station, keys) {
    const always = keys === null ? [SCORE] : [SCORE, ...MATCHING, ...keys];
    const wanted = [...new Set(always)].filter((key) => this.trace.metrics.includes(key));
    const id = `${station} ${wanted.join()}`;
    return remember(this._series, id, () => this._loadSeries(station, wanted));
  }

  async _loadSeries(station, keys) {
    const answer = await getJson(`${this.path}/series`, { station, metrics: keys.join() });
    return { ...answer, times: answer.bucket_ts.map(seconds) };
  }

  /** Gaps of all stations: {station_key, tap, start, end, cause, is_loss}. */
  gaps() {
    this._gaps ??= loadGaps(this.trace.trace_id);
    return this._gaps;
  }

  /** Knob changes that reach this call, oldest first, each with the time `t` it counts from. */
  events() {
    this._events ??= getAll(`${this.path}/knob-events`).then((events) => events
      .map((event) => ({ ...event, t: seconds(event.counts_from ?? event.created_at) }))
      .sort((one, other) => one.t - other.t));
    return this._events;
  }

  /** The bucket that `t` lies in, null where there is none or it is not complete yet. */
  async bucket(station, t) {
    const start = bucketOf(t);
    const id = (at) => `${station} ${at}`;
    if (!this._buckets.has(id(start))) {
      const page = Math.floor(start / (PAGE * BUCKET_S)) * PAGE * BUCKET_S;
      for (const bucket of await remember(this._pages, id(page), () => this._loadPage(station, page))) {
        this._buckets.set(id(seconds(bucket.bucket_ts)), bucket);
      }
    }
    return this._buckets.get(id(start)) ?? null;
  }

  async _loadPage(station, from) {
    const answer = await getJson(`${this.path}/buckets`, {
      station, from: iso(from), to: iso(from + PAGE * BUCKET_S), limit: PAGE,
    });
    return answer.items;
  }
}

/** Gaps of a call: {station_key, tap, start, end, cause, is_loss}. */
export const loadGaps = (traceId) => getAll(`${tracePath(traceId)}/gaps`).then(joined);

/** Gaps with times in seconds; what the border of a bucket cut in two is one again. */
function joined(gaps) {
  const found = [];
  const open = new Map();
  for (const gap of gaps) {
    const name = `${gap.station_key} ${gap.tap} ${gap.cause}`;
    const [start, end] = [seconds(gap.from), seconds(gap.to)];
    const before = open.get(name);
    if (before && Math.abs(before.end - start) < TOUCHING_S) before.end = end;
    else {
      open.set(name, { ...gap, start, end });
      found.push(open.get(name));
    }
  }
  return found;
}

/** Buckets with the lowest scores of a series: [{t, tap, score}], worst first. */
export function worstBuckets(series, most = 8, below = 95) {
  const found = [];
  for (const tap of TAPS) {
    (series[tap]?.[SCORE]?.avg ?? []).forEach((score, index) => {
      if (score !== null && score < below) found.push({ t: series.times[index], tap, score });
    });
  }
  return found.sort((one, other) => one.score - other.score).slice(0, most);
}

/** How many dB POST is louder than PRE around `t`, null when nothing is known. */
export function loudnessDifference(series, t) {
  const gains = series.POST?.["pair.gain_db"]?.avg;
  const [pre, post] = TAPS.map((tap) => series[tap]?.["pcm.rms_dbfs"]?.avg);
  const here = Math.round((t - (series.times[0] ?? t)) / BUCKET_S - 0.5);
  for (let step = 0; step < 2 * NEAR; step += 1) {
    const index = here + (step % 2 ? 1 : -1) * Math.ceil(step / 2);
    if (typeof gains?.[index] === "number") return gains[index];
    if (typeof pre?.[index] === "number" && typeof post?.[index] === "number") return post[index] - pre[index];
  }
  return null;
}

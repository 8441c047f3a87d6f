/** What is known of the bucket at the playhead: health, metrics, knobs in force, gaps, its sound. */

import { soundAddress } from "./api.js";
import { byId, el, fill, setText } from "./dom.js";
import { bucketOf, BUCKET_S, clock, duration, grade, knobValue, number, span, TAPS, words } from "./format.js";
import { callAddress } from "./link.js";
import { difference, isShare, meaning, measure, metricName, plain, unit } from "./metrics.js";

const FIRST = [
  "pcm.rms_dbfs", "pcm.peak_dbfs", "pcm.active_level_dbfs", "advanced.lufs_momentary", "pcm.clipping_ratio",
  "pcm.silence_detected", "pcm.speech_ratio", "pcm.snr_estimate", "pipe.frame_drop_ratio",
];
const OF_PAIR = "pair.";

/** The panel beside the timeline. */
export class BucketPanel {
  constructor(store, roles) {
    this._store = store;
    this._roles = roles;
    this._shown = null;
  }

  /** Show the bucket that `t` lies in. */
  async show(station, t) {
    const start = bucketOf(t);
    const wanted = `${station} ${start}`;
    if (this._shown === wanted) return;
    this._shown = wanted;
    setText(byId("bucket-title"), `${clock(start)} to ${clock(start + BUCKET_S)}`);
    setText(byId("bucket-where"), `${station}, ${duration(Math.max(0, start - this._store.start))} into the call`);
    const bucket = await this._store.bucket(station, t).catch(() => null);
    if (this._shown === wanted) await this._fill(bucket, station, start);
  }

  /** Ask again at the next call of `show`. */
  forget() {
    this._shown = null;
  }

  async _fill(bucket, station, start) {
    byId("bucket-none").hidden = bucket !== null;
    byId("bucket-body").hidden = bucket === null;
    if (bucket === null) return;
    fill(byId("bucket-health"), TAPS.filter((tap) => bucket.taps[tap]).map((tap) => health(tap, bucket.taps[tap])));
    const keys = keysOf(bucket);
    fill(byId("bucket-main"), rows(bucket, keys.filter((key) => FIRST.includes(key))));
    fill(byId("bucket-all"), rows(bucket, keys.filter((key) => !FIRST.includes(key) && !key.startsWith(OF_PAIR))));
    const pairs = keys.filter((key) => key.startsWith(OF_PAIR));
    byId("bucket-pair").hidden = pairs.length === 0;
    fill(byId("bucket-pair-rows"), pairs.map((key) => pairRow(bucket, key)));
    this._fillGaps(bucket);
    this._fillKnobs(bucket, (await this._store.events()).map((event) => event.knob_key));
    this._fillLinks(bucket, station, start);
  }

  _fillGaps(bucket) {
    const items = TAPS.flatMap((tap) => (bucket.taps[tap]?.gaps ?? []).map((gap) => el("li", {},
      el("span", { class: `chip ${tap}` }, tap), " ",
      el("span", { class: gap.is_loss ? "loss" : "" }, words(gap.cause), gap.is_loss ? " (loss)" : ""),
      `, ${span(gap.samples / this._store.rate(bucket.station_key))}`)));
    byId("bucket-gaps-title").hidden = items.length === 0;
    fill(byId("bucket-gaps"), items);
  }

  /** Knobs that changed inside the bucket, then those that changed in the call, then the others. */
  _fillKnobs(bucket, turned) {
    const steps = bucket.changed.filter((step) => typeof step === "object");
    fill(byId("bucket-changed"), steps.map((step) => el("li", { class: "changed" },
      el("code", {}, step.knob_key), ` ${knobValue(step.old)} \u2192 `, el("strong", {}, knobValue(step.new)))));
    byId("bucket-changed-title").hidden = steps.length === 0;
    const keys = Object.keys(bucket.knobs);
    const first = keys.filter((key) => turned.includes(key));
    const others = keys.filter((key) => !turned.includes(key)).sort();
    fill(byId("bucket-turned"), first.map((key) => knobRow(bucket, key)));
    fill(byId("bucket-knobs"), others.map((key) => knobRow(bucket, key)));
    setText(byId("bucket-knobs-count"), `${first.length ? "The others" : "All"} (${others.length})`);
  }

  _fillLinks(bucket, station, start) {
    const where = { traceId: this._store.trace.trace_id, station };
    const links = [el("li", {}, el("a", {
      href: callAddress(where.traceId, { t: start, end: start + BUCKET_S, station, tap: "POST" }),
    }, "Link to this bucket"))];
    for (const tap of TAPS.filter((one) => this._roles.includes("download") && bucket.taps[one]?.audio)) {
      const address = soundAddress(where, tap, start, start + BUCKET_S, true);
      links.push(el("li", {}, el("a", { href: address, download: "" }, `${tap} as WAV`)),
        el("li", {}, el("a", { href: address.replace(".wav?", ".flac?"), download: "" }, `${tap} as FLAC`)));
    }
    fill(byId("bucket-links"), links);
  }
}

function health(tap, { health: { score, costs } = { score: null, costs: {} } }) {
  const reasons = Object.entries(costs ?? {}).sort((one, other) => other[1] - one[1])
    .map(([defect, points]) => el("li", {}, words(defect), " ", el("span", { class: "cost" }, number(-points, 0))));
  return el("div", { class: "health-row" }, el("span", { class: `chip ${tap}` }, tap),
    el("strong", { class: `score ${grade(score)}` }, score === null ? "\u2013" : number(score, 0)),
    reasons.length ? el("ul", { class: "inline" }, reasons)
      : el("span", { class: "muted" }, score === null ? "unknown" : "no defect"));
}

function keysOf(bucket) {
  const keys = new Set(TAPS.flatMap((tap) => Object.keys(bucket.taps[tap]?.metrics ?? {})));
  const place = (key) => (FIRST.includes(key) ? FIRST.indexOf(key) : FIRST.length);
  return [...keys].sort((one, other) => place(one) - place(other) || one.localeCompare(other));
}

const mean = (bucket, tap, key) => bucket.taps[tap]?.metrics[key]?.avg ?? null;

function rows(bucket, keys) {
  return keys.map((key) => {
    const [pre, post] = TAPS.map((tap) => mean(bucket, tap, key));
    return el("tr", {}, nameCell(key), cell(bucket, "PRE", key),
      cell(bucket, "POST", key), el("td", { class: "muted" }, difference(key, pre, post)));
  });
}

function nameCell(key) {
  return el("th", { scope: "row", title: meaning(key) }, metricName(key), " ", el("span", { class: "muted" }, unit(key)));
}

function cell(bucket, tap, key) {
  const value = bucket.taps[tap]?.metrics[key];
  const title = value ? `${measure(key, value.min)} to ${measure(key, value.max)} in ${value.count} values` : null;
  return el("td", { title }, plain(key, value?.avg));
}

function pairRow(bucket, key) {
  const value = bucket.taps.POST?.metrics[key];
  const isSwitch = key.endsWith("inverted");
  const text = isSwitch ? (value.avg > 0.5 ? "yes" : "no") : plain(key, value.avg);
  return el("tr", {}, nameCell(key),
    el("td", { title: isShare(key) ? null : `${measure(key, value.min)} to ${measure(key, value.max)}` }, text));
}

function knobRow(bucket, key) {
  return el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, knobValue(bucket.knobs[key])));
}

/** Tracks of metrics: mean of each bucket as a line in a band from min to max, PRE against POST. */

import { el, icon, setText } from "./dom.js";
import { BUCKET_S, number, TAPS } from "./format.js";
import { drawGrid, Lane } from "./lane.js";
import { isLevel, isShare, meaning, measure, metricName, rangeOf, unit } from "./metrics.js";
import { colours } from "./paint.js";

const HEIGHT = 64;
const LEAST_SPAN = 1e-3;
const QUIET_DBFS = -70; // digital silence is -120 dBFS, and would press everything else to the top

/** Index of the bucket of `t` in a series, -1 where there is none. */
function indexAt(series, t) {
  let [low, high] = [0, series.times.length - 1];
  while (low <= high) {
    const half = (low + high) >> 1;
    if (series.times[half] > t) high = half - 1;
    else low = half + 1;
  }
  return high >= 0 && t < series.times[high] + BUCKET_S ? high : -1;
}

/** Values of a metric over the whole call, and at the playhead. */
export class Track {
  /**
   * @param {string} key
   * @param {{view: object, series: () => object|null, remove: (key: string) => void}} context
   */
  constructor(key, { view, series, remove }) {
    this.key = key;
    this._view = view;
    this._series = series;
    this._values = Object.fromEntries(TAPS.map((tap) => [tap, el("span", { class: `value ${tap}` })]));
    this._scale = el("span", { class: "scale" });
    this.lane = new Lane({
      label: this._label(remove), height: HEIGHT, describe: null, name: "track",
      paint: (canvas, size) => this._paint(canvas, size),
    });
    this.node = this.lane.node;
    this.lane.plot.append(this._scale);
  }

  _label(remove) {
    return [
      el("span", { class: "track-name", title: meaning(this.key) }, metricName(this.key)),
      el("button", {
        type: "button", class: "ghost tiny", title: "Remove this track",
        "aria-label": `Remove the track ${this.key}`, onclick: () => remove(this.key),
      }, icon("close")),
      el("span", { class: "track-values" }, this._values.PRE, this._values.POST),
    ];
  }

  /** Show the values at the playhead. */
  showAt(t) {
    const series = this._series();
    const index = series ? indexAt(series, t) : -1;
    for (const tap of TAPS) {
      const value = index < 0 ? null : series[tap]?.[this.key]?.avg[index] ?? null;
      setText(this._values[tap], value === null ? "" : measure(this.key, value));
    }
  }

  _paint(canvas, size) {
    const series = this._series();
    drawGrid(canvas, { view: this._view, ...size });
    if (!series) return;
    const range = this._range(series);
    setText(this._scale, range ? scaleText(this.key, range) : "no values");
    if (!range) return;
    for (const tap of TAPS) {
      const values = series[tap]?.[this.key];
      if (values) this._paintTap(canvas, { ...size, series, values, range, colour: colours()[tap.toLowerCase()] });
    }
  }

  /** Smallest and largest value in sight, with some room. */
  _range(series) {
    let [low, high] = [Infinity, -Infinity];
    for (const tap of TAPS) {
      const values = series[tap]?.[this.key];
      if (!values) continue;
      series.times.forEach((t, index) => {
        if (t + BUCKET_S < this._view.from || t > this._view.to || values.avg[index] === null) return;
        low = Math.min(low, values.min[index]);
        high = Math.max(high, values.max[index]);
      });
    }
    if (low > high) return null;
    return inReason(this.key, low, high);
  }

  _paintTap(canvas, { width, height, ratio, series, values, range, colour }) {
    const edge = 1.5 * ratio; // a line along the border of the range shows in full
    const y = (value) => edge + (height - 2 * edge) * (1 - (value - range.low) / (range.high - range.low));
    canvas.lineWidth = 1.5 * ratio;
    canvas.strokeStyle = colour;
    canvas.fillStyle = colour;
    canvas.beginPath();
    let wasThere = false;
    series.times.forEach((t, index) => {
      const isThere = values.avg[index] !== null && t + BUCKET_S > this._view.from && t < this._view.to;
      if (isThere) {
        const [left, right] = [this._view.toX(t, width), this._view.toX(t + BUCKET_S, width)];
        canvas.globalAlpha = 0.16;
        const top = y(values.max[index]);
        canvas.fillRect(left, top, right - left, Math.max(ratio, y(values.min[index]) - top));
        const mean = y(values.avg[index]);
        if (wasThere) canvas.lineTo(left, mean);
        else canvas.moveTo(left, mean);
        canvas.lineTo(right, mean);
      }
      wasThere = isThere;
    });
    canvas.globalAlpha = 1;
    canvas.stroke();
  }
}

/** Add some room, but none where the registry says that there can be nothing. */
function inReason(key, low, high) {
  const room = Math.max((high - low) * 0.08, LEAST_SPAN);
  const possible = rangeOf(key);
  const bottom = isLevel(key) ? QUIET_DBFS : possible.low;
  return { low: Math.max(bottom, low - room), high: Math.max(Math.min(possible.high, high + room), bottom + LEAST_SPAN) };
}

function scaleText(key, { low, high }) {
  const factor = isShare(key) ? 100 : 1;
  const digits = (high - low) * factor >= 10 ? 0 : (high - low) * factor >= 1 ? 1 : 2;
  return `${number(low * factor, digits)} to ${number(high * factor, digits)} ${unit(key)}`.trim();
}

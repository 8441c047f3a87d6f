/** Pictures that the server makes of sound: peaks and spectrogram of a stretch of time. */

import { getBytes, tracePath } from "./api.js";
import { debounce } from "./dom.js";
import { iso } from "./format.js";

const MARGIN = 0.25; // of the visible stretch, fetched on both sides of it: a short pan has it already
const SETTLED_MS = 90;
const FEWEST = 600;
const MOST = 4000;
const ROWS = 128;

/**
 * One picture, as fine as the screen: `base` shows the whole call and `detail` what is in sight.
 * A layer is {from, to, columns, ...}; `changed` is called when one has come.
 */
export class Picture {
  /**
   * @param {(from: number, to: number, columns: number, signal: AbortSignal) => Promise<object>} load
   * @param {() => void} changed
   */
  constructor(load, changed) {
    this.base = null;
    this.detail = null;
    this.hasFailed = false;
    this._load = load;
    this._changed = changed;
    this._abort = null;
    this._isBaseComing = false;
    this._later = debounce((view, columns) => this._fetchDetail(view, columns), SETTLED_MS);
  }

  /** Layers from the coarse one to the fine one. */
  get layers() {
    return [this.base, this.detail].filter(Boolean);
  }

  /** Fetch what `view` shows at `width` pixels, unless it is here. */
  want(view, width) {
    const columns = Math.max(FEWEST, Math.ceil(width));
    if (this.layers.some((layer) => isEnough(layer, view, columns))) return;
    if (view.isWhole) void this._fetchBase(view, columns);
    else this._later(view, columns);
  }

  /** The whole call: what a reader sees at once after zooming out. */
  async _fetchBase(view, columns) {
    if (this._isBaseComing || this.hasFailed) return;
    this._isBaseComing = true;
    this.base = (await this._get(view.start, view.end, columns)) ?? this.base;
    this._isBaseComing = false;
  }

  async _fetchDetail(view, columns) {
    this._abort?.abort();
    this._abort = new AbortController();
    const margin = view.span * MARGIN;
    const from = Math.max(view.start, view.from - margin);
    const to = Math.min(view.end, view.to + margin);
    const density = columns / view.span;
    const layer = await this._get(from, to, Math.min(MOST, Math.ceil(density * (to - from))), this._abort.signal);
    if (!layer) return;
    this.detail = layer;
    if (!this.base) void this._fetchBase(view, columns);
  }

  /** Return a layer; null when it failed or is not wanted any more. */
  async _get(from, to, columns, signal = undefined) {
    try {
      const layer = await this._load(from, to, columns, signal);
      this.hasFailed = false;
      return layer;
    } catch (error) {
      if (error.name !== "AbortError") this.hasFailed = true;
      return null;
    } finally {
      queueMicrotask(this._changed); // after the caller has kept the layer
    }
  }
}

function isEnough(layer, view, columns) {
  const density = layer.columns / (layer.to - layer.from);
  return layer.from <= view.from + 1e-3 && layer.to >= view.to - 1e-3 && density >= (0.8 * columns) / view.span;
}

/** Loader of waveforms: layers with `pairs`, int8 min and max of each column. */
export function loadPeaks(where, tap) {
  return async (from, to, columns, signal) => {
    const { bytes, headers } = await getBytes(
      `${tracePath(where.traceId)}/peaks`,
      { station: where.station, tap, from: iso(from), to: iso(to), columns }, signal);
    const pairs = new Int8Array(bytes);
    return { from, to, columns: Number(headers.get("X-Columns")) || pairs.length / 2, pairs };
  };
}

/** Loader of spectrograms: layers with `levels`, uint8 [rows, columns], lowest frequency first. */
export function loadSpectrogram(where, tap) {
  return async (from, to, columns, signal) => {
    const { bytes, headers } = await getBytes(
      `${tracePath(where.traceId)}/spectrogram`,
      { station: where.station, tap, from: iso(from), to: iso(to), columns, rows: ROWS }, signal);
    return {
      from, to, levels: new Uint8Array(bytes),
      columns: Number(headers.get("X-Columns")) || columns,
      rows: Number(headers.get("X-Rows")) || ROWS,
      hertz: Number(headers.get("X-Max-Hertz")) || null,
    };
  };
}

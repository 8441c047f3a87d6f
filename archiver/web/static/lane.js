/** One strip of canvas on the time axis, drawn at most once for each frame of the screen. */

import { el } from "./dom.js";
import { colours } from "./paint.js";

const waiting = new Set();

function drawAll() {
  const lanes = [...waiting];
  waiting.clear();
  for (const lane of lanes) lane.draw();
}

/** A canvas with its label; `paint(context, size)` draws it, in device pixels. */
export class Lane {
  /**
   * @param {{label: Node|string, height: number, describe: string|null, paint: Function,
   *   prepare?: Function}} options `describe` is what a screen reader says; null hides the lane from it.
   *   `prepare(width)` may fetch.
   */
  constructor({ label, height, describe, paint, prepare = null, name = "" }) {
    this.canvas = el("canvas", describe === null
      ? { "aria-hidden": "true" } : { role: "img", "aria-label": describe });
    this.plot = el("div", { class: "plot", data: { lane: name } }, this.canvas);
    this.label = el("div", { class: "lane-label" }, label);
    this.node = el("div", { class: "lane" }, this.label, this.plot);
    this.plot.style.height = `${height}px`;
    this._height = height;
    this._paint = paint;
    this._prepare = prepare;
  }

  /** Draw before the next frame of the screen. */
  invalidate() {
    if (waiting.size === 0) requestAnimationFrame(drawAll);
    waiting.add(this);
  }

  draw() {
    const ratio = devicePixelRatio || 1;
    const width = Math.round(this.plot.clientWidth * ratio);
    const height = Math.round(this._height * ratio);
    if (width === 0) return;
    this._prepare?.(width);
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    this._paint(context, { width, height, ratio });
  }
}

/** Thin lines at the borders of buckets, where they stand far enough apart. */
export function drawGrid(context, { view, width, height, ratio, step = 5 }) {
  if ((step / view.span) * width < 8 * ratio) return;
  context.fillStyle = colours().line;
  for (let t = Math.ceil(view.from / step) * step; t < view.to; t += step) {
    context.fillRect(Math.round(view.toX(t, width)), 0, Math.max(1, Math.round(ratio / 2)), height);
  }
}

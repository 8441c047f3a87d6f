/** The picture of a call: overview, time axis, stations, and what a pointer does on them. */

import { el, setText } from "./dom.js";
import { bucketOf, BUCKET_S, clock, duration, TAPS } from "./format.js";
import { Lane } from "./lane.js";
import { colours, onTheme } from "./paint.js";
import { paintScore, StationRows } from "./station.js";

const SCORE = "health.audio_score";
const STEPS_S = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800];
const TICK_APART_PX = 84;
const CLICK_PX = 4;
const ROW_PX = 14;
const WHEEL = 0.0022;
const LINE_PX = 16;

/**
 * Says "seek" {t}, "select" {from, to}, "choose" {station}; the page decides what follows.
 */
export class Timeline extends EventTarget {
  /** @param {{store: object, view: object, metrics: () => string[], removeMetric: Function}} page */
  constructor(root, page) {
    super();
    this._root = root;
    this._view = page.view;
    this._store = page.store;
    this._mark = el("div", { class: "line playhead is-small" });
    this._overview = this._makeOverview();
    this._overview.plot.append(this._mark);
    this._axis = this._makeAxis();
    this.stations = page.store.stations.map((key) => new StationRows(key, {
      ...page, choose: (station) => this._say("choose", { station }), loaded: () => this._overview.invalidate(),
    }));
    this._head = el("div", { class: "line playhead" });
    this._hover = el("div", { class: "line hover", hidden: true }, el("span", { class: "bubble" }));
    this._selection = el("div", { class: "selection", hidden: true });
    this._overlay = el("div", { class: "overlay", "aria-hidden": "true" }, this._selection, this._hover, this._head);
    root.replaceChildren(
      this._overview.node, this._axis.node, ...this.stations.map((rows) => rows.node), this._overlay);
    this._selected = null;
    this._time = page.view.start;
    this._listen();
  }

  /** Show `t` as the moment that is heard. */
  setTime(t) {
    this._time = t;
    this._place();
  }

  /** Show a selection; null for none. */
  setSelection(range) {
    this._selected = range;
    this._place();
  }

  setStation(station) {
    for (const rows of this.stations) rows.setActive(rows.station === station);
  }

  rows(station) {
    return this.stations.find((rows) => rows.station === station);
  }

  /** Draw everything anew. */
  invalidate() {
    this._overview.invalidate();
    this._axis.invalidate();
    for (const rows of this.stations) rows.invalidate();
    this._place();
  }

  _say(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  _makeOverview() {
    return new Lane({
      label: el("span", { class: "muted" }, "whole call"), height: 34, name: "overview",
      describe: "Health of the whole call, one row for each station",
      paint: (context, size) => this._paintOverview(context, size),
    });
  }

  _paintOverview(context, { width, height, ratio }) {
    const { start, end, from, to } = this._view;
    const x = (t) => ((t - start) / (end - start)) * width;
    const row = Math.min(height / this.stations.length, ROW_PX * ratio);
    const above = (height - row * this.stations.length) / 2;
    this.stations.forEach((rows, index) => {
      rows.series?.times.forEach((t, bucket) => {
        const scores = TAPS.map((tap) => rows.series[tap]?.[SCORE]?.avg[bucket] ?? 101);
        const score = Math.min(...scores);
        if (score > 100) return;
        const wide = Math.max(ratio, x(t + BUCKET_S) - x(t));
        paintScore(context, score, [x(t), above + index * row + ratio, wide, row - 2 * ratio]);
      });
    });
    const { text, bg } = colours();
    context.globalAlpha = 0.55;
    context.fillStyle = bg;
    context.fillRect(0, 0, x(from), height);
    context.fillRect(x(to), 0, width - x(to), height);
    context.globalAlpha = 1;
    context.strokeStyle = text;
    context.lineWidth = 1.5 * ratio;
    const wide = Math.max(3 * ratio, x(to) - x(from) - 1.5 * ratio);
    context.strokeRect(x(from) + 0.75 * ratio, 0.75 * ratio, wide, height - 1.5 * ratio);
  }

  _makeAxis() {
    return new Lane({
      label: el("span", { class: "muted" }, "UTC"), height: 26, describe: null, name: "axis",
      paint: (context, size) => this._paintAxis(context, size),
    });
  }

  _paintAxis(context, { width, height, ratio }) {
    const view = this._view;
    const { muted, line } = colours();
    const step = STEPS_S.find((one) => (one / view.span) * width > TICK_APART_PX * ratio) ?? STEPS_S.at(-1);
    const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    context.font = `${11 * ratio}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    for (let count = Math.ceil(view.from / step); count * step < view.to; count += 1) {
      const x = Math.round(view.toX(count * step, width));
      context.fillStyle = line;
      context.fillRect(x, height - 7 * ratio, Math.max(1, ratio), 7 * ratio);
      context.fillStyle = muted;
      const text = clock(count * step, digits);
      const wide = context.measureText(text).width / 2;
      context.textAlign = "center";
      context.fillText(text, Math.min(Math.max(x, wide + 1), width - wide - 1), 9 * ratio);
    }
  }

  /** Move playhead and selection; nothing is drawn, so that it may happen for every frame. */
  _place() {
    const width = this._width;
    const { start, end } = this._view;
    this._mark.style.transform = `translateX(${((this._time - start) / (end - start)) * width}px)`;
    const x = this._view.toX(this._time, width);
    this._head.hidden = x < 0 || x > width;
    this._head.style.transform = `translateX(${x}px)`;
    const range = this._selected;
    this._selection.hidden = !range || range.to < this._view.from || range.from > this._view.to;
    if (this._selection.hidden) return;
    const [left, right] = [range.from, range.to].map((t) => (
      Math.min(Math.max(this._view.toX(t, width), 0), width)));
    this._selection.style.transform = `translateX(${left}px)`;
    this._selection.style.width = `${Math.max(1, right - left)}px`;
  }

  _listen() {
    this._view.addEventListener("change", () => this.invalidate());
    onTheme(() => this.invalidate());
    this._width = 0;
    new ResizeObserver(([{ contentRect }]) => {
      this._width = contentRect.width;
      this.invalidate();
    }).observe(this._axis.plot);
    this._pointers = new Map();
    this._drag = null;
    for (const [name, work] of [["pointerdown", this._down], ["pointermove", this._move], ["pointerup", this._up],
      ["pointercancel", this._cancel]]) this._root.addEventListener(name, work.bind(this));
    this._root.addEventListener("pointerleave", () => this._peek(null));
    this._root.addEventListener("wheel", (event) => this._wheel(event), { passive: false });
  }

  /** Place of a pointer: its plot, and the time below it on the axis or on the overview. */
  _where(event) {
    const plot = event.target.closest?.(".plot") ?? null;
    const box = this._axis.plot.getBoundingClientRect();
    const x = event.clientX - box.left;
    const share = x / box.width;
    const isOverview = plot?.dataset.lane === "overview";
    const t = isOverview ? this._view.start + share * (this._view.end - this._view.start)
      : this._view.toTime(x, box.width);
    return { plot, x, width: box.width, t: Math.min(Math.max(t, this._view.start), this._view.end), isOverview };
  }

  _down(event) {
    const place = this._where(event);
    if (!place.plot || event.button !== 0) return;
    this._pointers.set(event.pointerId, event.clientX);
    this._root.setPointerCapture(event.pointerId);
    if (this._pointers.size === 2) this._drag = this._pinchStart();
    else {
      const isPan = event.shiftKey || place.plot.dataset.lane === "axis";
      const mark = event.target.closest(".mark");
      const kind = place.isOverview ? "overview" : isPan ? "pan" : "select";
      const station = event.target.closest(".station")?.dataset.station ?? null;
      this._drag = { kind, x: event.clientX, t: mark ? Number(mark.dataset.t) : place.t, station, isMoved: false,
        from: this._view.from, span: this._view.span, width: place.width, selected: this._selected };
      if (kind === "overview") this._overviewTo(place.t);
    }
  }

  _move(event) {
    const place = this._where(event);
    if (this._pointers.has(event.pointerId)) this._pointers.set(event.pointerId, event.clientX);
    this._peek(this._pointers.size || (place.plot && !place.isOverview) ? place : null);
    const drag = this._drag;
    if (!drag) return;
    if (Math.abs(event.clientX - drag.x) > CLICK_PX) drag.isMoved = true;
    if (drag.kind === "pinch") this._pinchMove(drag);
    else if (drag.kind === "overview") this._overviewTo(this._overviewTime(event));
    else if (drag.isMoved && drag.kind === "pan") {
      const from = drag.from - ((event.clientX - drag.x) / drag.width) * drag.span;
      this._view.show(from, from + drag.span);
    } else if (drag.isMoved) this.setSelection(ordered(drag.t, this._view.toTime(place.x, place.width)));
  }

  _up(event) {
    const drag = this._drag;
    this._pointers.delete(event.pointerId);
    if (!drag || drag.kind === "pinch") {
      if (this._pointers.size === 0) this._drag = null;
      return;
    }
    this._drag = null;
    if (drag.station) this._say("choose", { station: drag.station });
    if (drag.kind === "select" && drag.isMoved) this._say("select", this._selected);
    else if (!drag.isMoved && drag.kind !== "overview") this._say("seek", { t: drag.t });
  }

  /** The browser took the pointer, to scroll: nothing was selected. */
  _cancel(event) {
    this._pointers.delete(event.pointerId);
    if (this._drag?.kind === "select") this.setSelection(this._drag.selected);
    this._drag = null;
  }

  _overviewTime(event) {
    const box = this._overview.plot.getBoundingClientRect();
    return this._view.start + ((event.clientX - box.left) / box.width) * (this._view.end - this._view.start);
  }

  _overviewTo(t) {
    this._view.show(t - this._view.span / 2, t + this._view.span / 2);
  }

  _pinchStart() {
    const [one, other] = [...this._pointers.values()];
    const box = this._axis.plot.getBoundingClientRect();
    const times = [one, other].map((x) => this._view.toTime(x - box.left, box.width));
    return { kind: "pinch", x: one, times, left: box.left, width: box.width };
  }

  /** Both fingers keep the moments that they took hold of. */
  _pinchMove({ times, left, width }) {
    if (this._pointers.size < 2) return;
    const shares = [...this._pointers.values()].map((x) => (x - left) / width);
    const apart = shares[1] - shares[0];
    if (Math.abs(apart) < 0.02 || Math.sign(apart) !== Math.sign(times[1] - times[0])) return;
    const span = (times[1] - times[0]) / apart;
    this._view.show(times[0] - shares[0] * span, times[0] + (1 - shares[0]) * span);
  }

  /** Ctrl and wheel (a pinch on a touchpad) zooms everywhere, the wheel alone on axis and overview. */
  _wheel(event) {
    const place = this._where(event);
    if (!place.plot) return;
    const pixels = event.deltaMode === 1 ? LINE_PX : 1;
    const isZoomLane = place.isOverview || place.plot.dataset.lane === "axis";
    const isSideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    if (isSideways && !event.ctrlKey) {
      event.preventDefault();
      this._view.pan((((event.deltaX || event.deltaY) * pixels) / place.width) * this._view.span);
    } else if (event.ctrlKey || event.metaKey || event.altKey || isZoomLane) {
      event.preventDefault();
      const speed = event.ctrlKey && Math.abs(event.deltaY) < 40 ? 4 : 1; // a touchpad's steps are small
      this._view.zoom(Math.exp(event.deltaY * pixels * WHEEL * speed), place.t);
    }
  }

  _peek(place) {
    this._hover.hidden = place === null;
    if (place === null) return;
    const x = Math.min(Math.max(place.x, 0), place.width);
    this._hover.style.transform = `translateX(${x}px)`;
    const since = duration(place.t - this._store.start, this._view.span < 30 ? 2 : 0);
    const bubble = this._hover.firstChild;
    bubble.classList.toggle("is-left", x > place.width - 130);
    setText(bubble, `${clock(place.t, this._view.span < 30 ? 2 : 0)} (${since})`);
  }
}

/** Range between two moments, cut to whole milliseconds. */
function ordered(one, other) {
  const [from, to] = [Math.min(one, other), Math.max(one, other)].map((t) => Math.round(t * 1000) / 1000);
  return { from, to };
}

/** Range of the bucket that `t` lies in. */
export const bucketRange = (t) => ({ from: bucketOf(t), to: bucketOf(t) + BUCKET_S });

/** The one time axis of a call page: which stretch of the call is in sight. */

const SHORTEST_S = 0.1;

/** Stretch of time `from`..`to` within `start`..`end`, all in seconds; says "change" when it moves. */
export class TimeView extends EventTarget {
  constructor(start, end) {
    super();
    this.start = start;
    this.end = Math.max(end, start + SHORTEST_S);
    this.from = this.start;
    this.to = this.end;
  }

  get span() {
    return this.to - this.from;
  }

  /** Whether the whole call is in sight. */
  get isWhole() {
    return this.span >= this.end - this.start - 1e-6;
  }

  /** Show a stretch, moved into the call where it sticks out. */
  show(from, to) {
    const span = Math.min(Math.max(to - from, SHORTEST_S), this.end - this.start);
    const left = Math.min(Math.max(from, this.start), this.end - span);
    if (left === this.from && left + span === this.to) return;
    this.from = left;
    this.to = left + span;
    this.dispatchEvent(new Event("change"));
  }

  /** Show `factor` times as much, with the moment `at` staying where it is. */
  zoom(factor, at = (this.from + this.to) / 2) {
    const share = (at - this.from) / this.span;
    const span = Math.min(Math.max(this.span * factor, SHORTEST_S), this.end - this.start);
    this.show(at - share * span, at + (1 - share) * span);
  }

  pan(seconds) {
    this.show(this.from + seconds, this.to + seconds);
  }

  fit() {
    this.show(this.start, this.end);
  }

  /** Bring `t` into sight, with some of what comes after it. */
  reveal(t) {
    if (t < this.from || t > this.to) this.show(t - 0.1 * this.span, t + 0.9 * this.span);
  }

  /** The call has grown: whoever saw all of it sees all of it again. */
  grow(end) {
    const wasWhole = this.isWhole;
    this.end = Math.max(this.end, end);
    if (wasWhole) this.show(this.start, this.end);
    else this.dispatchEvent(new Event("change"));
  }

  toX(t, width) {
    return ((t - this.from) / this.span) * width;
  }

  toTime(x, width) {
    return this.from + (x / width) * this.span;
  }
}

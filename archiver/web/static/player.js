/**
 * The A/B player. All taps run on one clock, sample by sample, and only their volumes differ: switching
 * between PRE and POST is a cross-fade of ten milliseconds, not a new start.
 */

import { SoundWindows, WINDOW_S, windowOf } from "./sound.js";

const AHEAD_S = 20;
const TICK_MS = 60;
const FADE_S = 0.01;
const LEAD_S = 0.04; // from scheduling to the first sample
const SETTLED_S = 0.005;

/** One tap: its volume, and how far its sound is scheduled. */
class TapLane {
  constructor(context, master) {
    this.gain = new GainNode(context, { gain: 0 });
    this.gain.connect(master);
    this.until = 0;
    this.sources = new Set();
  }

  /** Play a part of `buffer`, from `offset` for at most `length` seconds; whole samples of the context. */
  play(buffer, { when, offset, length }) {
    const { context } = this.gain;
    const whole = (s) => Math.round(s * context.sampleRate) / context.sampleRate;
    if (length <= 0 || offset >= buffer.duration) return;
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(this.gain);
    source.onended = () => this.sources.delete(source);
    source.start(when, whole(offset), whole(length));
    this.sources.add(source);
  }

  stop(when) {
    for (const source of this.sources) source.stop(when);
  }
}

/**
 * Plays a station of a call; says "change" when state, tap, range or error change.
 * States: idle, loading, playing, paused, ended, error.
 */
export class Player extends EventTarget {
  /**
   * @param {{traceId: string, station: string, taps: string[], rate: number, start: number,
   *   end: number, time?: number}} options Stretch of sound and where to begin, in seconds since 1970; `rate`
   *   in Hz, null: the device's.
   */
  constructor({ traceId, station, taps, rate, start, end, time = start }) {
    super();
    this.where = { traceId, station };
    this.taps = taps;
    this.limits = { start, end };
    this.state = "idle";
    this.tap = taps.includes("POST") ? "POST" : taps[0];
    this.range = null;
    this.isLooping = false;
    this.isMatched = false;
    this.error = null;
    /** How many dB POST is louder than PRE at a moment; null: unknown. */
    this.difference = () => null;
    this._rate = rate;
    this._time = time;
    this._run = null;
    this._begun = 0;
  }

  /** The moment that is heard, or from where it will go on. */
  get time() {
    if (!this._run) return this._time;
    const { context, clock, media } = this._run;
    const heard = context.currentTime - clock - (context.outputLatency || 0);
    return Math.min(media + Math.max(0, heard), this._end);
  }

  get isActive() {
    return this.state === "playing" || this.state === "loading";
  }

  get _end() {
    return this.range ? this.range.to : this.limits.end;
  }

  /** Play from `t`, or go on. A range ends it; outside of the range it is given up. */
  async play(t = this.time) {
    const isOver = t >= this._end - SETTLED_S;
    const from = isOver ? (this.range?.from ?? this.limits.start) : t;
    if (this.range && (from < this.range.from - SETTLED_S || from > this.range.to)) this.range = null;
    await this._start(Math.max(this.limits.start, from));
  }

  /** Play a stretch of time, and again while looping. */
  async playRange(from, to) {
    this.range = { from, to };
    await this._start(from);
  }

  clearRange() {
    if (!this.range) return;
    this.range = null;
    this._rerun();
  }

  pause() {
    if (!this.isActive) return;
    this._halt();
    this._set("paused");
  }

  toggle() {
    if (this.isActive) this.pause();
    else void this.play();
  }

  /** Go to `t`; goes on playing when it plays. */
  seek(t) {
    const to = Math.min(Math.max(t, this.limits.start), this.limits.end);
    if (this.isActive) void this.play(to);
    else {
      if (this.range && (to < this.range.from || to > this.range.to)) this.range = null;
      this._time = to;
      this._set("paused");
    }
  }

  /** Hear another tap from this moment on. */
  choose(tap) {
    const isThere = tap === "DELTA" ? this.taps.length > 1 : this.taps.includes(tap);
    if (!isThere) return;
    this.tap = tap;
    this._mix();
    this._set(this.state);
    this._tick();
  }

  setLooping(isLooping) {
    this.isLooping = isLooping;
    this._set(this.state);
  }

  setMatched(isMatched) {
    this.isMatched = isMatched;
    this._mix();
    this._set(this.state);
  }

  /** The call has grown: sound at its end is fetched again. */
  grow(end) {
    const old = this.limits.end;
    this.limits.end = end;
    this._windows?.forget((start) => start + WINDOW_S > old);
  }

  /** Stop for good and give the sound device back. */
  close() {
    this._halt();
    void this._context?.close();
    this._context = null;
  }

  _set(state, error = null) {
    this.state = state;
    this.error = error;
    this.dispatchEvent(new Event("change"));
  }

  /** Taps that are fetched: PRE and POST for switching, delta only for those who want to hear it. */
  get _wanted() {
    return this.tap === "DELTA" ? [...this.taps, "DELTA"] : this.taps;
  }

  async _start(t) {
    this._halt();
    this._time = t;
    const begun = (this._begun += 1);
    this._set("loading");
    this._open();
    const entries = this._wanted.map((tap) => [tap, this._windows.get(tap, windowOf(t))]);
    await Promise.all([this._context.resume(), ...entries.map(([, entry]) => entry.done)]);
    if (begun !== this._begun || this.state !== "loading") return;
    const error = entries.find(([tap]) => tap === this.tap)?.[1].error;
    if (error) this._fail(error);
    else this._launch(t);
  }

  /** The context runs at the taps' own rate, so that decoding does not change a sample. */
  _open() {
    if (this._context) return;
    this._context = new AudioContext(this._rate ? { sampleRate: this._rate } : {});
    this._windows = new SoundWindows(this.where, this._context, this.limits);
  }

  _launch(t) {
    const context = this._context;
    const master = new GainNode(context, { gain: 1 });
    master.connect(context.destination);
    const clock = Math.ceil((context.currentTime + LEAD_S) * context.sampleRate) / context.sampleRate;
    this._run = { context, clock, media: this._whole(t), master, lanes: new Map() };
    this._run.timer = setInterval(() => this._tick(), TICK_MS);
    this._set("playing");
    this._tick();
  }

  /** The moment of the sample next to `t`: all taps then share one grid of samples. */
  _whole(t) {
    const rate = this._context.sampleRate;
    return Math.round(t * rate) / rate;
  }

  /** Fade what is heard out and forget the run; the time stays. */
  _halt() {
    this._begun += 1;
    if (!this._run) return;
    this._time = this.time;
    const { context, master, lanes, timer } = this._run;
    this._run = null;
    clearInterval(timer);
    const now = context.currentTime;
    master.gain.setTargetAtTime(0, now, FADE_S / 4);
    for (const lane of lanes.values()) lane.stop(now + 2 * FADE_S);
    setTimeout(() => master.disconnect(), 100);
  }

  _fail(error) {
    this._halt();
    this._set("error", error);
    this._windows.forget(() => false);
  }

  /** Start anew from here, because the end has moved. */
  _rerun() {
    if (this.isActive) void this._start(this.time);
    else this._set(this.state);
  }

  _tick() {
    if (!this._run) return;
    if (this.time >= this._end - 1e-6) this._finish();
    else {
      for (const tap of this._wanted) this._schedule(tap);
      this._mix();
    }
  }

  _finish() {
    const { range } = this;
    if (range && this.isLooping) void this._start(range.from);
    else {
      this._halt();
      this._time = range ? range.from : this.limits.end;
      this._set(range ? "paused" : "ended");
    }
  }

  /** Schedule what has come of a tap; wait when the tap that is heard has nothing left. */
  _schedule(tap) {
    const run = this._run;
    if (!run) return; // the tap before this one had to wait
    if (!run.lanes.has(tap)) run.lanes.set(tap, new TapLane(run.context, run.master));
    const lane = run.lanes.get(tap);
    const now = run.media + Math.max(0, run.context.currentTime - run.clock);
    lane.until = Math.max(lane.until, now);
    while (lane.until < Math.min(now + AHEAD_S, this._end)) {
      const start = windowOf(lane.until);
      const entry = this._windows.get(tap, start);
      if (entry.isLoading || entry.error) {
        if (tap === this.tap && lane.until <= now + SETTLED_S) this._stall(entry, now);
        return;
      }
      this._append(lane, entry, start + WINDOW_S);
    }
  }

  _append(lane, { buffer, from: origin }, end) {
    const { context, clock, media } = this._run;
    const from = this._whole(Math.max(lane.until, media + context.currentTime + SETTLED_S - clock));
    const to = Math.min(end, this._end);
    const when = clock + Math.round((from - media) * context.sampleRate) / context.sampleRate;
    if (buffer) lane.play(buffer, { when, offset: from - origin, length: to - from });
    lane.until = to;
  }

  _stall(entry, now) {
    if (entry.error) this._fail(entry.error);
    else void this._start(now);
  }

  /** Set the volumes: one tap is heard, and the louder one is turned down when they are matched. */
  _mix() {
    const run = this._run;
    if (!run) return;
    const now = run.context.currentTime;
    for (const [tap, lane] of run.lanes) {
      const target = tap === this.tap ? this._volume(tap) : 0;
      if (lane.target === target) continue;
      lane.target = target;
      lane.gain.gain.cancelScheduledValues(now);
      lane.gain.gain.setValueAtTime(lane.gain.gain.value, now);
      lane.gain.gain.linearRampToValueAtTime(target, now + FADE_S);
    }
  }

  _volume(tap) {
    const louder = this.isMatched && tap !== "DELTA" ? this.difference(this.time) : null;
    if (louder === null) return 1;
    return tap === "POST" ? 10 ** (Math.min(0, -louder) / 20) : 10 ** (Math.min(0, louder) / 20);
  }
}

/** Sound in windows of time: fetched as WAV, decoded, kept while it is near. */

import { Problem, request, soundAddress } from "./api.js";
import { bucketOf, BUCKET_S } from "./format.js";

export const WINDOW_S = 10;
const KEPT = 36; // windows: six minutes of one tap, two of all three
const ABSENT = 404;

/** Start of the window that `t` lies in. Windows are whole buckets, so that any server can cache them. */
export const windowOf = (t) => Math.floor(t / WINDOW_S + 1e-9) * WINDOW_S;

/**
 * Windows of the taps of one station.
 * An entry is {from, buffer: AudioBuffer|null, error: Problem|null, isLoading, done: Promise}; `from` is
 * the time of its first sample; without a buffer it is silence.
 */
export class SoundWindows {
  /**
   * @param {{traceId: string, station: string}} where
   * @param {BaseAudioContext} context
   * @param {{start: number, end: number}} limits Buckets outside are not fetched: each one is logged.
   */
  constructor(where, context, limits) {
    this._where = where;
    this._context = context;
    this._limits = limits;
    this._entries = new Map();
  }

  /** Return the entry of a window if it is here; it is fetched when it is not. */
  get(tap, start) {
    const name = `${tap} ${start}`;
    let entry = this._entries.get(name);
    if (entry) {
      this._entries.delete(name); // to the end of the queue: what was used last goes last
    } else {
      const from = Math.max(start, bucketOf(this._limits.start));
      entry = { from, buffer: null, error: null, isLoading: true };
      entry.done = this._load(entry, tap, start);
    }
    this._entries.set(name, entry);
    if (this._entries.size > KEPT) this._entries.delete(this._entries.keys().next().value);
    return entry;
  }

  /** Forget what failed and what may have grown. */
  forget(isStale) {
    for (const [name, entry] of this._entries) {
      if (entry.error || isStale(Number(name.split(" ")[1]))) this._entries.delete(name);
    }
  }

  async _load(entry, tap, start) {
    const to = Math.min(start + WINDOW_S, bucketOf(this._limits.end - 1e-3) + BUCKET_S);
    try {
      const response = await request(soundAddress(this._where, tap, entry.from, to));
      entry.buffer = await this._context.decodeAudioData(await response.arrayBuffer());
    } catch (error) {
      // Where nothing was recorded there is silence; everything else is said.
      if (error.status !== ABSENT) {
        entry.error = error instanceof Problem ? error : new Problem(0, "This sound cannot be decoded.");
      }
    }
    entry.isLoading = false;
  }
}

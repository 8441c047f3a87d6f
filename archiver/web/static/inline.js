/** A small A/B player inside a page: one or two stretches of time, PRE against POST. */

import { el, fill, icon, keepFocus, setText } from "./dom.js";
import { Player } from "./player.js";

let playing = null; // one sound at a time on a page

/** Buttons and player; `player` is made with the first press. */
export class InlinePlayer {
  /**
   * @param {object} options
   * @param {string} options.traceId
   * @param {string} options.station
   * @param {string} options.label What a screen reader calls it.
   * @param {Array<{name: string, from: number, to: number}>} options.stretches One or two.
   * @param {string} [options.tap]
   */
  constructor({ traceId, station, label, stretches, tap = "POST" }) {
    this._where = { traceId, station };
    this._stretches = stretches;
    this._stretch = stretches[0];
    this._label = label;
    this._play = el("button", { type: "button", class: "play small", onclick: () => this.toggle() });
    this._taps = ["PRE", "POST"].map((one) => el("button", {
      type: "button", class: `tap ${one}`, data: { tap: one }, onclick: () => this.choose(one),
    }, one));
    this._parts = stretches.length < 2 ? [] : stretches.map((stretch) => el("button", {
      type: "button", class: "tap", onclick: () => this.hear(stretch.name),
    }, stretch.name));
    this._error = el("span", { class: "loss", role: "status" });
    this.tap = tap;
    this.player = null;
    this.node = el("div", { class: "inline-player", role: "group", "aria-label": label }, this._play,
      this._parts.length ? el("div", { class: "segmented" }, this._parts) : null,
      el("div", { class: "segmented" }, this._taps), this._error);
    keepFocus(this.node);
    this._show();
  }

  /** The moment that is heard, null before the first press. */
  get time() {
    return this.player?.time ?? null;
  }

  toggle() {
    if (this.player?.isActive) this.player.pause();
    else this.hear(this._stretch.name);
  }

  /** Play one of the stretches from its start. */
  hear(name) {
    this._stretch = this._stretches.find((stretch) => stretch.name === name);
    if (playing && playing !== this) playing.stop();
    playing = this;
    this.player ??= this._make();
    void this.player.playRange(this._stretch.from, this._stretch.to);
  }

  choose(tap) {
    this.tap = tap;
    this.player?.choose(tap);
    this._show();
  }

  /** Stop and give the sound device back. */
  stop() {
    this.player?.close();
    this.player = null;
    this._show();
  }

  _make() {
    const player = new Player({
      ...this._where, taps: ["PRE", "POST"], rate: null,
      start: Math.min(...this._stretches.map((one) => one.from)),
      end: Math.max(...this._stretches.map((one) => one.to)),
    });
    player.tap = this.tap;
    player.addEventListener("change", () => this._show());
    return player;
  }

  _show() {
    const isActive = this.player?.isActive ?? false;
    const state = this.player?.state ?? "idle";
    Object.assign(this.node.dataset, { state, tap: this.tap, stretch: this._stretch.name });
    this._play.setAttribute("aria-label", `${isActive ? "Pause" : "Play"} ${this._label}`);
    fill(this._play, icon(isActive ? "pause" : "play"));
    for (const button of this._taps) button.setAttribute("aria-pressed", String(button.dataset.tap === this.tap));
    this._parts.forEach((button, index) => {
      button.setAttribute("aria-pressed", String(this._stretches[index] === this._stretch));
    });
    setText(this._error, this.player?.error?.message ?? "");
  }
}

/** The bar with the buttons of the A/B player. It shows state, tap and time as data attributes, too. */

import { announce, el, fill, icon, keepFocus, setText } from "./dom.js";
import { clock, duration } from "./format.js";

const NAMES = { PRE: "PRE", POST: "POST", DELTA: "Delta" };
const TITLES = {
  PRE: "As it arrived at the station (key a)",
  POST: "After the work of the station (key b)",
  DELTA: "What the station took away: PRE less the aligned POST (key d)",
};
const STATES = {
  idle: "Ready", loading: "Loading", playing: "Playing", paused: "Paused", ended: "At the end", error: "No sound",
};

/** Bar of one page; `attach` binds it to a player. */
export class PlayerBar {
  /**
   * @param {HTMLElement} root
   * @param {{seek: (t: number) => void, jump: (direction: number) => void, copy: () => void}} page
   */
  constructor(root, page) {
    this._root = root;
    this._player = null;
    this._play = el("button", { type: "button", class: "play", onclick: () => this._player.toggle() });
    this._taps = Object.keys(NAMES).map((tap) => el("button", {
      type: "button", class: `tap ${tap}`, title: TITLES[tap], "aria-pressed": "false", data: { tap },
      onclick: () => this._player.choose(tap),
    }, NAMES[tap]));
    this._position = el("input", {
      type: "range", class: "position", min: "0", step: "0.01", "aria-label": "Position in the call",
      oninput: () => page.seek(this._player.limits.start + Number(this._position.value)),
    });
    this._time = el("span", { class: "time" });
    this._clock = el("span", { class: "muted clock" });
    this._match = toggle(["Match", extra(" levels")], "The louder one is turned down (key m)",
      (isOn) => this._player.setMatched(isOn));
    this._loop = toggle("Loop", "Repeat the selection (key l)", (isOn) => this._player.setLooping(isOn));
    const about = "Copy a link to this moment (key c)";
    this._copy = el("button", { type: "button", class: "button", onclick: page.copy, title: about }, icon("link"),
      extra("Copy link"));
    this._download = el("a", { class: "button", download: "" }, icon("download"), extra("Download"));
    this._build(page);
    keepFocus(root);
  }

  _build(page) {
    const step = (name, direction, title) => el("button", {
      type: "button", class: "ghost", "aria-label": title, title, onclick: () => page.jump(direction),
    }, icon(name));
    this._note = el("p", { class: "player-note", hidden: true });
    const times = el("span", { class: "times" }, this._time, this._clock);
    fill(this._root, el("div", { class: "player-top" }, this._position, times), this._note,
      el("div", { class: "player-row" },
      el("div", { class: "player-main" },
        step("previous", -1, "Previous mark: knob change, loss or bad bucket (key [)"), this._play,
        step("next", 1, "Next mark: knob change, loss or bad bucket (key ])"),
        el("div", { class: "segmented", role: "group", "aria-label": "What is heard" }, this._taps)),
      el("div", { class: "player-tools" }, this._match, this._loop, this._copy, this._download,
        el("button", { type: "button", class: "button", id: "help", title: "Keys (key ?)" }, "Keys"))));
  }

  attach(player) {
    this._player = player;
    player.addEventListener("change", () => this._player === player && this.show());
    for (const button of this._taps) {
      const { tap } = button.dataset;
      button.hidden = tap === "DELTA" ? player.taps.length < 2 : !player.taps.includes(tap);
    }
    this.show();
  }

  /** Without the right to listen there are no sounds to offer. */
  setRoles(roles) {
    this._play.disabled = !roles.includes("listen");
    this._download.hidden = !roles.includes("download");
    if (this._play.disabled) this._say("You may see the numbers; listening needs a token with the role listen.");
  }

  setDownload(address, label) {
    if (this._download.getAttribute("href") === address) return;
    this._download.href = address;
    this._download.title = label;
  }

  /** Show that the link has been copied. */
  setCopied(isCopied) {
    setText(this._copy.lastChild, isCopied ? "Copied" : "Copy link");
    if (isCopied) announce("Link copied");
  }

  /** Show state and tap. */
  show() {
    const player = this._player;
    const isActive = player.isActive;
    Object.assign(this._root.dataset, { state: player.state, tap: player.tap, matched: player.isMatched });
    this._play.setAttribute("aria-label", isActive ? "Pause" : "Play");
    this._play.title = `${isActive ? "Pause" : "Play"} (space)`;
    if (this._play.dataset.icon !== String(isActive)) fill(this._play, icon(isActive ? "pause" : "play"));
    this._play.dataset.icon = isActive;
    for (const button of this._taps) button.setAttribute("aria-pressed", String(button.dataset.tap === player.tap));
    this._match.setAttribute("aria-pressed", String(player.isMatched));
    this._loop.setAttribute("aria-pressed", String(player.isLooping));
    this._position.max = player.limits.end - player.limits.start;
    this._say(player.error?.message ?? "");
    if (player.state !== "idle" && player.state !== "loading") {
      announce(`${STATES[player.state]} ${NAMES[player.tap]}${player.isMatched ? ", levels matched" : ""}`);
    }
    this.tick();
  }

  /** Show the time; cheap enough for every frame. */
  tick() {
    const { time, limits } = this._player;
    const since = time - limits.start;
    this._root.dataset.time = time.toFixed(3);
    if (document.activeElement !== this._position || !this._position.matches(":active")) this._position.value = since;
    setText(this._time, `${duration(since, 1)} / ${duration(limits.end - limits.start)}`);
    setText(this._clock, `${clock(time, 1)} UTC`);
    const spoken = `${duration(since)} of ${duration(limits.end - limits.start)}`;
    if (this._position.getAttribute("aria-valuetext") !== spoken) this._position.setAttribute("aria-valuetext", spoken);
  }

  _say(text) {
    this._note.hidden = !text;
    setText(this._note, text);
  }
}

/** Words that a narrow screen has no room for; a screen reader still reads them. */
const extra = (text) => el("span", { class: "is-extra" }, text);

function toggle(label, title, set) {
  const button = el("button", { type: "button", class: "button toggle", title, "aria-pressed": "false",
    onclick: () => set(button.getAttribute("aria-pressed") !== "true") }, el("span", {}, label));
  return button;
}

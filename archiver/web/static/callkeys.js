/** The keys of a call page. */

import { bucketRange } from "./timeline.js";

/** Return the table of keys that `page`, a CallPage, obeys. */
export function callKeys(page) {
  const key = (shown, help, run, keys = [shown.toLowerCase()]) => ({ keys, shown, help, run });
  const player = () => page.player;
  return [
    key("Space", "play or pause", () => player().toggle(), [" "]),
    key("A", "hear PRE", () => player().choose("PRE")),
    key("B", "hear POST", () => player().choose("POST")),
    key("D", "hear the delta: what the station took away", () => player().choose("DELTA")),
    key("M", "match the levels of PRE and POST", () => player().setMatched(!player().isMatched)),
    key("\u2190 \u2192", "back or on by one second",
      ({ key: name }) => page.step(name === "ArrowLeft" ? -1 : 1), ["ArrowLeft", "ArrowRight"]),
    key("Shift+\u2190 Shift+\u2192", "start of this or of the next bucket of five seconds",
      ({ key: name }) => page.stepBucket(name === "ArrowLeft" ? -1 : 1), ["Shift+ArrowLeft", "Shift+ArrowRight"]),
    key("[ ]", "previous or next mark: knob change, loss, bad bucket",
      ({ key: name }) => page.jump(name === "[" ? -1 : 1), ["[", "]"]),
    key("S", "select this bucket and play it", () => page.select(bucketRange(player().time))),
    key("L", "repeat the selection", () => player().setLooping(!player().isLooping)),
    key("Esc", "give up the selection", () => page.clearSelection(), ["Escape"]),
    key("C", "copy a link to this moment", () => void page.copyLink()),
    key("+", "zoom in", () => page.view.zoom(0.5, page.anchor()), ["+", "="]),
    key("\u2212", "zoom out", () => page.view.zoom(2, page.anchor()), ["-"]),
    key("Z", "show the selection, or this bucket", () => page.showRange()),
    key("0", "show the whole call", () => page.view.fit()),
  ];
}

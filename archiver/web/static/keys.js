/** Keys of a page, the list that explains them, and the switch that turns them off. */

import { byId, el, fill } from "./dom.js";

const OFF = "monitoring.keys-off";
const TYPING = "input:not([type=range]):not([type=checkbox]):not([type=radio]), select, textarea, dialog *";
const PRESSING = "button, a, summary, input[type=checkbox], input[type=radio]";
const NATIVE = new Set([" ", "Enter"]);

/**
 * Listen to keys.
 * @param {Array<{keys: string[], shown: string, help: string, run: (event: KeyboardEvent) => void}>} table
 *   `keys` as in KeyboardEvent.key, with "Shift+" before arrows; `shown` is how the help names them.
 */
export function bindKeys(table) {
  const dialog = makeHelp(table);
  const open = () => dialog.showModal();
  byId("help")?.addEventListener("click", open);
  const actions = new Map(table.flatMap(({ keys, run }) => keys.map((key) => [key, run])));
  actions.set("?", open);
  document.addEventListener("keydown", (event) => {
    const run = actions.get(nameOf(event));
    if (!run || isForeign(event)) return;
    event.preventDefault();
    run(event);
  });
}

/** Whether the key belongs to the browser, to a field, or to a button that has the focus. */
function isForeign(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return true;
  if (localStorage.getItem(OFF) === "1") return true;
  const { target } = event;
  if (!(target instanceof Element)) return false;
  return target.matches(TYPING) || (NATIVE.has(event.key) && target.matches(PRESSING));
}

function nameOf(event) {
  if (event.key.startsWith("Arrow") && event.shiftKey) return `Shift+${event.key}`;
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}

function makeHelp(table) {
  const rows = [...table, { shown: "?", help: "this list" }].map(({ shown, help }) => el("tr", {},
    el("td", {}, shown.split(" ").map((key) => el("kbd", {}, key))), el("td", {}, help)));
  const box = el("input", { type: "checkbox", onchange: () => localStorage.setItem(OFF, box.checked ? "0" : "1") });
  box.checked = localStorage.getItem(OFF) !== "1";
  const dialog = byId("keys");
  fill(dialog, el("h2", { id: "keys-title" }, "Keys"), el("table", { class: "keys" }, el("tbody", {}, rows)),
    el("label", { class: "check" }, box, "Keys are on"),
    el("form", { method: "dialog" }, el("button", { class: "button", autofocus: true }, "Close")));
  return dialog;
}

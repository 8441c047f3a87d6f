/** Small helpers to build and update the page. */

const SVG = "http://www.w3.org/2000/svg";

/** Outlines in a box of 16 by 16, by name. */
const ICONS = {
  play: "M4 2.5v11l9-5.5z",
  pause: "M4 2.5h3v11H4zM9 2.5h3v11H9z",
  previous: "M3 3h2v10H3zM13 3v10L6 8z",
  next: "M11 3h2v10h-2zM3 3l7 5-7 5z",
  close: "M4.2 3 3 4.2 6.8 8 3 11.8 4.2 13 8 9.2l3.8 3.8 1.2-1.2L9.2 8 13 4.2 11.8 3 8 6.8z",
  download: "M7 2h2v6h3l-4 4-4-4h3zM3 13h10v1.5H3z",
  link: "M6 4h1.6v1.6H5.8a2.4 2.4 0 0 0 0 4.8h1.8V12H5.8a4 4 0 0 1 0-8zM8.4 4h1.8a4 4 0 0 1 0 8H8.4"
    + "v-1.6h1.8a2.4 2.4 0 0 0 0-4.8H8.4zM5.5 7.2h5v1.6h-5z",
  loop: "M4 4h7a3 3 0 0 1 3 3v2h-1.6V7.2A1.6 1.6 0 0 0 10.8 5.6H5.5V8L2 4.8 5.5 1.6V4zM12 12H5a3 3 0 0 1"
    + "-3-3V7h1.6v1.8a1.6 1.6 0 0 0 1.6 1.6h5.3V8L14 11.2l-3.5 3.2V12z",
};

/**
 * Make an element.
 * @param {string} tag
 * @param {object} props `class`, `data` (an object), `onclick` and such, or any attribute; null, undefined
 *   and false leave it out.
 * @param {...(Node|string|number|null|undefined|false|Array)} children
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) setProperty(node, key, value);
  node.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function setProperty(node, key, value) {
  if (value === null || value === undefined || value === false) return;
  if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
  else if (key === "class") node.className = value;
  else if (key === "data") Object.assign(node.dataset, value);
  else node.setAttribute(key, value === true ? "" : String(value));
}

/** Return an icon for a button that has a name of its own: it says nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Replace what is in `node`. */
export function fill(node, ...children) {
  node.replaceChildren(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
}

export const byId = (id) => document.getElementById(id);

/** Set the text only where it differs: an unchanged label costs no layout. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Say something to a screen reader, politely. */
export function announce(text) {
  const region = byId("announcer");
  if (region) setText(region, text);
}

/** Show what went wrong, or hide the line again when `error` is null. */
export function showProblem(error) {
  const line = byId("problem");
  line.hidden = error === null;
  setText(line, error === null ? "" : error.message);
}

/** Return a function that runs `work` once, `ms` after its last call. */
export function debounce(work, ms) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(work, ms, ...values);
  };
}

/** Let a mouse click a button without moving the keyboard's focus to it, so that space stays play. */
export function keepFocus(container) {
  container.addEventListener("mousedown", (event) => {
    if (event.target.closest("button, label")) event.preventDefault();
  });
}

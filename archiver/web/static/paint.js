/** Colours and patterns on canvas. All colours stand in the style sheet, one set for light, one for dark. */

import { words } from "./format.js";

const NAMES = ["bg", "lane", "text", "muted", "line", "pre", "post", "delta", "loss", "still", "good", "fair", "poor"];
const DARK = matchMedia("(prefers-color-scheme: dark)");
const HATCH_PX = 7;
/** Levels from quiet to loud, as RGB: the eye reads lightness, so both rise evenly in it. */
const RAMPS = {
  dark: [[18, 20, 26], [43, 36, 92], [117, 47, 130], [203, 77, 107], [246, 155, 88], [253, 240, 194]],
  light: [[255, 255, 255], [224, 222, 240], [171, 166, 212], [112, 101, 172], [68, 49, 115], [28, 16, 56]],
};
/** The quietest and the loudest level that the ramp tells apart: -92 and -18 dBFS. */
const [FLOOR, CEILING] = [20, 209];

let cached = null;

/** Colours of the style sheet by name. */
export function colours() {
  if (cached === null) {
    const style = getComputedStyle(document.documentElement);
    cached = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    cached.ramp = ramp(DARK.matches ? RAMPS.dark : RAMPS.light);
    cached.hatches = new Map();
  }
  return cached;
}

/** Call `work` after the colours have changed between light and dark. */
export function onTheme(work) {
  DARK.addEventListener("change", () => {
    cached = null;
    work();
  });
}

/** Pixels of 256 levels, as they stand in an ImageData. */
function ramp(stops) {
  const pixels = new Uint32Array(256);
  const bytes = new Uint8Array(pixels.buffer);
  for (let level = 0; level < 256; level += 1) {
    const place = Math.min(1, Math.max(0, (level - FLOOR) / (CEILING - FLOOR))) * (stops.length - 1);
    const index = Math.min(stops.length - 2, Math.floor(place));
    for (let part = 0; part < 3; part += 1) {
      const [low, high] = [stops[index][part], stops[index + 1][part]];
      bytes[level * 4 + part] = Math.round(low + (high - low) * (place - index));
    }
    bytes[level * 4 + 3] = 255;
  }
  return pixels;
}

/** Slanted lines in a colour, for gaps. */
function hatch(context, colour, ratio) {
  const { hatches } = colours();
  if (!hatches.has(colour)) hatches.set(colour, context.createPattern(tile(colour, ratio), "repeat"));
  return hatches.get(colour);
}

function tile(colour, ratio) {
  const size = Math.round(HATCH_PX * ratio);
  const canvas = new OffscreenCanvas(size, size);
  const context = canvas.getContext("2d");
  context.strokeStyle = colour;
  context.lineWidth = 1.6 * ratio;
  context.beginPath();
  for (const shift of [-size, 0, size]) {
    context.moveTo(shift, size);
    context.lineTo(shift + size, 0);
  }
  context.stroke();
  return canvas;
}

/** Draw min to max of each pixel column. Quiet sound is drawn larger than in proportion, so that it shows. */
export function drawWave(context, { layers, view, width, height, colour, clipColour, ratio }) {
  for (let x = 0; x < width; x += 1) {
    const from = view.toTime(x, width);
    const to = view.toTime(x + 1, width);
    const layer = layers.findLast((one) => one.from <= from && one.to >= to) ?? layers[0];
    const [low, high] = extremes(layer, from, to);
    if (low > high) continue;
    const [top, bottom] = [middle(height, high), middle(height, low)];
    context.fillStyle = colour;
    context.fillRect(x, top, 1, Math.max(ratio, bottom - top));
    if (high >= 127 || low <= -127) {
      context.fillStyle = clipColour;
      if (high >= 127) context.fillRect(x, 0, ratio, 3 * ratio);
      if (low <= -127) context.fillRect(x, height - 3 * ratio, ratio, 3 * ratio);
    }
  }
}

function middle(height, value) {
  return height / 2 - Math.sign(value) * Math.min(1, Math.abs(value) / 127) ** 0.75 * (height / 2 - 1);
}

/** Smallest and largest sample of a stretch; the smallest is above the largest where there is no audio. */
function extremes(layer, from, to) {
  const scale = layer.columns / (layer.to - layer.from);
  const first = Math.max(0, Math.floor((from - layer.from) * scale + 1e-6));
  const last = Math.min(layer.columns, Math.max(first + 1, Math.floor((to - layer.from) * scale + 1e-6)));
  let [low, high] = [127, -128];
  for (let column = first; column < last; column += 1) {
    low = Math.min(low, layer.pairs[2 * column]);
    high = Math.max(high, layer.pairs[2 * column + 1]);
  }
  return [low, high];
}

/** Draw spectrograms, the coarse one first; each keeps its pixels in the present colours. */
export function drawSpectrogram(context, { layers, view, width, height }) {
  for (const layer of layers) {
    const image = pixels(layer);
    const scale = layer.columns / (layer.to - layer.from);
    const from = Math.max(view.from, layer.from);
    const to = Math.min(view.to, layer.to);
    if (to <= from) continue;
    const [left, right] = [view.toX(from, width), view.toX(to, width)];
    context.drawImage(
      image, (from - layer.from) * scale, 0, (to - from) * scale, layer.rows, left, 0, right - left, height);
  }
}

function pixels(layer) {
  const { ramp: levels } = colours();
  if (layer.image && layer.ramp === levels) return layer.image;
  const { rows, columns } = layer;
  const data = new ImageData(columns, rows);
  const target = new Uint32Array(data.data.buffer);
  for (let row = 0; row < rows; row += 1) {
    const start = (rows - 1 - row) * columns;
    for (let column = 0; column < columns; column += 1) {
      target[start + column] = levels[layer.levels[row * columns + column]];
    }
  }
  layer.image = new OffscreenCanvas(columns, rows);
  layer.image.getContext("2d").putImageData(data, 0, 0);
  layer.ramp = levels;
  return layer.image;
}

/** Draw gaps: loss hatched in red, everything else in grey, with its cause where there is room. */
export function drawGaps(context, { gaps, view, width, height, ratio }) {
  const { loss, still, lane } = colours();
  for (const gap of gaps) {
    if (gap.end <= view.from || gap.start >= view.to) continue;
    const [left, right] = [view.toX(gap.start, width), view.toX(gap.end, width)];
    const wide = Math.max(2 * ratio, right - left);
    context.fillStyle = lane;
    context.fillRect(left, 0, wide, height);
    const colour = gap.is_loss ? loss : still;
    context.fillStyle = wide < HATCH_PX * ratio ? colour : hatch(context, colour, ratio);
    context.fillRect(left, 0, wide, height);
    label(context, gap, Math.max(0, left), Math.min(width, left + wide), height, ratio);
  }
}

/** Write the cause between `left` and `right`, where it fits. */
function label(context, gap, left, right, height, ratio) {
  const { loss, muted, lane } = colours();
  const text = words(gap.cause);
  context.font = `${11 * ratio}px system-ui, sans-serif`;
  const wide = context.measureText(text).width + 8 * ratio;
  if (wide > right - left - 8 * ratio || height < 24 * ratio) return;
  const middleX = (left + right) / 2;
  context.fillStyle = lane;
  context.fillRect(middleX - wide / 2, height / 2 - 8 * ratio, wide, 16 * ratio);
  context.fillStyle = gap.is_loss ? loss : muted;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, middleX, height / 2);
}

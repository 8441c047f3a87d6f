/** What the registry says of each metric, and values as it wants them shown. Pages load it before they draw. */

import { getJson } from "./api.js";
import { NONE, number, percent } from "./format.js";

/** Units that are no words beside a number. */
const UNSAID = { bool: "", count: "", int16: "", percent: "%", ratio: "", score: "" };
/** Units of which a tenth is more than anybody hears: a column of them has one digit after the point. */
const TENTHS = ["dB", "dBFS", "LU", "LUFS"];
const SCORE = 100; // scores of 0 to 100 need no more either
const known = new Map();

/** Ask for the registry. */
export async function loadMetrics() {
  const { items } = await getJson("/metrics");
  for (const metric of items) known.set(metric.key, metric);
}

/** Whether values of this metric are shares of 1. */
export function isShare(key) {
  const { unit: name, low, high } = known.get(key) ?? {};
  return (name === "ratio" || name === "bool") && low === 0 && high === 1;
}

/** Whether values of this metric are levels, which have no lower end that anybody sees. */
export const isLevel = (key) => ["dBFS", "LUFS"].includes(known.get(key)?.unit);

/** Smallest and largest possible value: {low, high}. */
export function rangeOf(key) {
  const { low, high } = known.get(key) ?? {};
  return { low: low ?? -Infinity, high: high ?? Infinity };
}

/** Unit of a metric, "" where it has none. */
export function unit(key) {
  const name = known.get(key)?.unit ?? "";
  return isShare(key) ? "%" : UNSAID[name] ?? name;
}

/** Name of a metric in words: `pcm.rms_dbfs` is "RMS". */
export const metricName = (key) => known.get(key)?.title ?? key;

/** One sentence of what a metric is, after its key. */
export const meaning = (key) => [key, known.get(key)?.description].filter(Boolean).join(": ");

/** Value of a metric without its unit, as it stands in a table. */
export function plain(key, value) {
  if (value === null || value === undefined) return NONE;
  if (isShare(key)) return percent(value).replace(" %", "");
  const { unit: name, high } = known.get(key) ?? {};
  const isCoarse = TENTHS.includes(name) || (name === "score" && high === SCORE);
  return number(value, isCoarse ? 1 : null);
}

/** Value of a metric with its unit. */
export function measure(key, value) {
  const name = unit(key);
  return value === null || value === undefined || !name ? plain(key, value) : `${plain(key, value)} ${name}`;
}

/** Difference of two values of a metric, with a sign and without its unit. */
export function difference(key, before, after) {
  if (before === null || before === undefined || after === null || after === undefined) return NONE;
  const text = plain(key, after - before).replace("< ", "");
  if (Number(text) === 0) return "0";
  return after > before ? `+${text}` : text;
}

/** Numbers and times as people read them. Times are seconds since 1970; what is shown is UTC. */

export const BUCKET_S = 5;
export const TAPS = ["PRE", "POST"];
export const NONE = "\u2013";
const MINUS = "\u2212";
const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");

/** Seconds of an ISO time; null stays null. */
export const seconds = (iso) => (iso === null || iso === undefined ? null : Date.parse(iso) / 1000);

/** ISO time in UTC with milliseconds. */
export const iso = (t) => new Date(Math.round(t * 1000)).toISOString();

/** Start of the bucket that `t` lies in. */
export const bucketOf = (t) => Math.floor(t / BUCKET_S + 1e-6) * BUCKET_S;

/** Time of day: 18:05:03, with `digits` of a second. */
export function clock(t, digits = 0) {
  return iso(digits ? t : Math.floor(t + 1e-6)).slice(11, digits ? 20 + digits : 19);
}

/** Day: 3 Jan, with the year when it is not this one. */
export function day(t, now = Date.now() / 1000) {
  const date = new Date(t * 1000);
  const year = date.getUTCFullYear();
  const text = `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}`;
  return year === new Date(now * 1000).getUTCFullYear() ? text : `${text} ${year}`;
}

/** Length of time: 4:02 or 1:00:03, with `digits` of a second. */
export function duration(s, digits = 0) {
  if (s === null || s === undefined) return NONE;
  const unit = 10 ** digits;
  const all = Math.max(0, digits ? Math.floor(s * unit + 1e-4) / unit : Math.round(s));
  const [h, m] = [Math.floor(all / 3600), Math.floor(all / 60) % 60];
  const rest = (all % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return h ? `${h}:${String(m).padStart(2, "0")}:${rest}` : `${m}:${rest}`;
}

/** Short length of time: 90 ms, 4.0 s, 2:05. */
export function span(s) {
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  return s < 60 ? `${s.toFixed(1)} s` : duration(s);
}

/** A number with a true minus sign and as many digits as help. */
export function number(value, digits = null) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  const size = Math.abs(value);
  const places = digits ?? (Number.isInteger(value) || size >= 1000 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
  const text = size.toFixed(places);
  return value < 0 && Number(text) !== 0 ? MINUS + text : text;
}

/** A share as percent: 0, 0.02 %, 12 %. */
export function percent(share) {
  if (share === null || share === undefined) return NONE;
  const value = share * 100;
  const size = Math.abs(value);
  if (value > 0 && value < 0.01) return "< 0.01 %";
  return `${number(value, value === 0 ? 0 : size < 1 ? 2 : size < 10 ? 1 : 0)} %`;
}

/** Value of a knob: on and off for switches. */
export function knobValue(value) {
  if (value === true) return "on";
  if (value === false) return "off";
  if (value === null || value === undefined) return NONE;
  return typeof value === "number" ? number(value) : typeof value === "string" ? value : JSON.stringify(value);
}

/** Cause of a gap or name of a defect in words. */
export const words = (name) => name.replaceAll("_", " ");

/** How good a health score is, in one word, for colour and for people who do not see it. */
export function grade(score) {
  if (score === null || score === undefined) return "unknown";
  return score >= 85 ? "good" : score >= 60 ? "fair" : "poor";
}

/** Who called whom. */
export const parties = (call) => `${call.src_extension} \u2192 ${call.dst_extension ?? "?"}`;

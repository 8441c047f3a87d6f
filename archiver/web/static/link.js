/** Links to a moment of a call: `#t=2026-01-03T18:05:03.500Z&station=St_3_3333&tap=POST`. */

import { iso } from "./format.js";

const MOST_SECONDS = 1e8; // a smaller number counts from the start of the call

/**
 * Read a moment from the part of an address behind `#`.
 * @param {string} hash
 * @param {number} start Start of the call.
 * @returns {{t: number|null, end: number|null, station: string|null, tap: string|null}}
 */
export function parseMoment(hash, start) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const tap = (fields.get("tap") ?? "").toUpperCase();
  return {
    t: parseTime(fields.get("t"), start),
    end: parseTime(fields.get("end"), start),
    station: fields.get("station"),
    tap: ["PRE", "POST", "DELTA"].includes(tap) ? tap : null,
  };
}

function parseTime(text, start) {
  if (!text) return null;
  const value = /^[0-9.]+$/.test(text) ? Number(text) : Date.parse(text) / 1000;
  if (!Number.isFinite(value)) return null;
  return value < MOST_SECONDS ? start + value : value;
}

/** Return the part behind `#`; colons stay readable. */
export function formatMoment({ t, end = null, station, tap }) {
  const fields = [["t", iso(t)], ["end", end === null ? null : iso(end)], ["station", station], ["tap", tap]];
  return `#${fields.filter(([, value]) => value).map(([key, value]) => (
    `${key}=${encodeURIComponent(value).replaceAll("%3A", ":")}`)).join("&")}`;
}

/** Return the address of the page of a call, at a moment when one is given. */
export function callAddress(traceId, moment = null) {
  return `/call/${encodeURIComponent(traceId)}${moment ? formatMoment(moment) : ""}`;
}

export const knobAddress = (eventId) => `/knob/${encodeURIComponent(eventId)}`;

/** The server's answers: JSON, bytes, and what it says when it cannot. */

import { iso } from "./format.js";

const BASE = "/api/v1";

/** An answer that is no success; `message` is for people. */
export class Problem extends Error {
  /** @param {number} status HTTP status; 0: no answer at all. */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Return the answer to a GET; an aborted one rejects with an AbortError. */
export async function request(address, signal) {
  let response;
  try {
    response = await fetch(address, { signal, headers: { Accept: "application/json, */*" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server does not answer. Is `monitoring serve` running?");
  }
  if (response.status === 401) goToLogin();
  if (!response.ok) throw new Problem(response.status, await explanation(response));
  return response;
}

async function explanation(response) {
  const problem = await response.json().catch(() => ({}));
  return problem.detail || problem.title || `The server answered ${response.status}.`;
}

function goToLogin() {
  const here = location.pathname + location.search + location.hash;
  if (location.pathname !== "/login") location.assign(`/login?next=${encodeURIComponent(here)}`);
}

function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(key, value);
  }
  const text = query.toString();
  return text ? `${BASE}${path}?${text}` : BASE + path;
}

/** Return parsed JSON of an address of the API. */
export async function getJson(path, parameters = {}, signal = undefined) {
  return (await request(address(path, parameters), signal)).json();
}

/** Return bytes and headers of an address of the API. */
export async function getBytes(path, parameters, signal) {
  const response = await request(address(path, parameters), signal);
  return { bytes: await response.arrayBuffer(), headers: response.headers };
}

/** Return all items of a list that comes in pages, up to `most`. */
export async function getAll(path, parameters = {}, most = 5000) {
  const items = [];
  let cursor = null;
  do {
    const page = await getJson(path, { ...parameters, cursor });
    items.push(...page.items);
    cursor = page.next ?? null;
  } while (cursor && items.length < most);
  return items;
}

/** Path of one call in the API. */
export const tracePath = (traceId) => `/traces/${encodeURIComponent(traceId)}`;

/**
 * Address of the sound of a stretch of time.
 * @param {{traceId: string, station: string}} where
 * @param {"PRE"|"POST"|"DELTA"} tap
 */
export function soundAddress(where, tap, from, to, isDownload = false) {
  const parts = [where.traceId, where.station, `${tap === "DELTA" ? "delta" : tap}.wav`];
  const query = new URLSearchParams({ from: iso(from), to: iso(to) });
  if (isDownload) query.set("download", "1");
  return `/audio/${parts.map(encodeURIComponent).join("/")}?${query}`;
}

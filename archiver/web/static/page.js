/** What all pages have: the line that says how far the archive is, and what the caller may do. */

import { getJson } from "./api.js";
import { byId, setText } from "./dom.js";
import { clock, seconds } from "./format.js";

const LATE_S = 60;

/**
 * Fill the footer.
 * @returns {Promise<{roles: string[], retention_hours: number|null}>} All roles when it is unknown: the
 *   server decides anyway.
 */
export async function pageStatus() {
  try {
    const status = await getJson("/status");
    setText(byId("status"), describe(status));
    warn(status);
    return status;
  } catch (error) {
    setText(byId("status"), error.message);
    return { roles: ["numbers", "listen", "download"], retention_hours: null };
  }
}

function describe(status) {
  const until = seconds(status.complete_until);
  const parts = [
    until === null ? "nothing archived yet" : `complete until ${clock(until)} UTC`,
    `${status.active_calls} ${status.active_calls === 1 ? "call" : "calls"} running`,
    `kept for ${status.retention_hours} h`,
    `version ${status.version}`,
  ];
  return parts.join(" \u00b7 ");
}

function warn(status) {
  const line = byId("notice");
  const late = status.behind_s ?? 0;
  const text = !status.audio_path_ok
    ? "The folder with the sound cannot be read: numbers only. `monitoring doctor` says why."
    : late > LATE_S ? `The archive is ${Math.round(late)} s behind; newer numbers and sound will come.` : "";
  line.hidden = !text;
  setText(line, text);
}

/** Run `work` every `ms` while somebody can see the page; at once when it is seen again. */
export function whileVisible(work, ms) {
  let timer = 0;
  let isWorking = false;
  const step = async () => {
    clearTimeout(timer);
    if (document.hidden || isWorking) return;
    isWorking = true;
    await work();
    isWorking = false;
    timer = setTimeout(step, ms);
  };
  document.addEventListener("visibilitychange", step);
  step();
}

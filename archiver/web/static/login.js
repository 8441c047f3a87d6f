/** Exchange a token for a cookie, and go on where the reader came from. */

import { byId, showProblem } from "./dom.js";

/** The page to go on to: one of ours, whatever the address says. */
function next() {
  const wanted = new URL(new URLSearchParams(location.search).get("next") ?? "/", location.origin);
  return wanted.origin === location.origin ? wanted.pathname + wanted.search + wanted.hash : "/";
}

const REFUSED = "This token is not known, has expired, or was revoked.";

if (new URLSearchParams(location.search).has("failed")) showProblem(new Error(REFUSED));

byId("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const response = await fetch("/login", { method: "POST", body: new URLSearchParams(new FormData(event.target)) });
    if (response.ok) {
      location.assign(next());
      return;
    }
    const problem = await response.json().catch(() => ({}));
    showProblem(new Error(response.status === 401 ? REFUSED : problem.detail || "The server refused."));
  } catch {
    showProblem(new Error("The server does not answer."));
  }
  byId("token").select();
});

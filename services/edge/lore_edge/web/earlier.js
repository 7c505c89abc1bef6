/** "Asked in this browser": this browser's conversations, and which of them are no longer kept. */

import { BASE } from "./base.js";
import { element } from "./draw.js";
import * as history from "./history.js";

const byId = (id) => document.getElementById(id);
/** The most requests that an edge lists; if it lists that many, there may be more. */
const LISTED = 100;

/**
 * @param {(question: string) => void} onAsk gets the question of an answer that is gone
 * @param {{ids: Set<string>, note: string}} [gone]
 */
export function showHistory(onAsk, gone = { ids: new Set(), note: "" }) {
  const list = history.entries();
  byId("history").hidden = list.length === 0;
  byId("history-list").replaceChildren(
    ...list.map((entry) => (gone.ids.has(entry.id) ? goneLine(entry, gone.note, onAsk) : line(entry))),
  );
}

function line({ id, title }) {
  const link = element("a", [title]);
  link.href = `#${id}`;
  return element("li", [link]);
}

function goneLine({ title, question }, note, onAsk) {
  const again = element("button", ["Ask again"]);
  again.type = "button";
  again.setAttribute("aria-label", `Ask again: ${title}`);
  again.addEventListener("click", () => onAsk(question ?? title));
  const said = element("p", [element("span", [title], "title"), element("span", [note], "note")]);
  return element("li", [said, again], "gone");
}

/**
 * Find out which answers are no longer kept. Never asks for a key.
 *
 * @param {object|null} credentials
 * @returns {Promise<{ids: Set<string>, note: string}|null>}
 */
export async function lookForGone(credentials) {
  const before = history.entries(); // without conversations that are begun meanwhile
  if (!before.length || (credentials && !credentials.areThere)) return null;
  const kept = await listed(credentials);
  const ids = new Set(before.map(({ id }) => id).filter((id) => kept && !kept.has(id)));
  const note = credentials ? "no longer kept, or asked with another key" : "no longer kept";
  return ids.size ? { ids, note } : null;
}

async function listed(credentials) {
  try {
    const headers = (await credentials?.headers()) ?? {};
    const response = await fetch(`${BASE}/v1/streams?limit=${LISTED}`, { headers, cache: "no-store" });
    const { streams } = await response.json();
    return response.ok && streams.length < LISTED ? new Set(streams.map(({ request_id: id }) => id)) : null;
  } catch {
    return null;
  }
}

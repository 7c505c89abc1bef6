/** The questions asked in this browser: ids and titles, kept here and nowhere else. */

import { load, save } from "./storage.js";

const KEY = "lore.history";
const MAX_ENTRIES = 50;
const MAX_TITLE_CHARS = 200;

/** @returns {{id: string, title: string}[]} the newest first */
export function entries() {
  return load(KEY, []);
}

export function titleOf(id) {
  return entries().find((entry) => entry.id === id)?.title;
}

export function remember(id, question) {
  const line = question.replace(/\s+/g, " ").trim();
  const title = line.length > MAX_TITLE_CHARS ? `${line.slice(0, MAX_TITLE_CHARS - 1)}…` : line;
  const others = entries().filter((entry) => entry.id !== id);
  save(KEY, [{ id, title }, ...others].slice(0, MAX_ENTRIES));
}

export function clear() {
  save(KEY, []);
}

/** The conversations of this browser: ids and first questions, kept here and nowhere else. */

import { titleOf } from "./conversation.js";
import { load, save } from "./storage.js";

const KEY = "lore.history";
const MAX_ENTRIES = 50;
const MAX_QUESTION_CHARS = 20_000;

/**
 * @typedef {object} Entry
 * @property {string} id of the conversation's last request
 * @property {string} title
 * @property {string} [question] the first question, in full unless it is very long
 * @property {string} [last] the last question, if it is another
 */

/** @returns {Entry[]} the newest first */
export function entries() {
  return load(KEY, []);
}

/** The question of an answer, as far as it is known here. */
export function questionOf(id) {
  const { question = "", last = question } = entries().find((entry) => entry.id === id) ?? {};
  return last;
}

/**
 * @param {string} id
 * @param {string[]} questions of the conversation, in order
 * @param {string|null} before the request that this one follows or replaces
 */
export function remember(id, questions, before) {
  const [first] = questions;
  const last = questions.at(-1);
  const entry = { id, title: titleOf(first) };
  if (first.length <= MAX_QUESTION_CHARS) entry.question = first;
  if (last !== first && last.length <= MAX_QUESTION_CHARS) entry.last = last;
  const others = entries().filter((other) => other.id !== id && other.id !== before);
  save(KEY, [entry, ...others].slice(0, MAX_ENTRIES));
}

export function clear() {
  save(KEY, []);
}

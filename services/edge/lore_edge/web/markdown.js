/**
 * Parses Markdown into markdown-it's tokens, with rules for answers about programming.
 *
 * HTML stays text, links lead only to the web, and there are no images. The nesting is bounded; deeper
 * markup stays text, so nothing that was written is left out.
 */

import { findMath } from "./math.js";
import MarkdownIt from "./vendor/markdown-it.js";

/** A quote counts once, a list twice (the list and its item). */
const MAX_DEPTH = 16;
const MAX_COLUMNS = 20;
/** `__init__` is a name and stays as it is, with or without backticks. */
const DUNDER = /__[A-Za-z]\w{0,60}__(?!\w)/y;

// markdown-it drops blocks at maxNesting; the rule `deep` keeps the nesting below it.
const markdown = new MarkdownIt({ html: false, breaks: true, linkify: true, maxNesting: MAX_DEPTH + 4 });
// Blocks are drawn while text still arrives, so none may depend on text far away. Four spaces do
// not make code: models indent carelessly, and put code into fences.
markdown.disable(["image", "reference", "code"]);
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false, fuzzyIP: false });
markdown.validateLink = leadsToWeb;
markdown.block.ruler.before("table", "deep", deep);
markdown.block.ruler.before("table", "wide", wide);
findMath(markdown);
markdown.inline.ruler.before("emphasis", "dunder", dunder);
markdown.inline.ruler2.after("balance_pairs", "close_strong", closeStrong);
markdown.core.ruler.at("inline", inlines);

/**
 * @param {string} source
 * @param {boolean} growing more text follows: markup that is open at its end counts as closed there
 * @returns {object[]} markdown-it's tokens
 */
export function parse(source, growing = false) {
  const ended = source.slice(source.trimEnd().length).split("\n").length > 2; // by a blank line
  return markdown.parse(source, { growing: growing && !ended });
}

/** Links lead only to the web: no `javascript:`, no `data:`, no relative paths. */
export function leadsToWeb(target) {
  return /^https?:\/\/[^/]/i.test(target);
}

/** Makes one paragraph of what is nested deeper than MAX_DEPTH. */
function deep(state, startLine, endLine, silent) {
  if (state.level < MAX_DEPTH || silent) return false;
  paragraph(state, startLine, endLine);
  return true;
}

/** Makes a paragraph of a table head with too many columns. */
function wide(state, startLine, endLine, silent) {
  if (silent || startLine + 1 >= endLine) return false;
  const rule = line(state, startLine + 1);
  if (!/^[\s|:-]+$/.test(rule) || rule.split("|").length <= MAX_COLUMNS + 2) return false;
  paragraph(state, startLine, startLine + 2);
  return true;
}

const line = (state, at) => state.src.slice(state.bMarks[at] + state.tShift[at], state.eMarks[at]);

function paragraph(state, startLine, endLine) {
  state.push("paragraph_open", "p", 1).map = [startLine, endLine];
  const text = state.push("inline", "", 0);
  text.content = state.getLines(startLine, endLine, state.blkIndent, false).trim();
  text.map = [startLine, endLine];
  text.children = [];
  state.push("paragraph_close", "p", -1);
  state.line = endLine;
}

function dunder(state, silent) {
  if (state.src[state.pos] !== "_") return false;
  DUNDER.lastIndex = state.pos;
  const [name] = DUNDER.exec(state.src) ?? [];
  if (!name) return false;
  if (!silent) state.pending += name;
  state.pos += name.length;
  return true;
}

/** The core rule that parses inline text. Only the last one of a growing text is still open. */
function inlines({ md, env, tokens }) {
  const last = env.growing ? tokens.findLast(({ type }) => !type.endsWith("_close")) : null;
  for (const token of tokens) {
    if (token.type !== "inline") continue;
    const open = token === last;
    const content = open ? closeCode(token.content) : token.content;
    md.inline.parse(content, md, { open }, token.children);
  }
}

/** Closes the first code span that is open. */
function closeCode(text) {
  const runs = [...text.matchAll(/\\[^]|`+/g)].map(([run]) => run);
  const left = new Map();
  for (const run of runs) left.set(run, (left.get(run) ?? 0) + 1);
  let inside = null;
  for (const run of runs) {
    left.set(run, left.get(run) - 1);
    if (run === inside) inside = null;
    else if (run[0] === "`" && inside === null) {
      if (!left.get(run)) return closeRun(text, run);
      inside = run;
    }
  }
  return text;
}

/** Not directly behind other backticks; and a run at the end of the text opens nothing yet. */
const closeRun = (text, run) => {
  if (text.endsWith(run) && text.indexOf(run) === text.length - run.length) return text;
  return text + (text.endsWith("`") ? " " : "") + run;
};

/** Closes each open `**`, the innermost first. */
function closeStrong(state) {
  if (!state.env.open) return;
  const { delimiters } = state;
  const open = [];
  for (let i = 0; i < delimiters.length; i += 1) {
    const [one, other] = [delimiters[i], delimiters[i + 1]];
    if (one.end >= 0) i = one.end;
    else if (isOpenPair(one, other)) open.push(i++);
  }
  for (const i of open.reverse()) {
    for (const at of [i + 1, i]) {
      const { marker } = delimiters[at];
      state.push("text", "", 0).content = String.fromCharCode(marker);
      const token = state.tokens.length - 1;
      delimiters[at].end = delimiters.push({ marker, length: 2, token, end: -1, open: false, close: true }) - 1;
    }
  }
}

function isOpenPair(one, other) {
  return other && one.open && other.open && other.end < 0 && one.marker === other.marker &&
    "*_".includes(String.fromCharCode(one.marker)) && other.token === one.token + 1;
}

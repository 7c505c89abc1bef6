/**
 * Markdown to plain data: the part of CommonMark that answers about programming use.
 *
 * Blocks: {type: "paragraph" | "heading" | "code" | "list" | "quote" | "table" | "rule"}.
 * Inline: {type: "text" | "code" | "strong" | "em" | "link" | "break"}.
 * HTML is text here. `snake_case`, `__init__` and `$HOME` stay as they are, with or
 * without backticks around them, for they are what such answers speak of.
 */

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*))?$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(\s+|$)/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

/**
 * @param {string} source
 * @param {boolean} growing the text goes on: markup still open at its end counts as closed there
 * @returns {{block: object, start: number}[]} the blocks, each with the offset it starts at
 */
export function parse(source, growing = false) {
  const lines = source.split("\n");
  const offsets = [];
  let offset = 0;
  for (const line of lines) {
    offsets.push(offset);
    offset += line.length + 1;
  }
  return blocks(lines, growing).map(({ block, line }) => ({ block, start: offsets[line] }));
}

function blocks(lines, growing) {
  const found = [];
  let i = 0;
  while (i < lines.length) {
    if (!lines[i].trim()) {
      i += 1;
      continue;
    }
    const read = [...INTERRUPTING, paragraph].find((one) => one.fits(lines, i));
    const [block, next] = read(lines, i, growing);
    found.push({ block, line: i });
    i = next;
  }
  return found;
}

const children = (lines, growing) => blocks(lines, growing).map(({ block }) => block);

function code(lines, at) {
  const [, indent, fence, info] = FENCE.exec(lines[at]);
  const close = new RegExp(`^ {0,3}${fence[0]}{${fence.length},}\\s*$`);
  const strip = new RegExp(`^ {0,${indent.length}}`);
  const text = [];
  let i = at + 1;
  while (i < lines.length && !close.test(lines[i])) text.push(lines[i++].replace(strip, ""));
  const language = info.trim().split(/\s+/)[0];
  return [{ type: "code", language, text: text.join("\n") }, i + 1];
}
code.fits = (lines, at) => FENCE.test(lines[at]);

function heading(lines, at, growing) {
  const [, marks, text = ""] = HEADING.exec(lines[at]);
  const title = text.trimEnd().replace(/(^|\s)#+$/, "");
  const content = inline(title, growing && at === lines.length - 1);
  return [{ type: "heading", level: marks.length, content }, at + 1];
}
heading.fits = (lines, at) => HEADING.test(lines[at]);

function rule(lines, at) {
  return [{ type: "rule" }, at + 1];
}
rule.fits = (lines, at) => RULE.test(lines[at]);

function quote(lines, at, growing) {
  let i = at;
  while (i < lines.length && QUOTE.test(lines[i])) i += 1;
  const inside = lines.slice(at, i).map((line) => line.replace(QUOTE, ""));
  return [{ type: "quote", blocks: children(inside, growing && i === lines.length) }, i];
}
quote.fits = (lines, at) => QUOTE.test(lines[at]);

/** Items of one kind; what is indented under a marker belongs to its item, blank lines or not. */
function list(lines, at, growing) {
  const ordered = /\d/.test(ITEM.exec(lines[at])[2]);
  const start = ordered ? parseInt(ITEM.exec(lines[at])[2], 10) : null;
  const items = [];
  let i = at;
  while (i < lines.length && startsItem(lines[i], ordered)) {
    const [marker] = ITEM.exec(lines[i]);
    const width = Math.min(marker.length, marker.trimEnd().length + 4);
    const item = [lines[i].slice(width)];
    i += 1;
    while (i < lines.length && (belongs(lines, i, width) || continues(lines, i, item))) {
      item.push(lines[i].replace(new RegExp(`^ {0,${width}}`), ""));
      i += 1;
    }
    const last = i >= lines.length;
    while (item.length > 1 && !item.at(-1).trim()) item.pop();
    items.push(children(item, growing && last));
    const next = nextFilled(lines, i);
    if (next < lines.length && startsItem(lines[next], ordered)) i = next;
  }
  return [{ type: "list", ordered, start, items }, i];
}
list.fits = (lines, at) => ITEM.test(lines[at]);

function startsItem(line, ordered) {
  const match = ITEM.exec(line);
  return match !== null && /\d/.test(match[2]) === ordered && !RULE.test(line);
}

/** Indented under the marker. One space less than it is forgiven: models count badly. */
function belongs(lines, at, width) {
  const next = nextFilled(lines, at);
  if (next === lines.length) return false;
  return lines[next].search(/\S/) >= Math.max(2, width - 1);
}

/** A line that goes on with the item's paragraph though it is not indented. */
function continues(lines, at, item) {
  return item.at(-1).trim() !== "" && lines[at].trim() !== "" && !interrupts(lines, at);
}

function nextFilled(lines, at) {
  while (at < lines.length && !lines[at].trim()) at += 1;
  return at;
}

function table(lines, at, growing) {
  const rows = [];
  let i = at + 2;
  while (i < lines.length && lines[i].includes("|")) i += 1;
  const open = growing && i === lines.length;
  for (const line of [lines[at], ...lines.slice(at + 2, i)]) {
    const cells = line.trim().replace(/^\||\|$/g, "").split(/(?<!\\)\|/);
    rows.push(cells.map((cell) => inline(cell.trim().replace(/\\\|/g, "|"), open)));
  }
  return [{ type: "table", head: rows[0], rows: rows.slice(1) }, i];
}
table.fits = (lines, at) =>
  lines[at].includes("|") && at + 1 < lines.length && lines[at + 1].includes("|") &&
  TABLE_RULE.test(lines[at + 1]);

function paragraph(lines, at, growing) {
  let i = at + 1;
  while (i < lines.length && lines[i].trim() && !interrupts(lines, i)) i += 1;
  const text = lines.slice(at, i).map((line) => line.trimStart()).join("\n").trimEnd();
  return [{ type: "paragraph", content: inline(text, growing && i === lines.length) }, i];
}
paragraph.fits = () => true;

/** The blocks that end a paragraph, in the order in which they are tried. */
const INTERRUPTING = [code, heading, rule, quote, list, table];
const interrupts = (lines, at) => INTERRUPTING.some((one) => one.fits(lines, at));

// Inline

const CODE = /^(`+)([^]*?[^`])\1(?!`)/;
const LINK_TEXT = /^\[((?:[^[\]\\]|\\.)*)\]/;
const LINK_TARGET = /^\(\s*<?([^\s()<>]+(?:\([^\s()]*\)[^\s()<>]*)*)>?(?:\s+"[^"]*")?\s*\)/;
const URL_TEXT = /^https?:\/\/[^\s<>"'`\])]+[^\s<>"'`\]).,;:!?]/;
/** Emphasis that has not closed by then is none; it bounds the search for where it closes. */
const MAX_EMPHASIS_CHARS = 2000;
const PLAIN = /^[^\\`*_[\nh]+/;

/** @returns {object[]} inline nodes of `text` */
export function inline(text, growing = false) {
  const nodes = [];
  const add = (node) => {
    const last = nodes.at(-1);
    if (node.type === "text" && last?.type === "text") last.text += node.text;
    else nodes.push(node);
  };
  let at = 0;
  while (at < text.length) {
    const rest = text.slice(at);
    const [node, length] =
      escaped(rest) ?? codeSpan(rest, growing) ?? emphasis(rest, text[at - 1], growing) ??
      link(rest) ?? address(rest, text[at - 1]) ?? lineBreak(rest) ?? plain(rest);
    add(node);
    at += length;
  }
  return nodes;
}

function plain(rest) {
  const text = PLAIN.exec(rest)?.[0] ?? rest[0];
  return [{ type: "text", text }, text.length];
}

function escaped(rest) {
  if (rest[0] !== "\\" || !/^[!-/:-@[-`{-~]/.test(rest[1] ?? "")) return null;
  return [{ type: "text", text: rest[1] }, 2];
}

function codeSpan(rest, growing) {
  if (rest[0] !== "`") return null;
  const match = CODE.exec(rest);
  const ticks = /^`+/.exec(rest)[0];
  if (match) {
    const text = match[2].replace(/\n/g, " ").replace(/^ (.*\S.*) $/, "$1");
    return [{ type: "code", text }, match[0].length];
  }
  if (growing && rest.length > ticks.length) {
    return [{ type: "code", text: rest.slice(ticks.length) }, rest.length];
  }
  return [{ type: "text", text: ticks }, ticks.length];
}

function emphasis(rest, before = " ", growing) {
  const mark = /^(\*\*|__|\*|_)(?=[^\s])/.exec(rest)?.[1];
  if (!mark || (mark[0] === "_" && /\w/.test(before))) return null;
  const end = closing(rest, mark);
  if (end === -1 && !growing) return null;
  const inside = end === -1 ? rest.slice(mark.length) : rest.slice(mark.length, end);
  if (mark.length === 1 && end === -1) return null;
  if (mark === "__" && /^\w+$/.test(inside)) return null;
  const type = mark.length === 2 ? "strong" : "em";
  const length = end === -1 ? rest.length : end + mark.length;
  return [{ type, content: inline(inside, growing && end === -1) }, length];
}

/** Where `mark` closes in `rest`, stepping over code spans and escapes; -1 when it does not. */
function closing(rest, mark) {
  let at = mark.length;
  while (at < Math.min(rest.length, MAX_EMPHASIS_CHARS)) {
    if (rest[at] === "\\") {
      at += 2;
    } else if (rest[at] === "`") {
      at += CODE.exec(rest.slice(at))?.[0].length ?? /^`+/.exec(rest.slice(at))[0].length;
    } else if (rest.startsWith(mark, at) && at > mark.length && /\S/.test(rest[at - 1])) {
      const run = new RegExp(`^\\${mark[0]}+`).exec(rest.slice(at))[0].length;
      const after = rest[at + run] ?? " ";
      const wordGoesOn = mark[0] === "_" && /\w/.test(after);
      if (!wordGoesOn && (run === mark.length || run === 3)) return at + run - mark.length;
      at += run;
    } else {
      at += 1;
    }
  }
  return -1;
}

function link(rest) {
  const text = LINK_TEXT.exec(rest);
  const target = text && LINK_TARGET.exec(rest.slice(text[0].length));
  if (!target) return null;
  const href = safeHref(target[1]);
  const content = inline(text[1]);
  const node = href ? { type: "link", href, content } : { type: "text", text: text[1] };
  return [node, text[0].length + target[0].length];
}

function address(rest, before = " ") {
  const text = /\w/.test(before) ? null : URL_TEXT.exec(rest)?.[0];
  const href = text ? safeHref(text) : null;
  return href ? [{ type: "link", href, content: [{ type: "text", text }] }, text.length] : null;
}

/** Links lead to the web and nowhere else: no `javascript:`, no `data:`, no relative paths. */
function safeHref(target) {
  try {
    const url = new URL(target);
    return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
  } catch {
    return null;
  }
}

function lineBreak(rest) {
  return rest[0] === "\n" ? [{ type: "break" }, 1] : null;
}

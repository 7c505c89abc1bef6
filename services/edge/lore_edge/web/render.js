/**
 * The view of a growing text. It formats one window of the text at a time, from the last block that
 * can still change, so drawing costs the same however long the text and its blocks are.
 */

import { draw, element } from "./draw.js";
import { parse } from "./markdown.js";

/** A block longer than this is formatted in pieces. */
const MAX_WINDOW_CHARS = 1800;
/** How many lines at the start of a block are repeated for each further piece of it. */
const HEAD_LINES = { fence: 1, table_open: 2 };
/** Blocks are put into groups, because a browser lays out again what stands beside a new element. */
const MAX_PART_BLOCKS = 60;
/** A browser lays out a table as a whole, so a longer one becomes several, each with the head. */
const MAX_ROWS = 100;
/** Pieces of these are separate elements in a row; pieces of code share one element. */
const FOLLOWING = new Set(["OL", "UL", "BLOCKQUOTE"]);
const BLOCKS = new Set(["P", "H3", "H4", "H5", "H6", "UL", "OL", "LI", "BLOCKQUOTE"]);

export class MarkdownView {
  /**
   * @param {HTMLElement} root an empty element, which this view then owns
   * @param {object} [tools] draws code and math (tools.js); without it both are text
   */
  constructor(root, tools = {}) {
    this.#root = root;
    this.#tools = tools;
  }

  #root;
  #tools;
  #settled = 0;
  /** What the next window may still change: blocks, or additions to one. */
  #fresh = [];
  /** Whether the text after #settled continues a block; #head has the lines that it needs for that. */
  #goesOn = false;
  #head = "";
  /** What the code of that block leaves open: a comment, or a string over several lines. */
  #open = null;
  /** The element in which the text continues. A CSS rule with :has() would find it slowly. */
  #end = null;

  /**
   * Draws one window, no more than a browser lays out within a frame.
   *
   * @param {string} text the whole text so far: that of the last call, and more
   * @param {boolean} growing whether more will come
   * @returns {boolean} whether all of it is drawn; if not, show it again in the next frame
   */
  show(text, growing) {
    const end = windowEnd(text, this.#settled);
    const isLast = end === text.length;
    const blocks = this.#format(text.slice(this.#settled, end), growing && isLast);
    this.#replace(blocks);
    // The last block may grow, and its first line may still turn out to continue the block before.
    if (isLast) this.#settle(blocks, blocks.length - 2);
    else if (blocks.length > 1) this.#settle(blocks, blocks.length - 1);
    else this.#settlePiece(text, end, blocks[0]);
    this.#markEnd();
    return isLast;
  }

  /** The window's blocks, drawn. Text that cannot be formatted is shown as it is. */
  #format(source, growing) {
    try {
      const blocks = split(this.#head + source, parse(this.#head + source, growing));
      for (const block of blocks) {
        block.start = Math.max(0, block.start - this.#head.length);
        const state = { open: block === blocks[0] ? this.#open : null };
        block.node = draw(block.tokens, this.#tools, state);
        block.open = state.open;
      }
      return blocks;
    } catch (error) {
      console.warn("Shown without formatting:", error);
      return [{ start: 0, tokens: [], items: [], node: element("p", [source], "plain") }];
    }
  }

  #replace(blocks) {
    for (const node of this.#fresh) node.remove();
    if (this.#root.lastChild?.childNodes.length === 0) this.#root.lastChild.remove();
    this.#fresh = [];
    for (const block of blocks) {
      const joins = this.#goesOn && block === blocks[0];
      block.nodes = joins ? this.#join(block) : [block.node];
      if (!joins) this.#place(block.node);
      this.#fresh.push(...block.nodes);
    }
  }

  #place(node) {
    let part = this.#root.lastChild;
    if (!part || part.childNodes.length >= MAX_PART_BLOCKS) {
      part = element("div", [], "part");
      this.#root.append(part);
    }
    part.append(node);
  }

  /** Draws a further piece of the last block. Returns the nodes that this added. */
  #join({ tokens, node }) {
    if (this.#head && tokens.length && isEmpty(tokens)) return [];
    const before = this.#root.lastChild?.lastChild;
    const isSame = node.tagName === before?.tagName;
    if (isSame && FOLLOWING.has(node.tagName)) {
      node.className = "goes-on";
      if (node.tagName === "OL") node.start = before.start + before.childNodes.length;
    }
    const inside = isSame && goOnInside(before, node);
    if (!inside) this.#place(node);
    return inside || [node];
  }

  #markEnd() {
    this.#end?.classList.remove("end");
    let node = this.#root.lastChild?.lastChild;
    while (BLOCKS.has(node?.lastChild?.tagName) || isCode(node?.lastChild)) node = node.lastChild;
    this.#end = isCode(node) ? preOf(node).lastChild : node;
    this.#end?.classList.add("end");
  }

  /** The first `count` blocks can no longer change. */
  #settle(blocks, count) {
    if (count < 1) return;
    this.#settled += blocks[count].start;
    this.#fresh = blocks.slice(count).flatMap(({ nodes }) => nodes);
    this.#goesOn = false;
    this.#head = "";
    this.#open = null;
  }

  /** The window's part of a block that is longer than the window can no longer change. */
  #settlePiece(text, end, block) {
    const cut = block?.items.length ? this.#settled + block.items.at(-1) : end;
    if (cut < end) this.#replace(this.#format(text.slice(this.#settled, cut), false));
    const [first] = block?.tokens ?? [];
    this.#goesOn = isOpen(first);
    if (!this.#goesOn) this.#head = "";
    else this.#head ||= firstLines(text.slice(this.#settled + block.start, end), HEAD_LINES[first.type]);
    this.#open = this.#goesOn && first.type === "fence" ? block.open : null;
    this.#settled = cut;
    this.#fresh = [];
  }
}

const isCode = (node) => node?.className === "code";
const preOf = (block) => block.childNodes[0];

/** Moves the content of `piece` into the element that it continues: code, or rows of a short table. */
function goOnInside(before, piece) {
  const goesOn = isCode(piece) && isCode(before);
  const [into, from] = [before, piece].map((one) => (goesOn ? preOf(one) : one.lastChild?.lastChild));
  const isRoomy = into?.tagName === "TBODY" && into.childNodes.length < MAX_ROWS;
  if (!goesOn && !isRoomy) return null;
  const nodes = [...from.childNodes];
  into.append(...nodes);
  return nodes;
}

/** The end of the window that begins at `start`: of the text, a line, a word, or where it is full. */
function windowEnd(text, start) {
  const full = start + MAX_WINDOW_CHARS;
  if (text.length <= full) return text.length;
  const filled = text.slice(start, full);
  const cut = Math.max(filled.lastIndexOf("\n"), filled.lastIndexOf("\r", filled.length - 2)) + 1;
  if (cut > 0) return start + cut;
  return start + (filled.lastIndexOf(" ") + 1 || filled.replace(/[\ud800-\udbff\r]$/, "").length);
}

/** The tokens of each top-level block, with the offsets of the block and of its items in `source`. */
function split(source, tokens) {
  const lines = [0, ...[...source.matchAll(/\r\n?|\n/g)].map(({ index, 0: end }) => index + end.length)];
  const blocks = [];
  for (const token of tokens) {
    if (token.level === 0 && token.nesting !== -1) {
      blocks.push({ start: lines[token.map[0]], tokens: [], items: [] });
    }
    const block = blocks.at(-1);
    block.tokens.push(token);
    if (token.type === "list_item_open" && token.level === 1 && token.map[0] > block.tokens[0].map[0]) {
      block.items.push(lines[token.map[0]]);
    }
  }
  return blocks;
}

/** Whether the block may continue after the part that was parsed. */
function isOpen(token) {
  if (token?.type !== "fence") return token !== undefined;
  const [from, to] = token.map;
  return token.content.split("\n").length === to - from; // otherwise its last line closes it
}

/** A further piece of code without text, or of a table without rows. */
const isEmpty = (tokens) =>
  tokens[0].type === "fence" ? !tokens[0].content : !tokens.some(({ type }) => type === "tbody_open");

const firstLines = (text, count = 0) =>
  new RegExp(`^(?:[^\\r\\n]*(?:\\r\\n?|\\n)){${count}}`).exec(text)?.[0] ?? "";

/**
 * Turns markdown-it's tokens into DOM. All text becomes text nodes, so an answer cannot inject markup.
 */

import { leadsToWeb } from "./markdown.js";

/** Deeper elements are left out; their text goes into the element around them. */
const MAX_DEPTH = 40;
const TASK = /^\[([ xX])\] /;
const HEADINGS = { h1: "h3", h2: "h4", h3: "h5", h4: "h6", h5: "h6", h6: "h6" };
/** The only elements that markup may open. The question is an h2, so headings start below it. */
const TAGS = new Map([
  ...["p", "ul", "ol", "li", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "strong", "em", "s", "a"]
    .map((tag) => [tag, tag]),
  ...Object.entries(HEADINGS),
]);

/**
 * @param {object[]} tokens of one block
 * @param {object} [tools] draws code and math (tools.js); without it both are text
 * @param {{open: object|null}} [state] what code leaves open between its pieces
 * @returns {HTMLElement} the block
 */
export function draw(tokens, tools = {}, state = { open: null }) {
  const drawing = new Drawing(tools, state);
  for (const token of tokens) {
    if (token.type === "inline") token.children.forEach((child) => drawing.add(child));
    else drawing.add(token);
  }
  return drawing.root;
}

export function element(name, content = [], className = "") {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...content);
  return node;
}

class Drawing {
  root = null;
  #tools;
  #state;
  /** The open elements. One that is left out is represented by the one around it. */
  #open = [{ append: (node) => (this.root = node) }];

  constructor(tools, state) {
    this.#tools = tools;
    this.#state = state;
  }

  add(token) {
    if (token.hidden) return; // the paragraph of an item in a tight list
    if (token.nesting === 1) this.#enter(token);
    else if (token.nesting === -1) this.#open.pop();
    else this.#open.at(-1).append(...this.#task(token), this.#leaf(token));
  }

  /** The checkbox of a task, where an item begins with one. */
  #task(token) {
    const [around, item] = [this.#open.at(-1), this.#open.at(-2)];
    const begins = around.childNodes?.length === 0 && (around.tagName === "LI" || item?.childNodes?.length === 1);
    const [mark, done] = (begins && token.type === "text" && TASK.exec(token.content)) || [];
    const list = around.tagName === "P" ? item : around;
    if (!mark || list?.tagName !== "LI") return [];
    token.content = token.content.slice(mark.length);
    list.className = "has-task";
    const box = element("span", [], done === " " ? "task" : "task done");
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", done === " " ? "to do:" : "done:");
    return [box];
  }

  #leaf(token) {
    switch (token.type) {
      case "fence":
        return drawCode(token, this.#tools, this.#state);
      case "code_inline":
        return element("code", [token.content]);
      case "math_inline":
        return this.#tools.math?.(token.meta, token.content) ?? document.createTextNode(token.content);
      case "math_block":
        return element("p", [this.#tools.math?.(token.meta, token.content) ?? token.content]);
      case "softbreak":
      case "hardbreak":
        return element("br");
      case "hr":
        return element("hr");
      default:
        return document.createTextNode(token.content);
    }
  }

  #enter(token) {
    const around = this.#open.at(-1);
    const tag = TAGS.get(token.tag);
    const href = tag === "a" ? token.attrGet("href") : null;
    const leftOut = !tag || this.#open.length > MAX_DEPTH || (tag === "a" && !leadsToWeb(href));
    if (leftOut) return this.#open.push(around);
    const node = element(tag);
    if (tag === "a") lead(node, href);
    if (tag === "ol") node.start = token.attrGet("start") ?? 1;
    if (tag === "th" || tag === "td") node.style.textAlign = alignment(token);
    around.append(tag === "table" ? element("div", [node], "table") : node);
    return this.#open.push(node);
  }
}

/** Code with a copy button (answer.js). Its label is in the style: it is no part of the answer. */
function drawCode({ content, info }, tools, state) {
  const text = content.replace(/\n$/, "");
  const code = element("code");
  if (tools.code) state.open = tools.code(code, text, info.trim(), state.open);
  else code.append(text);
  const pre = element("pre", [code]);
  pre.tabIndex = 0; // A wide block scrolls, and must also scroll by keyboard.
  const button = element("button", [], "copy");
  button.type = "button";
  button.setAttribute("aria-label", "Copy code");
  const block = element("div", [pre, button], "code");
  if (info.trim()) block.dataset.language = info.trim();
  return block;
}

function lead(link, href) {
  link.href = href;
  link.rel = "noopener noreferrer nofollow";
  link.target = "_blank";
}

/** The alignment, which markdown-it gives as a style attribute that the CSP would refuse. */
function alignment(token) {
  return /^text-align:(left|center|right)$/.exec(token.attrGet("style") ?? "")?.[1] ?? "";
}

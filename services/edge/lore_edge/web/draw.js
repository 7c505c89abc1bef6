/**
 * markdown-it's tokens to DOM. Every text goes in as a text node, so an answer cannot inject markup.
 */

import { leadsToWeb } from "./markdown.js";

/** Deeper elements are left out, and their text stands in the one around them. */
const MAX_DEPTH = 40;
const HEADINGS = { h1: "h2", h2: "h3", h3: "h4", h4: "h5", h5: "h6", h6: "h6" };
/** The only elements that markup opens. The page's own h1 is the question, so headings start below it. */
const TAGS = new Map([
  ...["p", "ul", "ol", "li", "blockquote", "table", "thead", "tbody", "tr", "th", "td", "strong", "em", "s", "a"]
    .map((tag) => [tag, tag]),
  ...Object.entries(HEADINGS),
]);

/** @returns {HTMLElement} what the tokens of one block mean */
export function draw(tokens) {
  const drawing = new Drawing();
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
  /** The elements that are open; one that is left out is represented by the one around it. */
  #open = [{ append: (node) => (this.root = node) }];

  add(token) {
    if (token.hidden) return; // the paragraph of a tight list's item
    if (token.nesting === 1) this.#enter(token);
    else if (token.nesting === -1) this.#open.pop();
    else this.#open.at(-1).append(leaf(token));
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

function leaf(token) {
  switch (token.type) {
    case "fence":
      return drawCode(token);
    case "code_inline":
      return element("code", [token.content]);
    case "softbreak":
    case "hardbreak":
      return element("br");
    case "hr":
      return element("hr");
    default:
      return document.createTextNode(token.content);
  }
}

function drawCode({ content, info }) {
  const pre = element("pre", [element("code", [content.replace(/\n$/, "")])]);
  pre.tabIndex = 0; // A wide block scrolls, and must scroll by keyboard too.
  if (info.trim()) pre.dataset.language = info.trim();
  return pre;
}

function lead(link, href) {
  link.href = href;
  link.rel = "noopener noreferrer nofollow";
  link.target = "_blank";
}

/** markdown-it gives it as a style attribute, which the CSP would refuse. */
function alignment(token) {
  return /^text-align:(left|center|right)$/.exec(token.attrGet("style") ?? "")?.[1] ?? "";
}

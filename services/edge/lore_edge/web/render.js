/**
 * Markdown data to DOM. Every text goes in as a text node, so an answer cannot inject markup.
 */

import { parse } from "./markdown.js";

/** Shows a text that grows, redrawing only what its growth can still change. */
export class MarkdownView {
  /** @param {HTMLElement} root an empty element, which this view then owns */
  constructor(root) {
    this.#root = root;
  }

  #root;
  #settled = 0;
  #settledCount = 0;

  /**
   * @param {string} text the whole text so far: the one given before, and more
   * @param {boolean} growing whether more will come
   */
  show(text, growing) {
    const found = parse(text.slice(this.#settled), growing);
    while (this.#root.childNodes.length > this.#settledCount) this.#root.lastChild.remove();
    this.#root.append(...found.map(({ block }) => drawBlock(block)));
    // The last block grows, and its first line may yet turn out to continue the one before.
    const kept = found.at(-2);
    if (kept) {
      this.#settled += kept.start;
      this.#settledCount += found.length - 2;
    }
  }
}

function element(name, content = [], className = "") {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...content);
  return node;
}

function drawBlock(block) {
  switch (block.type) {
    case "heading":
      // The page's own h1 is the question, so the answer starts below it.
      return element(`h${Math.min(6, block.level + 1)}`, block.content.map(drawInline));
    case "code":
      return drawCode(block);
    case "list":
      return drawList(block);
    case "quote":
      return element("blockquote", block.blocks.map(drawBlock));
    case "table":
      return drawTable(block);
    case "rule":
      return element("hr");
    default:
      return element("p", block.content.map(drawInline));
  }
}

function drawCode({ language, text }) {
  const pre = element("pre", [element("code", [text])]);
  pre.tabIndex = 0; // A wide block scrolls, and must scroll by keyboard too.
  if (language) pre.dataset.language = language;
  return pre;
}

function drawList({ ordered, start, items }) {
  const list = element(ordered ? "ol" : "ul", items.map(drawItem));
  if (ordered && start !== 1) list.start = start;
  return list;
}

/** An item that is one paragraph is drawn without it, tight. */
function drawItem(blocks) {
  const [first, ...others] = blocks;
  if (first?.type !== "paragraph") return element("li", blocks.map(drawBlock));
  return element("li", [...first.content.map(drawInline), ...others.map(drawBlock)]);
}

function drawTable({ head, rows }) {
  const row = (cells, name) =>
    element("tr", cells.map((cell) => element(name, cell.map(drawInline))));
  const table = element("table", [
    element("thead", [row(head, "th")]),
    element("tbody", rows.map((cells) => row(cells, "td"))),
  ]);
  return element("div", [table], "table");
}

function drawInline(node) {
  switch (node.type) {
    case "text":
      return document.createTextNode(node.text);
    case "code":
      return element("code", [node.text]);
    case "break":
      return element("br");
    case "link": {
      const link = element("a", node.content.map(drawInline));
      link.href = node.href;
      link.rel = "noopener noreferrer nofollow";
      link.target = "_blank";
      return link;
    }
    default:
      return element(node.type, node.content.map(drawInline));
  }
}

import assert from "node:assert/strict";
import { test } from "node:test";

import { inline, parse } from "../../../services/edge/lore_edge/web/markdown.js";
import { random } from "./random.js";

/** The parsed text in one line: what is what, briefly. */
const inlines = (nodes) => nodes.map(one).join("");
const all = (found) => found.map(one).join(" ");
function one(node) {
  if (node.type === "text") return node.text;
  if (node.type === "code") return `code(${[node.language, node.text].filter(Boolean).join(":")})`;
  if (node.type === "link") return `link(${node.href})[${inlines(node.content)}]`;
  if (node.type === "list") return `${node.start ?? "-"}<${node.items.map(all).join("|")}>`;
  if (node.type === "table") {
    return `table[${[node.head, ...node.rows].map((row) => row.map(inlines).join("|")).join("/")}]`;
  }
  return `${node.type}${node.level ?? ""}[${node.blocks ? all(node.blocks) : inlines(node.content ?? [])}]`;
}
const read = (source, growing) => all(parse(source, growing).map(({ block }) => block));

const CASES = [
  ["one\ntwo\n\nthree", "paragraph[onebreak[]two] paragraph[three]"],
  ["# Title\ntext\n### `x` #", "heading1[Title] paragraph[text] heading3[code(x)]"],
  ["#hashtag", "paragraph[#hashtag]"],
  ["**bold**, *soft* and ***both***", "paragraph[strong[bold], em[soft] and strong[em[both]]]"],
  ["**a *b* c**", "paragraph[strong[a em[b] c]]"],
  ["2 * 3 * 4, snake_case_name, __init__, $HOME and $PATH", null],
  ["**never closed\n\nnext", "paragraph[**never closed] paragraph[next]"],
  ["\\*stars\\* and `\\*`", "paragraph[*stars* and code(\\*)]"],
  ["``a`b`` and ` ` `", "paragraph[code(a`b) and code( ) `]"],
  ["```py\nif a:\n    b\n\n# c\n```\nafter", "code(py:if a:\n    b\n\n# c) paragraph[after]"],
  ["```\nopen **still", "code(open **still)"],
  ["~~~\n```\n~~~", "code(```)"],
  ["- a\n- b\n  - c\n- d", "-<paragraph[a]|paragraph[b] -<paragraph[c]>|paragraph[d]>"],
  ["1. a\n\n2. b\n\nafter", "1<paragraph[a]|paragraph[b]> paragraph[after]"],
  ["1. a\n   ```js\n   x()\n   ```\n2. b", "1<paragraph[a] code(js:x())|paragraph[b]>"],
  ["1. a\n\n```js\nx\n```\n\n2. b", "1<paragraph[a]> code(js:x) 2<paragraph[b]>"],
  ["- one\ngoes on\n\nafter", "-<paragraph[onebreak[]goes on]> paragraph[after]"],
  ["> said\n> so", "quote[paragraph[saidbreak[]so]]"],
  ["a\n\n---\n* * *", "paragraph[a] rule[] rule[]"],
  ["| a | b |\n|---|:-:|\n| `1` | 2 |", "table[a|b/code(1)|2]"],
  ["a | b, said she", null],
  ["[here](https://a.example/x_(y)) now", "paragraph[link(https://a.example/x_(y))[here] now]"],
  ["see https://a.example/b.", "paragraph[see link(https://a.example/b)[https://a.example/b].]"],
  ["<b onclick=x>hi</b> &lt;", null],
];

for (const [source, expected] of CASES) {
  test(`reads ${JSON.stringify(source)}`, () => {
    assert.equal(read(source), expected ?? `paragraph[${source}]`);
  });
}

for (const target of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "//a.example", "/x"]) {
  test(`a link to ${target} is its text alone`, () => {
    const nodes = inline(`[x](${target})`);
    assert.ok(nodes.every(({ type }) => type === "text"), JSON.stringify(nodes));
  });
}

test("while the text grows, open emphasis and code count as closed at its end", () => {
  assert.equal(read("a **bo", true), "paragraph[a strong[bo]]");
  assert.equal(read("a `co", true), "paragraph[a code(co)]");
  assert.equal(read("**bo\n\nnext", true), "paragraph[**bo] paragraph[next]");
});

// The view redraws only the end of a growing text. Here it draws into a stand-in for the DOM.

class Node {
  childNodes = [];
  dataset = {};
  constructor(name) {
    this.name = name;
  }
  append(...nodes) {
    for (const node of nodes) {
      this.childNodes.push(node);
      if (node instanceof Node) node.parent = this;
    }
  }
  get lastChild() {
    return this.childNodes.at(-1);
  }
  remove() {
    this.parent.childNodes.splice(this.parent.childNodes.indexOf(this), 1);
  }
  toString() {
    return `<${this.name} ${this.href ?? ""}>${this.childNodes.join("")}</>`;
  }
}

globalThis.document = { createElement: (name) => new Node(name), createTextNode: (text) => text };
const { MarkdownView } = await import("../../../services/edge/lore_edge/web/render.js");

const PIECES = [
  "word", " ", " ", "\n", "\n", "\n\n", "#", "# ", "*", "**", "_", "`", "```", "```py\n", "- ", "  ",
  "   ", "1. ", "> ", "|", "---", "|-|-|\n", "[a](", "https://a.example/b", ")", "\\", "<b>", "é漢🙂",
];

test("a text drawn as it grew looks the same as one drawn at once", () => {
  for (let seed = 0; seed < 1500; seed += 1) {
    const { below, pick } = random(seed);
    const source = Array.from({ length: 3 + below(60) }, () => pick(PIECES)).join("");
    const grown = new Node("root");
    const view = new MarkdownView(grown);
    for (let at = 1; at < source.length; at += 1 + below(4)) view.show(source.slice(0, at), true);
    view.show(source, false);
    const whole = new Node("root");
    new MarkdownView(whole).show(source, false);
    assert.equal(String(grown), String(whole), `seed ${seed}: ${JSON.stringify(source)}`);
  }
});

test("a long text costs no more to grow at its end than at its start", () => {
  const parsed = [];
  const view = new MarkdownView({ childNodes: [], append: (...nodes) => parsed.push(nodes.length) });
  let text = "";
  for (let i = 0; i < 200; i += 1) view.show((text += `paragraph ${i}\n\n`), true);
  assert.ok(Math.max(...parsed) <= 3, `redrew ${Math.max(...parsed)} blocks at once`);
});
